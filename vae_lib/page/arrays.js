// Arrays, their products, and the few functions that every page needs. It knows of no page, and runs in a worker too.

// ---- Arrays ------------------------------------------------------------------------------------------------

const PAGE_BYTES = 65536;
const up = (n, to = 4) => Math.ceil(n / to) * to;

// Float32Arrays in one block of memory, so that WebAssembly can multiply them where it is to be had.
class Memory {
  constructor(numbers, { simd = true } = {}) {
    this.at = 0;
    this.product = plainProduct;
    if (simd) {
      try {
        const memory = new WebAssembly.Memory({ initial: Math.ceil((4 * numbers) / PAGE_BYTES) });
        const product = simdProduct(memory);
        this.buffer = memory.buffer;
        this.product = (A, B, M, N, K, C) => product(A.byteOffset, B.byteOffset, C.byteOffset, M, N, K);
      } catch { /* no WebAssembly here, or none with four numbers at a time */ }
    }
    this.simd = this.product !== plainProduct;
    this.buffer ??= new ArrayBuffer(4 * numbers);
  }

  array(length) {
    const array = new Float32Array(this.buffer, 4 * this.at, length);
    this.at += up(length);
    return array;
  }
}

// C (M, N) = A (M, K) times B (N, K) transposed. M is a multiple of 4, N of 2, K of 4.
function plainProduct(A, B, M, N, K, C) {
  for (let m = 0; m < M; m += 4) {
    const a0 = m * K, a1 = a0 + K, a2 = a1 + K, a3 = a2 + K;
    for (let n = 0; n < N; n += 2) {
      const b0 = n * K, b1 = b0 + K;
      let s00 = 0, s01 = 0, s10 = 0, s11 = 0, s20 = 0, s21 = 0, s30 = 0, s31 = 0;
      for (let k = 0; k < K; k += 1) {
        const y0 = B[b0 + k], y1 = B[b1 + k];
        const x0 = A[a0 + k], x1 = A[a1 + k], x2 = A[a2 + k], x3 = A[a3 + k];
        s00 += x0 * y0; s01 += x0 * y1; s10 += x1 * y0; s11 += x1 * y1;
        s20 += x2 * y0; s21 += x2 * y1; s30 += x3 * y0; s31 += x3 * y1;
      }
      let c = m * N + n;
      C[c] = s00; C[c + 1] = s01; c += N;
      C[c] = s10; C[c + 1] = s11; c += N;
      C[c] = s20; C[c + 1] = s21; c += N;
      C[c] = s30; C[c + 1] = s31;
    }
  }
}

// (R, C) to (C, R).
function transpose(from, R, C, to) {
  for (let r = 0; r < R; r += 1) for (let c = 0, i = r * C; c < C; c += 1, i += 1) to[c * R + r] = from[i];
}

// ---- Functions ---------------------------------------------------------------------------------------------

// Error function, to 2e-7 (Abramowitz and Stegun 1964, 7.1.26); e is exp(-x^2).
function erfWith(x, e) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return x < 0 ? p * e - 1 : 1 - p * e;
}

const normalCdf = (x) => 0.5 * (1 + erfWith(x * Math.SQRT1_2, Math.exp(-0.5 * x * x)));

// The standard normal's quantile, by bisection.
function normalQuantile(p) {
  let low = -8, high = 8;
  while (high - low > 1e-9) {
    const middle = (low + high) / 2;
    if (normalCdf(middle) < p) low = middle; else high = middle;
  }
  return (low + high) / 2;
}

const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

// Little-endian bytes in base64 as a typed array.
function unpack(text, ArrayType) {
  return new ArrayType(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}
