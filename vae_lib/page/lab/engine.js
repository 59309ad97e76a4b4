// A variational auto-encoder of dense layers that learns: arrays, layers, likelihoods, Adam, and the bounds of log p(x).
// It knows nothing of the page and runs in a worker, in the page itself, or anywhere else.

// ---- Chance ------------------------------------------------------------------------------------------------

// Numbers that follow from a seed alone: sfc32 (Doty-Humphrey), and normal ones by Box and Muller.
class Chance {
  constructor(seed) {
    this.a = 0; this.b = 0; this.c = seed | 0; this.d = 1;
    this.spare = null;
    for (let i = 0; i < 12; i += 1) this.whole();
  }

  whole() {
    const t = (this.a + this.b + this.d) | 0;
    this.d = (this.d + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + t | 0;
    return t >>> 0;
  }

  uniform() { return (this.whole() + 0.5) / 4294967296; }

  normal() {
    if (this.spare !== null) {
      const value = this.spare;
      this.spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(this.uniform())), angle = 2 * Math.PI * this.uniform();
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  shuffle(array) {
    for (let i = array.length - 1; i > 0; i -= 1) {
      const j = Math.floor(this.uniform() * (i + 1));
      [array[i], array[j]] = [array[j], array[i]];
    }
    return array;
  }
}

// ---- Layers ------------------------------------------------------------------------------------------------

const ROOT_TWO_PI = Math.sqrt(2 * Math.PI), LOG_TWO_PI = Math.log(2 * Math.PI);

// GELU in place of `values`, and its derivative in `slope`.
function gelu(values, slope) {
  for (let i = 0; i < values.length; i += 1) {
    const x = values[i], e = Math.exp(-0.5 * x * x), cdf = 0.5 * (1 + erfWith(x * Math.SQRT1_2, e));
    values[i] = x * cdf;
    slope[i] = cdf + (x * e) / ROOT_TWO_PI;
  }
}

// A dense layer, (B, K) to (B, N), with its gradients. Weights are (N, K); all sizes are multiples of 4.
class Dense {
  constructor(net, K, N, active) {
    const { memory, rows } = net;
    Object.assign(this, { memory, K, N, active });
    this.weights = net.parameter(N * K);
    this.bias = net.parameter(N);
    this.out = memory.array(rows * N);
    this.slope = memory.array(rows * N);
    this.turnedWeights = memory.array(N * K);
    this.turnedIn = memory.array(K * rows);
    this.turnedOut = memory.array(N * rows);
    this.gradientIn = memory.array(rows * K);
  }

  forward(input, B) {
    const { N, K, out, bias } = this;
    this.memory.product(input, this.weights.value, B, N, K, out);
    for (let b = 0, i = 0; b < B; b += 1) for (let n = 0; n < N; n += 1, i += 1) out[i] += bias.value[n];
    if (this.active) gelu(out.subarray(0, B * N), this.slope);
    return out;
  }

  // From the loss' gradient with respect to `out`, which is overwritten, to those of the weights and of the input.
  backward(gradient, input, B, wantsInput = true) {
    const { N, K, slope, memory } = this;
    if (this.active) for (let i = 0; i < B * N; i += 1) gradient[i] *= slope[i];
    transpose(gradient, B, N, this.turnedOut);
    transpose(input, B, K, this.turnedIn);
    memory.product(this.turnedOut, this.turnedIn, N, K, B, this.weights.gradient);
    for (let n = 0; n < N; n += 1) {
      let sum = 0;
      for (let b = n * B, end = b + B; b < end; b += 1) sum += this.turnedOut[b];
      this.bias.gradient[n] = sum;
    }
    if (!wantsInput) return null;
    transpose(this.weights.value, N, K, this.turnedWeights);
    memory.product(gradient, this.turnedWeights, B, K, N, this.gradientIn);
    return this.gradientIn;
  }
}

// ---- Likelihoods -------------------------------------------------------------------------------------------
// `nll` is -log p(x | out) of the pixels of one image, from i to end, with its derivative with respect to `out` in `slope`.
// `linear` says the same as a line in x, so that many codes meet many images in one product: log p(x | out) = x * slope -
// offset - base(x). It leaves the slope in `slope` and returns the offset.

// log C of the continuous Bernoulli's constant C = l / tanh(l / 2), and its derivative; a series where l is small.
function logConstant(l) {
  if (Math.abs(l) < 0.1) return [Math.LN2 + (l * l) / 12 - (7 * l ** 4) / 1440, l / 6 - (7 * l ** 3) / 360];
  return [Math.log(l / Math.tanh(l / 2)), 1 / l - 1 / Math.sinh(l)];
}

const LIKELIHOODS = {
  bernoulli: {
    nll(x, out, slope, i, end) {
      let nll = 0;
      for (; i < end; i += 1) {
        const l = out[i], e = Math.exp(-Math.abs(l));
        nll += Math.max(l, 0) + Math.log1p(e) - x[i] * l;
        slope[i] = (l < 0 ? e : 1) / (1 + e) - x[i];
      }
      return nll;
    },
    linear(out, slope, i, end) {
      let offset = 0;
      for (; i < end; i += 1) offset += softplus(slope[i] = out[i]);
      return offset;
    },
    base: () => 0,
    mean: sigmoid,
  },
  continuous_bernoulli: { // the density of grey values that belongs to their cross-entropy
    nll(x, out, slope, i, end) {
      let nll = 0;
      for (; i < end; i += 1) {
        const l = out[i], [log, derivative] = logConstant(l);
        nll += softplus(l) - x[i] * l - log;
        slope[i] = sigmoid(l) - x[i] - derivative;
      }
      return nll;
    },
    linear(out, slope, i, end) {
      let offset = 0;
      for (; i < end; i += 1) offset += softplus(slope[i] = out[i]) - logConstant(out[i])[0];
      return offset;
    },
    base: () => 0,
    mean: (l) => (Math.abs(l) < 0.1 ? 0.5 + l / 12 - (l * l * l) / 720 : 0.5 + 0.5 / Math.tanh(0.5 * l) - 1 / l),
  },
  gaussian: { // one standard deviation for all pixels, learned as its logarithm
    nll(x, out, slope, i, end, net) {
      const logSigma = net.logSigma.value[0], precision = Math.exp(-2 * logSigma), count = end - i;
      let squares = 0;
      for (; i < end; i += 1) {
        const error = out[i] - x[i];
        squares += error * error;
        slope[i] = error * precision;
      }
      net.sigmaSlope = count - squares * precision;
      return 0.5 * squares * precision + count * (logSigma + 0.5 * LOG_TWO_PI);
    },
    linear(out, slope, i, end, net) {
      const precision = Math.exp(-2 * net.logSigma.value[0]);
      let offset = 0;
      for (; i < end; i += 1) offset += 0.5 * out[i] * (slope[i] = precision * out[i]);
      return offset;
    },
    base(x, i, end, net) {
      return this.nll(x, new Float32Array(end), new Float32Array(end), i, end, net);
    },
    mean: (m) => m,
  },
};

// ---- The model ---------------------------------------------------------------------------------------------

// What makes a loss wrong: each is one line of `Net.step`.
const BUGS = ["none", "kl-mean", "kl-sign", "nll-mean", "sigma", "no-gradient", "double-sigmoid"];
const BETA_1 = 0.9, BETA_2 = 0.999, EPSILON = 1e-7;

class Net {
  // `rows` is the largest batch. Images are rows of `width` numbers, the pixels and zeros that fill them up.
  constructor({ inputs, hidden, latent, likelihood = "bernoulli", seed = 0, rows = 256, simd = true }) {
    const width = up(inputs), dim = up(latent), units = up(hidden);
    Object.assign(this, { inputs, width, latent, dim, units, likelihood: LIKELIHOODS[likelihood], rows: up(rows) });
    const sizes = [[width, units], [units, 2 * dim], [dim, units], [units, width]];
    const weights = sizes.reduce((sum, [K, N]) => sum + K * N, 0), all = sizes.reduce((sum, [, N]) => sum + N, weights + 4);
    const work = sizes.reduce((sum, [K, N]) => sum + this.rows * (2 * K + 3 * N), weights);
    this.memory = new Memory(4 * all + work + this.rows * (2 * width + 3 * dim + this.rows), { simd });
    const array = (n) => this.memory.array(n);
    Object.assign(this, { values: array(all), gradients: array(all), first: array(all), second: array(all), used: 0 });
    this.layers = sizes.map(([K, N], i) => new Dense(this, K, N, i % 2 === 0));
    this.logSigma = this.parameter(4);
    Object.assign(this, { x: array(this.rows * width), outSlope: array(this.rows * width), z: array(this.rows * dim) });
    Object.assign(this, { headSlope: array(this.rows * 2 * dim), fits: array(this.rows * this.rows) });
    this.steps = 0;
    this.start(seed);
  }

  // A part of the flat arrays in which Adam finds all weights.
  parameter(length) {
    const from = this.used;
    this.used += length;
    return { value: this.values.subarray(from, this.used), gradient: this.gradients.subarray(from, this.used) };
  }

  // Weights by Glorot and Bengio's rule, from the seed; what fills up a size stays 0.
  start(seed) {
    const chance = new Chance(seed), { inputs, latent, dim, units } = this;
    const used = [[inputs, units], [units, 2 * latent], [latent, units], [units, inputs]];
    this.layers.forEach((layer, i) => {
      const [fanIn, fanOut] = used[i], limit = Math.sqrt(6 / (fanIn + fanOut));
      for (let n = 0; n < layer.N; n += 1) {
        const real = i === 1 ? n % dim < latent : n < fanOut;
        for (let k = 0; k < layer.K; k += 1) {
          layer.weights.value[n * layer.K + k] = real && k < fanIn ? limit * (2 * chance.uniform() - 1) : 0;
        }
      }
    });
  }

  // (B, width) to mean and log variance, (B, 2 * dim).
  encode(x, B) {
    return this.layers[1].forward(this.layers[0].forward(x, B), B);
  }

  // (B, dim) to logits or means, (B, width).
  decode(z, B) {
    return this.layers[3].forward(this.layers[2].forward(z, B), B);
  }

  // The loss of B rows of `this.x`, of which the first `size` count, and its gradients: {nll, kl}, means over these rows.
  // `noise` is (B, dim). `beta` weighs the KL; `bug` is one of BUGS.
  differentiate(B, size, noise, { beta = 1, bug = "none" } = {}) {
    const { x, z, dim, latent, width, inputs, headSlope, outSlope, layers } = this;
    const head = this.encode(x, B), asSigma = bug === "sigma";
    for (let b = 0; b < B; b += 1) {
      for (let d = 0; d < dim; d += 1) {
        const second = head[b * 2 * dim + dim + d];
        z[b * dim + d] = d < latent ? head[b * 2 * dim + d] + (asSigma ? second : Math.exp(0.5 * second)) * noise[b * dim + d] : 0;
      }
    }
    const out = this.decode(z, B), share = (bug === "nll-mean" ? 1 / inputs : 1) / size;
    const seen = bug === "double-sigmoid" ? out.map(sigmoid) : out;
    let nll = 0, kl = 0, sigmaGradient = 0;
    for (let b = 0; b < B; b += 1) {
      const from = b * width, end = from + inputs, weight = b < size ? share : 0;
      const one = this.likelihood.nll(x, seen, outSlope, from, end, this);
      if (b < size) { nll += one; sigmaGradient += weight * (this.sigmaSlope ?? 0); }
      for (let i = from; i < end; i += 1) {
        outSlope[i] *= bug === "double-sigmoid" ? weight * seen[i] * (1 - seen[i]) : weight;
      }
      outSlope.fill(0, end, from + width);
    }
    this.logSigma.gradient.fill(0);
    this.logSigma.gradient[0] = sigmaGradient;
    const byHidden = layers[3].backward(outSlope, layers[2].out, B), byZ = layers[2].backward(byHidden, z, B);
    const klShare = (beta * (bug === "kl-sign" ? -1 : 1)) / (bug === "kl-mean" ? latent : 1) / size;
    for (let b = 0; b < B; b += 1) {
      for (let d = 0; d < dim; d += 1) {
        const i = b * 2 * dim + d, j = i + dim, real = b < size && d < latent;
        if (!real) { headSlope[i] = headSlope[j] = 0; continue; }
        const mean = head[i], second = head[j], sigma = asSigma ? second : Math.exp(0.5 * second), variance = sigma * sigma;
        kl += 0.5 * (mean * mean + variance - 1 - (asSigma ? Math.log(variance + 1e-6) : second));
        const path = bug === "no-gradient" ? 0 : byZ[b * dim + d], e = noise[b * dim + d];
        headSlope[i] = path + klShare * mean;
        headSlope[j] = asSigma
          ? path * e + klShare * (sigma - sigma / (variance + 1e-6))
          : 0.5 * (path * e * sigma + klShare * (variance - 1));
      }
    }
    layers[0].backward(layers[1].backward(headSlope, layers[0].out, B), x, B, false);
    return { nll: nll / size, kl: kl / size };
  }

  // Adam (Kingma and Ba 2015) on all weights; `frozen` leaves the decoder as it is.
  update(rate, frozen = false) {
    const { values, gradients, first, second } = this, end = frozen ? this.encoderEnd() : values.length;
    this.steps += 1;
    const step = (rate * Math.sqrt(1 - BETA_2 ** this.steps)) / (1 - BETA_1 ** this.steps);
    for (let i = 0; i < end; i += 1) {
      const g = gradients[i];
      first[i] += (1 - BETA_1) * (g - first[i]);
      second[i] += (1 - BETA_2) * (g * g - second[i]);
      values[i] -= (step * first[i]) / (Math.sqrt(second[i]) + EPSILON);
    }
  }

  // Where the encoder's weights end in the flat arrays, which begin with them.
  encoderEnd() {
    const { K, N } = this.layers[0], next = this.layers[1];
    return K * N + N + next.K * next.N + next.N;
  }
}

// ---- Bounds of log p(x) ------------------------------------------------------------------------------------

// nll and kl of each of `count` images (rows of width) with one draw each, noise (count, dim).
function terms(net, images, count, noise) {
  const { width, dim, latent, inputs, rows } = net, nll = new Float64Array(count), kl = new Float64Array(count);
  for (let start = 0; start < count; start += rows) {
    const size = Math.min(rows, count - start), B = up(size);
    net.x.fill(0, size * width, B * width);
    net.x.set(images.subarray(start * width, (start + size) * width));
    const head = net.encode(net.x, B);
    net.z.fill(0, 0, B * dim);
    for (let b = 0; b < size; b += 1) {
      for (let d = 0; d < latent; d += 1) {
        const mean = head[b * 2 * dim + d], logVar = head[b * 2 * dim + dim + d];
        net.z[b * dim + d] = mean + Math.exp(0.5 * logVar) * noise[(start + b) * dim + d];
        kl[start + b] += 0.5 * (mean * mean + Math.exp(logVar) - 1 - logVar);
      }
    }
    const out = net.decode(net.z, B);
    for (let b = 0; b < size; b += 1) {
      nll[start + b] = net.likelihood.nll(net.x, out, net.outSlope, b * width, b * width + inputs, net);
    }
  }
  return { nll, kl };
}

// Codes of a plane along one side, like the quantiles of a Gaussian that is wider than the prior.
const SPREAD = 1.6;
const wideAxis = (side, spread = SPREAD) => Array.from({ length: side }, (_, i) => spread * normalQuantile((i + 0.5) / side));

// log p(x) of each image of a model with two latent dimensions: a sum of p(x | z) p(z) over side^2 codes, so that codes far
// out are seen as well. Too small where posteriors are narrower than a cell. `each` is told every term of an image but for
// what is the same for all codes.
function logPx(net, images, count, side, { spread = SPREAD, each = null } = {}) {
  const { width, dim, inputs, rows, memory, likelihood } = net, codes = side * side, axis = wideAxis(side, spread);
  const logShare = axis.map((z) => Math.log(spread / side) - 0.5 * z * z * (1 - 1 / (spread * spread)));
  const result = new Float64Array(count);
  for (let first = 0; first < count; first += rows) { // as many images at once as the net has rows
    const size = Math.min(rows, count - first), padded = up(size);
    const best = new Float64Array(size).fill(-Infinity), sum = new Float64Array(size);
    net.x.fill(0, size * width, padded * width);
    net.x.set(images.subarray(first * width, (first + size) * width));
    for (let start = 0; start < codes; start += rows) {
      const B = Math.min(rows, codes - start), M = up(B), offset = new Float64Array(B);
      net.z.fill(0, 0, M * dim);
      for (let b = 0; b < B; b += 1) {
        net.z[b * dim] = axis[(start + b) % side];
        net.z[b * dim + 1] = axis[Math.floor((start + b) / side)];
      }
      const out = net.decode(net.z, M);
      net.outSlope.fill(0, 0, M * width);
      for (let b = 0; b < B; b += 1) {
        offset[b] = likelihood.linear(out, net.outSlope, b * width, b * width + inputs, net);
        offset[b] -= logShare[(start + b) % side] + logShare[Math.floor((start + b) / side)];
      }
      memory.product(net.x, net.outSlope, padded, M, width, net.fits);
      for (let i = 0; i < size; i += 1) {
        for (let b = 0; b < B; b += 1) {
          const fit = net.fits[i * M + b] - offset[b];
          each?.(first + i, start + b, fit);
          if (fit > best[i]) { sum[i] = sum[i] * Math.exp(best[i] - fit) + 1; best[i] = fit; } else sum[i] += Math.exp(fit - best[i]);
        }
      }
    }
    for (let i = 0; i < size; i += 1) {
      result[first + i] = best[i] + Math.log(sum[i]) - likelihood.base(net.x, i * width, i * width + inputs, net);
    }
  }
  return result;
}
