"use strict";
// The networks of a run, computed in the page: layers with weights of 16 or 12 bits, for many images or codes at once.

// `count` whole numbers of 16 or 12 bits from `bytes` on.
function integers(bytes, count, bits) {
  if (bits === 16) return new Int16Array(bytes.slice(0, 2 * count).buffer);
  const numbers = new Int16Array(count);
  for (let i = 0, at = 0; i < count; i += 2, at += 3) {
    numbers[i] = (bytes[at] | ((bytes[at + 1] & 15) << 8)) - 2048;
    numbers[i + 1] = ((bytes[at + 1] >> 4) | (bytes[at + 2] << 4)) - 2048;
  }
  return numbers;
}

const sizeOf = ({ height, width, channels }) => height * width * channels;

// What a layer makes of a map's shape.
const SHAPES = {
  dense: (layer) => ({ height: 1, width: 1, channels: layer.N }),
  conv: (layer, { height, width }) => ({ height: Math.ceil(height / layer.stride), width: Math.ceil(width / layer.stride), channels: layer.N }),
  flatten: (layer, shape) => ({ height: 1, width: 1, channels: sizeOf(shape) }),
  reshape: ({ height, width, channels }) => ({ height, width, channels }),
  depth_to_space: ({ block }, { height, width, channels }) => ({ height: height * block, width: width * block, channels: channels / (block * block) }),
  crop: ({ height, width }, { channels }) => ({ height, width, channels }),
  pad: ({ height, width }, { channels }) => ({ height, width, channels }),
};

class Network {
  // `layers`, `weights` and `columns` (for each column of a matrix its scale and its bias) as the page holds them; `from` is
  // the shape of what goes in, and `most` how many of it at once.
  constructor({ layers, weights, columns }, from, most) {
    const bytes = unpack(weights, Uint8Array), scales = unpack(columns, Float32Array);
    let shape = from, at = 0, column = 0;
    this.most = most;
    this.layers = layers.map((layer) => {
      const planned = { ...layer, from: shape, to: SHAPES[layer.kind](layer, shape) };
      if (layer.bits) {
        const { K, N, bits } = layer, count = K * N;
        Object.assign(planned, { depth: up(K), columns: up(N, 2), numbers: integers(bytes.subarray(at), count, bits) });
        planned.scales = scales.subarray(2 * column, 2 * (column + N));
        planned.rows = up(most * planned.to.height * planned.to.width);
        at += (count * bits) / 8;
        column += N;
      }
      shape = planned.to;
      return planned;
    });
    this.inputs = sizeOf(from);
    this.outputs = sizeOf(shape);
  }

  // How many numbers of memory it takes.
  get numbers() {
    const weighted = this.layers.filter(({ bits }) => bits), most = (of) => Math.max(0, ...weighted.map(of));
    return weighted.reduce((sum, { depth, columns }) => sum + depth * columns, 0)
      + most(({ rows, depth }) => rows * depth) + most(({ rows, columns }) => rows * columns) + 8;
  }

  // Weights and room to work in `memory`; weights as (N, K), the way a product reads them.
  settle(memory) {
    const weighted = this.layers.filter(({ bits }) => bits), most = (of) => Math.max(0, ...weighted.map(of));
    this.memory = memory;
    for (const layer of weighted) {
      const { K, N, depth, columns, numbers, scales } = layer;
      layer.weights = memory.array(columns * depth);
      layer.bias = Float32Array.from({ length: N }, (_, n) => scales[2 * n + 1]);
      for (let first = 0; first < N; first += 16) { // some columns at a time stay in the processor's cache
        for (let k = 0; k < K; k += 1) {
          for (let n = first; n < Math.min(first + 16, N); n += 1) layer.weights[n * depth + k] = numbers[k * N + n] * scales[2 * n];
        }
      }
      layer.numbers = null;
    }
    this.left = memory.array(most(({ rows, depth }) => rows * depth));
    this.result = memory.array(most(({ rows, columns }) => rows * columns));
    return this;
  }

  // (count * inputs) numbers to (count * outputs).
  run(data, count) {
    const out = new Float32Array(count * this.outputs);
    for (let start = 0; start < count; start += this.most) {
      const part = Math.min(this.most, count - start);
      let map = data.subarray(start * this.inputs, (start + part) * this.inputs);
      for (const layer of this.layers) map = this[layer.kind](map, part, layer);
      out.set(map, start * this.outputs);
    }
    return out;
  }

  // The rows in `left` times a layer's weights, plus its bias, through its activation.
  product(layer, rows) {
    const { depth, columns, N, bias, weights, gelu } = layer, out = new Float32Array(rows * N);
    this.memory.product(this.left, weights, up(rows), columns, depth, this.result);
    for (let m = 0, i = 0; m < rows; m += 1) {
      for (let n = 0, at = m * columns; n < N; n += 1, i += 1, at += 1) {
        const x = this.result[at] + bias[n];
        out[i] = gelu ? x * normalCdf(x) : x;
      }
    }
    return out;
  }

  dense(map, count, layer) {
    const { K, depth } = layer;
    this.left.fill(0, 0, up(count) * depth);
    for (let m = 0; m < count; m += 1) this.left.set(map.subarray(m * K, (m + 1) * K), m * depth);
    return this.product(layer, count);
  }

  // A convolution with a border of zeros, divided before and after as Keras does: each window of the map becomes a row.
  conv(map, count, layer) {
    const { size, stride, depth, from: { height, width, channels }, to } = layer, each = height * width * channels;
    const margin = (n, m) => Math.floor(Math.max((m - 1) * stride + size - n, 0) / 2);
    const above = margin(height, to.height), before = margin(width, to.width), rows = count * to.height * to.width;
    this.left.fill(0, 0, up(rows) * depth);
    for (let i = 0, row = 0; i < count; i += 1) {
      for (let y = 0; y < to.height; y += 1) {
        for (let x = 0; x < to.width; x += 1, row += 1) {
          const edge = x * stride - before, left = Math.max(0, edge), right = Math.min(width, edge + size);
          for (let dy = 0; dy < size; dy += 1) {
            const line = y * stride + dy - above;
            if (line < 0 || line >= height) continue;
            const at = i * each + line * width * channels;
            this.left.set(map.subarray(at + left * channels, at + right * channels), row * depth + (dy * size + left - edge) * channels);
          }
        }
      }
    }
    return this.product(layer, rows);
  }

  flatten(map) { return map; }

  reshape(map) { return map; }

  // Channels to pixels: (H, W, C * block^2) to (H * block, W * block, C).
  depth_to_space(map, count, { block, from, to }) {
    const out = new Float32Array(map.length), line = block * to.channels;
    for (let i = 0; i < count; i += 1) {
      for (let y = 0; y < to.height; y += 1) {
        for (let x = 0; x < to.width; x += block) {
          const at = ((i * from.height + Math.floor(y / block)) * from.width + x / block) * from.channels + (y % block) * line;
          out.set(map.subarray(at, at + line), ((i * to.height + y) * to.width + x) * to.channels);
        }
      }
    }
    return out;
  }

  crop(map, count, { top, left, from, to }) { return moved(map, count, from, to, -top, -left); }

  pad(map, count, { top, left, from, to }) { return moved(map, count, from, to, top, left); }
}

// Maps of one shape laid into maps of another, so many rows down and columns right; what does not fit is cut off.
function moved(map, count, from, to, down, right) {
  const out = new Float32Array(count * sizeOf(to)), channels = from.channels;
  const first = Math.max(0, -right), last = Math.min(from.width, to.width - right);
  for (let i = 0; i < count; i += 1) {
    for (let y = Math.max(0, -down); y < Math.min(from.height, to.height - down); y += 1) {
      const at = (i * from.height + y) * from.width;
      const target = ((i * to.height + y + down) * to.width + first + right) * channels;
      out.set(map.subarray((at + first) * channels, (at + last) * channels), target);
    }
  }
  return out;
}

// ---- Likelihoods -------------------------------------------------------------------------------------------
// What the last map says of the pixels, `map` from `at` on, `size` of its numbers: their means, and -log p(x) of an image.

// Location and log scale of a pixel's discretized logistic: a pixel's C locations come first, then its C scales.
function logisticTerms(map, at, i, channels, [start, most]) {
  const where = at + Math.floor(i / channels) * 2 * channels + (i % channels);
  return [0.5 + map[where], start + most * Math.tanh(map[where + channels] / most)];
}

// The mean of a logistic distribution whose mass beyond 0 and 1 lies at 0 and 1: integrals from the middle to both ends.
function logisticMean(location, logScale) {
  const scale = Math.exp(logScale), middle = clamp(location, 0, 1);
  const side = (near, far) => scale * (softplus(-near / scale) - softplus(-far / scale));
  return middle + side(middle - location, 1 - location) - side(location - middle, location);
}

// -log of the mass on a grey level; the first and the last level reach to infinity.
function logisticCost(x, location, logScale) {
  const precision = Math.exp(-logScale), centre = (x - location) * precision, width = precision / 256;
  const upper = centre + width / 2, lower = centre - width / 2, first = x < 1 / 256, last = x > 255 / 256;
  if (first) return softplus(-upper);
  if (last) return softplus(lower);
  return softplus(-upper) + softplus(lower) - Math.log(-Math.expm1(-width));
}

const continuousMean = (l) => (Math.abs(l) < 0.1 ? 0.5 + l / 12 - (l * l * l) / 720 : 0.5 + 0.5 / Math.tanh(0.5 * l) - 1 / l);

const LIKELIHOODS = {
  bernoulli: {
    means: (map) => map.map(sigmoid),
    cost(map, at, image) {
      let sum = 0;
      for (let i = 0; i < image.length; i += 1) sum += softplus(map[at + i]) - image[i] * map[at + i];
      return sum;
    },
  },
  gaussian: { means: (map) => map.map(sigmoid) },
  continuous_bernoulli: { means: (map) => map.map(continuousMean) },
  discretized_logistic: {
    means: (map, { channels, logScale }) => Float32Array.from(
      { length: map.length / 2 }, (_, i) => logisticMean(...logisticTerms(map, 0, i, channels, logScale))),
    cost(map, at, image, { channels, logScale }) {
      let sum = 0;
      for (let i = 0; i < image.length; i += 1) sum += logisticCost(image[i], ...logisticTerms(map, at, i, channels, logScale));
      return sum;
    },
  },
};
