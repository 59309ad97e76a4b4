// One WebAssembly function, written here instruction by instruction: C (M, N) = A (M, K) times B (N, K) transposed, in
// single precision, four numbers at a time. M is a multiple of 4, N of 2, K of 4; A, B and C are byte offsets.

function simdProduct(memory) {
  const leb = (n) => { // unsigned LEB128
    const bytes = [];
    do { bytes.push((n & 127) | (n > 127 ? 128 : 0)); n >>>= 7; } while (n);
    return bytes;
  };
  const section = (id, content) => [id, ...leb(content.length), ...content];
  const get = (i) => [0x20, i], set = (i) => [0x21, i], constant = (n) => [0x41, ...leb(n)];
  const add = [0x6a], multiply = [0x6c], below = [0x49];
  const load = [0xfd, 0x00, 4, 0], zero = [0xfd, 0x0c, ...new Array(16).fill(0)];
  const vectorAdd = [0xfd, 0xe4, 0x01], vectorMultiply = [0xfd, 0xe6, 0x01], lane = (i) => [0xfd, 0x1f, i];
  const loop = (body, condition) => [0x03, 0x40, ...body, ...condition, 0x0d, 0, 0x0b]; // again while the condition holds
  const [A, B, C, M, N, K, m, n, end, stride, out] = Array.from({ length: 11 }, (_, i) => i);
  const row = (i) => 11 + i, column = (j) => 15 + j, sum = (i, j) => 17 + 2 * i + j, x = (i) => 25 + i, y = 29;
  const I = [0, 1, 2, 3], J = [0, 1];
  const step = (pointer, by) => [...get(pointer), ...by, ...add, ...set(pointer)];
  const products = [
    ...I.flatMap((i) => [...get(row(i)), ...load, ...set(x(i))]),
    ...J.flatMap((j) => [
      ...get(column(j)), ...load, ...set(y),
      ...I.flatMap((i) => [...get(sum(i, j)), ...get(x(i)), ...get(y), ...vectorMultiply, ...vectorAdd, ...set(sum(i, j))]),
    ]),
    ...[...I.map(row), ...J.map(column)].flatMap((pointer) => step(pointer, constant(16))),
  ];
  const total = (i, j) => [
    ...get(sum(i, j)), ...lane(0), ...get(sum(i, j)), ...lane(1), 0x92,
    ...get(sum(i, j)), ...lane(2), ...get(sum(i, j)), ...lane(3), 0x92, 0x92,
  ];
  const tile = [
    ...get(A), ...get(m), ...get(stride), ...multiply, ...add, ...set(row(0)),
    ...get(B), ...get(n), ...get(stride), ...multiply, ...add, ...set(column(0)),
    ...[1, 2, 3].flatMap((i) => [...get(row(i - 1)), ...get(stride), ...add, ...set(row(i))]),
    ...get(column(0)), ...get(stride), ...add, ...set(column(1)),
    ...get(row(0)), ...get(stride), ...add, ...set(end),
    ...I.flatMap((i) => J.flatMap((j) => [...zero, ...set(sum(i, j))])),
    ...loop(products, [...get(row(0)), ...get(end), ...below]),
    ...get(C), ...get(m), ...get(N), ...multiply, ...get(n), ...add, ...constant(4), ...multiply, ...add, ...set(out),
    ...I.flatMap((i) => [
      ...J.flatMap((j) => [...get(out), ...total(i, j), 0x38, 2, 4 * j]),
      ...get(out), ...get(N), ...constant(4), ...multiply, ...add, ...set(out),
    ]),
    ...step(n, constant(2)),
  ];
  const body = [
    ...get(K), ...constant(4), ...multiply, ...set(stride),
    ...loop([...constant(0), ...set(n), ...loop(tile, [...get(n), ...get(N), ...below]), ...step(m, constant(4))],
      [...get(m), ...get(M), ...below]),
    0x0b,
  ];
  const locals = [2, ...leb(5 + 6), 0x7f, ...leb(8 + 5), 0x7b];
  const code = [...locals, ...body];
  const text = (s) => [s.length, ...new TextEncoder().encode(s)];
  const bytes = [
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [1, 0x60, 6, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0]),
    ...section(2, [1, ...text("e"), ...text("m"), 2, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text("f"), 0, 0]),
    ...section(10, [1, ...leb(code.length), ...code]),
  ];
  return new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(bytes)), { e: { m: memory } }).exports.f;
}
