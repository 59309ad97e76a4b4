// The posterior of one image over a plane of two latent dimensions, and what a Gaussian in its place costs. All by decoding
// codes: `costs(codes, count, image)` gives -log p(x | z) of the image for each of them.

const REACH = 4.5, COARSE = 61; // of the whole plane, and cells along its side
const CELLS = 49; // along a side of the square that is shown
const CLOSEST = 4; // how often it is looked at a smaller square
const OUTSIDE = 1e-4; // of the posterior may lie outside of it
const NODES = [[-3.889724897869782, 2.65855168435630e-7], [-3.020637025120890, 8.57368704358785e-5], [-2.279507080501060, 3.90539058462906e-3],
  [-1.597682635152605, 5.16079856158839e-2], [-0.947788391240164, 0.260492310264161], [-0.314240376254359, 0.570135236262480]]; // Hermite's
const LOG_TWO_PI_2D = Math.log(2 * Math.PI);

// Where a Gaussian is looked at to integrate over it, in standard deviations, and with which weights: 12 by 12 places.
const QUADRATURE = (() => {
  const line = NODES.flatMap(([x, w]) => [[x, w], [-x, w]]).map(([x, w]) => [x * Math.SQRT2, w / Math.sqrt(Math.PI)]);
  return line.flatMap(([x, v]) => line.map(([y, w]) => [x, y, v * w]));
})();

// The centres of the cells of a square, x running first, as codes (n * n * 2).
function centres(corner, side, n) {
  return Float32Array.from({ length: 2 * n * n }, (_, i) => {
    const cell = i >> 1, along = i % 2 ? Math.floor(cell / n) : cell % n;
    return corner[i % 2] + ((along + 0.5) * side) / n;
  });
}

function logSumExp(values) {
  let most = -Infinity, sum = 0;
  for (const value of values) most = Math.max(most, value);
  for (const value of values) sum += Math.exp(value - most);
  return most + Math.log(sum);
}

// log p(x, z) for codes and their costs.
const joint = (codes, costs) => Float64Array.from(costs, (cost, i) =>
  -cost - 0.5 * (codes[2 * i] ** 2 + codes[2 * i + 1] ** 2) - LOG_TWO_PI_2D);

// A Gaussian is { mean: [2], logVar: [2] }. What it costs: nll, kl, and the derivatives of their sum, from the same codes.
function terms(gaussian, costs, image) {
  const { mean, logVar } = gaussian, sigma = logVar.map((v) => Math.exp(v / 2));
  const codes = Float32Array.from({ length: 2 * QUADRATURE.length }, (_, i) => mean[i % 2] + sigma[i % 2] * QUADRATURE[i >> 1][i % 2]);
  const nlls = costs(codes, QUADRATURE.length, image), byMean = [mean[0], mean[1]];
  const byLogVar = logVar.map((v) => 0.5 * (Math.exp(v) - 1));
  let nll = 0;
  QUADRATURE.forEach((node, i) => {
    nll += node[2] * nlls[i];
    for (let d = 0; d < 2; d += 1) {
      byMean[d] += (node[2] * nlls[i] * node[d]) / sigma[d];
      byLogVar[d] += 0.5 * node[2] * nlls[i] * (node[d] ** 2 - 1);
    }
  });
  const kl = mean.reduce((sum, m, d) => sum + 0.5 * (m * m + Math.exp(logVar[d]) - 1 - logVar[d]), 0);
  return { nll, kl, byMean, byLogVar };
}

// One step down the cost, the longest of a few that leads down, with means in units of their variances; null where none does.
function descended(gaussian, costs, image) {
  const before = terms(gaussian, costs, image);
  for (const rate of [0.5, 0.25, 0.1, 0.03]) {
    const next = {
      mean: gaussian.mean.map((m, d) => m - rate * Math.exp(gaussian.logVar[d]) * before.byMean[d]),
      logVar: gaussian.logVar.map((v, d) => v - rate * clamp(before.byLogVar[d], -2, 2)),
    };
    const after = terms(next, costs, image);
    if (after.nll + after.kl < before.nll + before.kl) return { gaussian: next, gain: before.nll + before.kl - after.nll - after.kl };
  }
  return null;
}

// A grid is a square of the plane with log p(x, z) in its cells: { corner: [2], side, n, values: (n * n) }.

// log p(x), the sum over a grid that holds the posterior.
const integral = ({ side, n, values }) => logSumExp(values) + 2 * Math.log(side / n);

// The square around the posterior's mass in a grid, with a cell to spare, and around a Gaussian if there is one.
function squareAround({ corner, side, n, values }, gaussian) {
  const width = side / n, shares = [new Float64Array(n), new Float64Array(n)], all = logSumExp(values);
  values.forEach((value, i) => {
    const share = Math.exp(value - all);
    shares[0][i % n] += share;
    shares[1][Math.floor(i / n)] += share;
  });
  const low = [0, 1].map((d) => corner[d] + (shares[d].findIndex((s) => s > OUTSIDE) - 1) * width);
  const high = [0, 1].map((d) => corner[d] + (shares[d].findLastIndex((s) => s > OUTSIDE) + 2) * width);
  if (gaussian) {
    gaussian.mean.forEach((m, d) => {
      const reach = 3 * Math.exp(gaussian.logVar[d] / 2);
      [low[d], high[d]] = [Math.min(low[d], m - reach), Math.max(high[d], m + reach)];
    });
  }
  const larger = Math.max(high[0] - low[0], high[1] - low[1]);
  return { corner: [0, 1].map((d) => (low[d] + high[d] - larger) / 2), side: larger };
}

// The Gaussian with the moments of the cells around the highest peak.
function peakGaussian({ corner, side, n, values }) {
  const top = values.reduce((best, value, i) => (value > values[best] ? i : best), 0), codes = centres(corner, side, n);
  const sums = [0, 0, 0, 0, 0];
  values.forEach((value, i) => {
    const [x, y] = [codes[2 * i], codes[2 * i + 1]], share = Math.exp(value - values[top]);
    if (Math.hypot(x - codes[2 * top], y - codes[2 * top + 1]) > Math.max(side / 8, 0.15)) return;
    [share, share * x, share * y, share * x * x, share * y * y].forEach((term, k) => { sums[k] += term; });
  });
  const mean = [sums[1] / sums[0], sums[2] / sums[0]];
  return { mean, logVar: [0, 1].map((d) => Math.log(Math.max(sums[3 + d] / sums[0] - mean[d] ** 2, 1e-6))) };
}
