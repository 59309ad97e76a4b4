// A training: data, a model, the settings that may change while it learns, and what is to be seen of it.

const SIDE = 28; // pixels along an image
const HELD_OUT = 200; // images that are not used for training, and that all curves are measured on
const MOST_SIDE = 160; // of the grid that log p(x) is summed over
const PLANE_END = 0.01; // share of the prior beyond each end of the plane

// Rows of `width` floats from bytes (N, pixels) in 0..255.
function asRows(bytes, pixels, width) {
  const count = bytes.length / pixels, rows = new Float32Array(count * width);
  for (let i = 0; i < count; i += 1) {
    for (let p = 0; p < pixels; p += 1) rows[i * width + p] = bytes[i * pixels + p] / 255;
  }
  return rows;
}

class Learner {
  // `data` holds train and test, bytes (N, pixels), and labels of the test images.
  constructor(data, settings) {
    const { hidden = 128, latent = 2, likelihood = "bernoulli", seed = 0, simd = true } = settings;
    const pixels = data.pixels;
    this.net = new Net({ inputs: pixels, hidden, latent, likelihood, seed, simd });
    this.data = data;
    this.train = asRows(data.train, pixels, this.net.width);
    this.test = asRows(data.test, pixels, this.net.width).subarray(0, HELD_OUT * this.net.width);
    this.held = this.test.length / this.net.width;
    this.chance = new Chance(seed + 1);
    const still = new Chance(seed + 2);
    this.testNoise = Float32Array.from({ length: this.held * this.net.dim }, () => still.normal());
    this.noise = new Float32Array(this.net.rows * this.net.dim);
    Object.assign(this, { order: [], at: 0, seen: 0, settings: { beta: 1, rate: 2e-3, batch: 50, bug: "none", frozen: false } });
    this.change(settings);
    this.running = { nll: 0, kl: 0, count: 0 };
  }

  get images() { return this.train.length / this.net.width; }

  // Learn from `copies` more of an image, bytes (pixels), from the next epoch on.
  add(bytes, copies) {
    const row = asRows(bytes, this.data.pixels, this.net.width), grown = new Float32Array(this.train.length + copies * row.length);
    grown.set(this.train);
    for (let i = 0; i < copies; i += 1) grown.set(row, this.train.length + i * row.length);
    this.train = grown;
  }

  // What may change while it learns: beta, rate, batch, bug and frozen.
  change(settings) {
    for (const name of Object.keys(this.settings)) if (settings[name] !== undefined) this.settings[name] = settings[name];
  }

  // One step on the next batch; the epoch's order is drawn when it begins.
  step() {
    const { net, train, chance, settings, noise } = this, { width, dim, latent } = net;
    if (this.at >= this.order.length) {
      this.order = chance.shuffle(Array.from({ length: this.images }, (_, i) => i));
      this.at = 0;
    }
    const size = Math.min(settings.batch, net.rows, this.order.length - this.at), B = up(size);
    for (let b = 0; b < size; b += 1) {
      const from = this.order[this.at + b] * width;
      net.x.set(train.subarray(from, from + width), b * width);
      for (let d = 0; d < latent; d += 1) noise[b * dim + d] = chance.normal();
    }
    net.x.fill(0, size * width, B * width);
    const { nll, kl } = net.differentiate(B, size, noise, settings);
    net.update(settings.rate, settings.frozen);
    this.at += size;
    this.seen += size;
    this.running.nll += nll * size;
    this.running.kl += kl * size;
    this.running.count += size;
  }

  // Steps for about so many milliseconds; how many images were seen.
  learnFor(milliseconds, now = () => performance.now()) {
    const end = now() + milliseconds, before = this.seen;
    do this.step(); while (now() < end);
    return this.seen - before;
  }

  // The numbers: of training since the last call, of the held-out images, and their exact log p(x) where it can be had.
  numbers({ exact = 0 } = {}) {
    const { running, net } = this, { nll, kl } = terms(net, this.test, this.held, this.testNoise);
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const found = { step: net.steps, seen: this.seen, nll: mean(nll), kl: mean(kl) };
    found.elbo = -(found.nll + found.kl);
    if (running.count) Object.assign(found, { trainNll: running.nll / running.count, trainKl: running.kl / running.count });
    const side = exact && net.latent === 2 ? this.fineEnough(exact) : 0;
    if (side) found.logPx = mean(logPx(net, this.test, this.held, side));
    this.running = { nll: 0, kl: 0, count: 0 };
    return found;
  }

  // How many codes along a side of the plane see the narrow ones of the posteriors, `least` at least; 0 if too many.
  fineEnough(least) {
    const codes = this.codes(), { latent } = this.net, sigmas = [];
    for (let i = 0; i < codes.length; i += 2 * latent) sigmas.push(Math.min(...codes.subarray(i + latent, i + 2 * latent)));
    const narrow = sigmas.sort((a, b) => a - b)[Math.floor(sigmas.length / 10)], side = Math.ceil((SPREAD * ROOT_TWO_PI) / narrow);
    return side > MOST_SIDE ? 0 : Math.max(side, least);
  }

  // Codes of the held-out images: mean and standard deviation of the first dimensions, (N, 2 * latent).
  codes() {
    const { net, held } = this, { width, dim, latent } = net, found = new Float32Array(held * 2 * latent);
    for (let start = 0; start < held; start += net.rows) {
      const size = Math.min(net.rows, held - start), B = up(size);
      net.x.fill(0);
      net.x.set(this.test.subarray(start * width, (start + size) * width));
      const head = net.encode(net.x, B);
      for (let b = 0; b < size; b += 1) {
        for (let d = 0; d < latent; d += 1) {
          found[(start + b) * 2 * latent + d] = head[b * 2 * dim + d];
          found[(start + b) * 2 * latent + latent + d] = Math.exp(0.5 * head[b * 2 * dim + dim + d]);
        }
      }
    }
    return found;
  }

  // Bytes (N, pixels) decoded from codes, rows of `latent` numbers.
  decode(codes) {
    const { net } = this, { latent, dim, width, inputs, rows } = net, count = codes.length / latent;
    const bytes = new Uint8ClampedArray(count * inputs);
    for (let start = 0; start < count; start += rows) {
      const size = Math.min(rows, count - start), B = up(size);
      net.z.fill(0, 0, B * dim);
      for (let b = 0; b < size; b += 1) net.z.set(codes.subarray((start + b) * latent, (start + b + 1) * latent), b * dim);
      const out = net.decode(net.z, B);
      for (let b = 0; b < size; b += 1) {
        for (let i = 0; i < inputs; i += 1) bytes[(start + b) * inputs + i] = 255 * net.likelihood.mean(out[b * width + i]);
      }
    }
    return bytes;
  }

  // Codes of `side` by `side` points of the plane of the first two dimensions, equal steps of the prior's probability;
  // the first row is the top one, where the second number is largest. `others` are the further numbers, 0 where not given.
  plane(side, others = []) {
    const { latent } = this.net, codes = new Float32Array(side * side * latent);
    const axis = Array.from({ length: side }, (_, i) => normalQuantile(PLANE_END + (1 - 2 * PLANE_END) * (i / (side - 1))));
    for (let row = 0; row < side; row += 1) {
      for (let column = 0; column < side; column += 1) {
        const at = (row * side + column) * latent;
        codes[at] = axis[column];
        if (latent > 1) codes[at + 1] = axis[side - 1 - row];
        for (let d = 2; d < latent; d += 1) codes[at + d] = others[d - 2] ?? 0;
      }
    }
    return codes;
  }

  // The posterior of one image, bytes (pixels), in side * side cells of the plane, each with its density in parts of the
  // largest; null but for two latent dimensions.
  posterior(bytes, side) {
    const { net } = this, logs = new Float64Array(side * side);
    if (net.latent !== 2) return null;
    logPx(net, asRows(bytes, this.data.pixels, net.width), 1, side, { each: (_, code, value) => { logs[code] = value; } });
    const axis = wideAxis(side), wide = (z) => -0.5 * (z / SPREAD) ** 2; // cells are as wide as such codes are rare
    const densities = logs.map((value, code) => value + wide(axis[code % side]) + wide(axis[Math.floor(code / side)]));
    const most = densities.reduce((a, b) => Math.max(a, b), -Infinity);
    return Float32Array.from(densities, (value) => Math.exp(value - most));
  }

  // Mean and standard deviation of the code of one image, bytes (pixels).
  encode(bytes) {
    const { net } = this, { dim, latent, inputs } = net;
    net.x.fill(0);
    for (let i = 0; i < inputs; i += 1) net.x[i] = bytes[i] / 255;
    const head = net.encode(net.x, 4);
    return { mean: Array.from(head.subarray(0, latent)), sigma: Array.from(head.subarray(dim, dim + latent), (v) => Math.exp(0.5 * v)) };
  }
}
