"use strict";
// The decoder of a run: a list of layers with weights of 16 or 12 bits, and the few functions that they need.

// Little-endian bytes in base64 as a typed array.
function unpack(text, ArrayType) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new ArrayType(bytes.buffer);
}

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

// Error function, to 2e-7 (Abramowitz and Stegun 1964, 7.1.26).
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const y = 1 - p * Math.exp(-x * x);
  return x < 0 ? -y : y;
}

function normalCdf(x) {
  return 0.5 * (1 + erf(x / Math.SQRT2));
}

function normalQuantile(p) {
  let low = -6, high = 6;
  while (high - low > 1e-6) {
    const middle = (low + high) / 2;
    if (normalCdf(middle) < p) low = middle; else high = middle;
  }
  return (low + high) / 2;
}

const sigmoid = (l) => 1 / (1 + Math.exp(-l));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

// The mean of a logistic distribution whose mass beyond 0 and 1 lies at 0 and 1: integrals from the middle to both ends.
function logisticMean(logit, raw, [start, most]) {
  const location = 0.5 + logit, scale = Math.exp(start + most * Math.tanh(raw / most));
  const middle = Math.min(Math.max(location, 0), 1);
  const side = (near, far) => scale * (softplus(-near / scale) - softplus(-far / scale));
  return middle + side(middle - location, 1 - location) - side(location - middle, location);
}

// The means of the pixels (H * W * C), from the decoder's last map, under the run's likelihood.
const MEANS = {
  sigmoid: ({ data }) => data.map(sigmoid),
  continuous_bernoulli: ({ data }) => data.map((l) =>
    Math.abs(l) < 0.1 ? 0.5 + l / 12 - (l * l * l) / 720 : 0.5 + 0.5 / Math.tanh(0.5 * l) - 1 / l),
  discretized_logistic: ({ data, channels }, bounds) => { // a pixel's C locations, then its C scales
    const half = channels / 2;
    return Float32Array.from({ length: data.length / 2 }, (_, i) => {
      const at = Math.floor(i / half) * channels + (i % half);
      return logisticMean(data[at], data[at + half], bounds);
    });
  },
};

// Rows (M, K) times weights (K, N) plus bias (N). Weights lie in blocks of four columns, so that the inner loop reads
// both operands in order and keeps its sums in registers.
function product(rows, M, layer, out) {
  const { weights, bias, K, N } = layer;
  for (let n = 0; n < N; n += 4) {
    for (let m = 0; m < M; m += 2) {
      const second = m + 1 < M ? K : 0;
      let a = m * K, w = n * K;
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      for (const end = a + K; a < end; a += 1, w += 4) {
        const x = rows[a], y = rows[a + second];
        const w0 = weights[w], w1 = weights[w + 1], w2 = weights[w + 2], w3 = weights[w + 3];
        s00 += x * w0; s01 += x * w1; s02 += x * w2; s03 += x * w3;
        s10 += y * w0; s11 += y * w1; s12 += y * w2; s13 += y * w3;
      }
      const first = [s00, s01, s02, s03], other = [s10, s11, s12, s13];
      for (let j = 0; j < 4 && n + j < N; j += 1) {
        out[m * N + n + j] = first[j] + bias[n + j];
        if (second) out[(m + 1) * N + n + j] = other[j] + bias[n + j];
      }
    }
  }
}

function gelu(values) {
  for (let i = 0; i < values.length; i += 1) values[i] *= normalCdf(values[i]);
}

class Decoder {
  // `layers` as written by vae_lib.page.export; `packed` the bytes of all weights, `scales` for each column a scale and a bias,
  // `bounds` of a pixel's scale where it has one.
  constructor(layers, packed, scales, mean, bounds) {
    let at = 0, column = 0;
    this.mean = (map) => MEANS[mean](map, bounds);
    this.layers = layers.map((layer) => {
      if (layer.kind !== "dense" && layer.kind !== "conv") return layer;
      const { K, N, bits } = layer, numbers = integers(packed.subarray(at), K * N, bits);
      const weights = new Float32Array(K * Math.ceil(N / 4) * 4), bias = new Float32Array(N);
      for (let k = 0; k < K; k += 1) {
        for (let n = 0; n < N; n += 1) {
          weights[(n - (n % 4)) * K + 4 * k + (n % 4)] = numbers[k * N + n] * scales[2 * (column + n)];
        }
      }
      for (let n = 0; n < N; n += 1) bias[n] = scales[2 * (column + n) + 1];
      at += (K * N * bits) / 8;
      column += N;
      return { ...layer, weights, bias };
    });
  }

  // A code (D) to the means of the pixels (H * W * C), each in 0..1.
  decode(z) {
    let map = { data: Float32Array.from(z), height: 1, width: 1, channels: z.length };
    for (const layer of this.layers) map = Decoder[layer.kind](map, layer);
    return this.mean(map);
  }

  static dense(map, layer) {
    const data = new Float32Array(layer.N);
    product(map.data, 1, layer, data);
    if (layer.gelu) gelu(data);
    return { data, height: 1, width: 1, channels: layer.N };
  }

  // A convolution with an odd window, stride 1 and a border of zeros: one product for each row of the map.
  static conv(map, layer) {
    const { data, height, width, channels } = map, { size, N, K } = layer;
    const margin = (size - 1) / 2, out = new Float32Array(height * width * N), rows = new Float32Array(width * K);
    for (let y = 0; y < height; y += 1) {
      rows.fill(0);
      for (let x = 0; x < width; x += 1) {
        for (let dy = 0; dy < size; dy += 1) {
          const from = y + dy - margin, left = Math.max(0, x - margin), right = Math.min(width, x + margin + 1);
          if (from < 0 || from >= height) continue;
          const pixels = data.subarray((from * width + left) * channels, (from * width + right) * channels);
          rows.set(pixels, x * K + (dy * size + left - x + margin) * channels);
        }
      }
      product(rows, width, layer, out.subarray(y * width * N, (y + 1) * width * N));
    }
    if (layer.gelu) gelu(out);
    return { data: out, height, width, channels: N };
  }

  static reshape(map, layer) {
    return { data: map.data, height: layer.height, width: layer.width, channels: layer.channels };
  }

  // Channels to pixels: (H, W, C * block^2) to (H * block, W * block, C).
  static depth_to_space(map, { block }) {
    const { data, height, width } = map, channels = map.channels / (block * block);
    const out = new Float32Array(data.length), line = block * channels;
    for (let y = 0; y < height * block; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const from = ((y - (y % block)) / block * width + x) * map.channels + (y % block) * line;
        out.set(data.subarray(from, from + line), (y * width + x) * line);
      }
    }
    return { data: out, height: height * block, width: width * block, channels };
  }

  static crop(map, layer) {
    const { data, width, channels } = map, out = new Float32Array(layer.height * layer.width * channels);
    for (let y = 0; y < layer.height; y += 1) {
      const from = ((y + layer.top) * width + layer.left) * channels;
      out.set(data.subarray(from, from + layer.width * channels), y * layer.width * channels);
    }
    return { data: out, height: layer.height, width: layer.width, channels };
  }
}
