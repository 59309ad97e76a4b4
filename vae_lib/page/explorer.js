// The page: one code z, shown as sliders, as a point on the map and as the image that it decodes to.

const FARTHEST = 1e4; // that an address may ask for
const END = 2.58; // of a slider: half a percent of the prior lies beyond each end
const WALK = 12, CALM_WALK = 1.5; // tiles a second, and where less motion is wanted
const AT_ONCE = 32, SLICE = 12; // codes that are decoded together, and milliseconds of work between two frames

const run = JSON.parse(document.getElementById("content").textContent);
const at = (id) => document.getElementById(id);
const { plane, points, examples } = run, COLOURS = run.colours;
const dim = run.order.length, pixels = { height: run.side, width: run.side, channels: run.channels };
const likelihood = LIKELIHOODS[run.likelihood];
const decoder = new Network(run.decoder, { height: 1, width: 1, channels: dim }, run.encoder ? AT_ONCE : 1);
const encoder = run.encoder && new Network(run.encoder, pixels, 1);
const memory = new Memory(decoder.numbers + (encoder ? encoder.numbers : 0));
decoder.settle(memory);
const decode = (code) => likelihood.means(decoder.run(Float32Array.from(code), 1), run);
const nameOf = (i) => `z${[...String(i + 1)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("")}`;
let z = new Array(dim).fill(0);

// ---- Pictures ----------------------------------------------------------------------------------------------

function paint(canvas, values, scale) {
  const { side, channels } = run, picture = new ImageData(side, side);
  for (let i = 0; i < side * side; i += 1) {
    for (let c = 0; c < 3; c += 1) picture.data[4 * i + c] = values[channels === 3 ? 3 * i + c : i] * scale; // the array rounds
    picture.data[4 * i + 3] = 255;
  }
  canvas.width = canvas.height = side;
  canvas.classList.toggle("crisp", side < 64);
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

let waiting = false;
const milliseconds = []; // of the last decodings, for whoever measures

function draw() {
  waiting = false;
  const start = performance.now();
  paint(at("image"), decode(z), 255);
  placeMarker();
  for (const slider of at("sliders").querySelectorAll("input")) {
    const value = z[slider.dataset.dimension];
    if (document.activeElement !== slider || Math.abs(slider.value - value) > 0.006) slider.value = value;
    slider.parentElement.querySelector(".value").textContent = value.toFixed(2);
  }
  milliseconds.push(performance.now() - start);
  if (milliseconds.length > 1000) milliseconds.shift();
}

let remembered;

// Show the code `next`: at most one decoding a frame; the address and the words follow when the hand rests.
function show(next) {
  z = next;
  if (!waiting) requestAnimationFrame(draw);
  waiting = true;
  clearTimeout(remembered);
  if (walk === null) remembered = setTimeout(remember, 250);
}

function remember() {
  const words = z.map((value, i) => `z${i + 1} ${value.toFixed(2)}`).join(", ");
  at("image").setAttribute("aria-label", `Decoded image at ${words}`);
  try {
    history.replaceState(null, "", `#z=${z.map((value) => value.toFixed(3)).join(",")}`);
  } catch { /* a frame without an address of its own */ }
}

function fromAddress() {
  const found = /^#z=([-0-9.,e]+)$/.exec(location.hash);
  const values = found ? found[1].split(",").map(Number) : [];
  return values.length === dim && values.every(Number.isFinite) ? values.map((value) => clamp(value, -FARTHEST, FARTHEST)) : null;
}

// ---- The map: tiles of a plane through the latent space, in equal steps of the prior's probability -----------

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const [lowest, highest] = run.quantiles, tiles = run.tiles;
const atQuantile = (share) => normalQuantile(lowest + clamp(share, 0, 1) * (highest - lowest)); // between the outermost codes
// Between a coordinate and its share of the picture: the outermost codes lie in the middle of the outermost tiles.
const toShare = (a) => (clamp((normalCdf(a) - lowest) / (highest - lowest), 0, 1) * (tiles - 1) + 0.5) / tiles;
const toAxis = (share) => atQuantile((share * tiles - 0.5) / (tiles - 1));
const yLength = dot(plane.y, plane.y);

// Where on the plane a code lies, as its two coordinates.
function onPlane(code) {
  const offset = code.map((value, i) => value - plane.centre[i]);
  return [dot(offset, plane.x) / dot(plane.x, plane.x), yLength ? dot(offset, plane.y) / yLength : 0];
}

// The code with new coordinates on the plane; what lies off the plane stays.
function moveOnPlane(a, b) {
  const [fromA, fromB] = onPlane(z);
  return z.map((value, i) => value + (a - fromA) * plane.x[i] + (b - fromB) * plane.y[i]);
}

function placeMarker() {
  const [a, b] = onPlane(z), map = at("map");
  at("marker").style.left = `${100 * toShare(a)}%`;
  at("marker").style.top = `${100 * (1 - toShare(b))}%`;
  map.setAttribute("aria-valuenow", clamp(a, -2, 2).toFixed(2));
  map.setAttribute("aria-valuetext", `${a.toFixed(2)} to the right, ${b.toFixed(2)} up`);
}

function pointTo(event) {
  const box = at("map").getBoundingClientRect();
  stop();
  show(moveOnPlane(toAxis((event.clientX - box.left) / box.width), toAxis(1 - (event.clientY - box.top) / box.height)));
}

let drawnGaussian = null; // of the image that the pad or a button gave, for the map

function drawPoints() {
  const canvas = at("points"), shown = at("show-points").checked && points.codes !== "", size = 880;
  at("plane").classList.toggle("dimmed", shown);
  at("legend").hidden = !shown;
  canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d");
  if (shown) drawCodes(pen, size);
  if (!drawnGaussian) return;
  pen.lineWidth = 6;
  for (const [scale, colour] of [[2, "#000000"], [2, "#ffffff"]]) {
    pen.strokeStyle = colour;
    ring(pen, size, drawnGaussian.mean, drawnGaussian.logVar.map((v) => scale * Math.exp(v / 2)));
    pen.lineWidth = 3;
  }
}

// An ellipse of the plane, as the map shows it.
function ring(pen, size, [x, y], [a, b]) {
  pen.beginPath();
  for (let i = 0; i <= 72; i += 1) {
    const angle = (i * Math.PI) / 36;
    pen.lineTo(size * toShare(x + a * Math.cos(angle)), size * (1 - toShare(y + b * Math.sin(angle))));
  }
  pen.stroke();
}

function drawCodes(pen, size) {
  const codes = unpack(points.codes, Int16Array), labels = points.labels === "" ? null : unpack(points.labels, Uint8Array);
  const count = codes.length / dim, places = points.names.map(() => []), edge = toAxis(1);
  let drawn = 0;
  for (let i = 0; i < count; i += 1) {
    const code = Array.from(codes.subarray(i * dim, (i + 1) * dim), (value) => value * points.step);
    const [a, b] = onPlane(code);
    if (Math.max(Math.abs(a), Math.abs(b)) >= edge) continue; // beyond the edge of the map
    const place = [size * toShare(a), size * (1 - toShare(b))];
    if (labels) places[labels[i]].push(place);
    pen.fillStyle = labels ? COLOURS[labels[i]] : COLOURS[0];
    pen.beginPath();
    pen.arc(...place, 4, 0, 2 * Math.PI);
    pen.fill();
    drawn += 1;
  }
  pen.strokeStyle = "#ffffff";
  pen.lineWidth = 2;
  pen.setLineDash([8, 8]);
  if (dim === 2) for (const radius of [1, 2]) ring(pen, size, [0, 0], [radius, radius]);
  pen.setLineDash([]);
  Object.assign(pen, { font: "bold 30px system-ui, sans-serif", textAlign: "center", textBaseline: "middle", lineWidth: 7, strokeStyle: "#000000", fillStyle: "#ffffff" });
  places.forEach((all, label) => { // each class by its name, in the middle of its codes
    if (!all.length) return;
    const middle = [0, 1].map((d) => all.map((place) => place[d]).sort((p, q) => p - q)[Math.floor(all.length / 2)]);
    const name = points.names[label];
    pen.strokeText(name, clamp(middle[0], 60, size - 60), clamp(middle[1], 24, size - 24));
    pen.fillText(name, clamp(middle[0], 60, size - 60), clamp(middle[1], 24, size - 24));
  });
  const number = (value) => value.toLocaleString("en");
  const rings = dim === 2 ? "; rings: the prior's one and two standard deviations" : "";
  at("shown").textContent = `(${number(drawn)} of ${number(count)}; the others lie beyond the map, which ends where 2.5 % of the prior's draws are beyond each side${rings})`;
}

function makeMap() {
  const map = at("map");
  at("plane").src = run.map;
  at("map-caption").textContent = dim === 2
    ? `the latent plane: ${nameOf(0)} to the right, ${nameOf(1)} upwards; drag, or use the arrow keys`
    : "a plane through the latent space, along its two widest directions, and the point of it that is nearest to the code; drag, or use the arrow keys";
  if (dim === 1) at("plane-block").hidden = true;
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); pointTo(event); });
  map.addEventListener("pointermove", (event) => { if (map.hasPointerCapture(event.pointerId)) pointTo(event); });
  map.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.25 : 0.05;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (!(event.key in moves)) return;
    const [a, b] = onPlane(z), [right, upwards] = moves[event.key], end = atQuantile(1);
    event.preventDefault();
    stop();
    show(moveOnPlane(clamp(a + right, -end, end), clamp(b + upwards, -end, end)));
  });
  at("show-points").addEventListener("change", drawPoints);
  at("overlay").hidden = points.codes === "" || dim === 1;
  points.names.forEach((name, i) => {
    const entry = document.createElement("li"), mark = document.createElement("i");
    mark.style.background = COLOURS[i];
    entry.append(mark, name);
    at("legend").append(entry);
  });
  drawPoints();
}

// ---- The walk ------------------------------------------------------------------------------------------------

let walk = null; // the time at which it started, or null
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function stop() {
  if (walk === null) return;
  walk = null;
  at("play").textContent = "Play the spiral";
}

function tileCode(index) {
  const { side, order } = run.spiral, i = index % (order.length / 2);
  const a = atQuantile(order[2 * i + 1] / (side - 1)), b = atQuantile(1 - order[2 * i] / (side - 1));
  return plane.centre.map((value, d) => value + a * plane.x[d] + b * plane.y[d]);
}

function step(now) {
  if (walk === null) return;
  const position = Math.max(0, ((now - walk) / 1000) * (calm.matches ? CALM_WALK : WALK)), index = Math.floor(position);
  const part = calm.matches ? 0 : position - index, from = tileCode(index), to = tileCode(index + 1);
  show(from.map((value, i) => (1 - part) * value + part * to[i]));
  requestAnimationFrame(step);
}

function toggleWalk() {
  if (walk !== null) {
    stop();
    remember();
    return;
  }
  walk = performance.now();
  at("play").textContent = "Stop";
  requestAnimationFrame(step);
}

// ---- Controls ------------------------------------------------------------------------------------------------

function slider(row, { id, label, min, max, step: by, value }, changed) {
  const name = document.createElement("label"), input = document.createElement("input"), shown = document.createElement("span");
  row.className = "slider";
  Object.assign(input, { type: "range", min, max, step: by, id, value });
  input.addEventListener("input", () => changed(Number(input.value)));
  name.htmlFor = id;
  name.append(...label);
  shown.className = "value";
  shown.ariaHidden = "true"; // a screen reader has it from the slider itself
  row.append(name, input, shown);
  return input;
}

function makeSliders() {
  const order = dim === 2 ? [0, 1] : run.order;
  for (const i of order) {
    const row = document.createElement("div"), kl = document.createElement("span");
    kl.textContent = run.kl[i] > 0 ? ` ${run.kl[i].toFixed(2)} nats` : "";
    const made = slider(row, { id: `z${i + 1}`, label: [nameOf(i), kl], min: -END, max: END, step: 0.01, value: 0 }, (value) => {
      stop();
      show(z.map((old, d) => (d === i ? value : old)));
    });
    made.dataset.dimension = i;
    at("sliders").append(row);
  }
  at("slider-note").textContent = run.kl.some((value) => value > 0)
    ? `In nats: the KL of each number, which is how much it tells about an image on average.${dim > 2 ? " The ones that tell most come first." : ""}`
    : "";
}

function standardNormal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function say(words) {
  at("status").textContent = words;
  setTimeout(() => { if (at("status").textContent === words) at("status").textContent = ""; }, 4000);
}

async function copyLink() {
  remember();
  try {
    await navigator.clipboard.writeText(location.href);
    say("Copied.");
  } catch {
    say("The address bar holds the link.");
  }
}

// ---- Images: held-out ones, and the visitor's own --------------------------------------------------------------

let chosen = null; // the image (H * W * C) in 0..1 that a code is of, as the encoder sees it

// A byte as the model sees it: a bit, or the middle of its grey level.
const asSeen = (byte) => (run.binary ? byte / 255 : (byte + 0.5) / 256);

// An image's Gaussian, from the encoder.
function encode(image) {
  if (!encoder.memory) encoder.settle(memory); // not before it is needed: the first picture comes sooner
  const out = encoder.run(image, 1);
  return { mean: Array.from(out.subarray(0, dim)), logVar: Array.from(out.subarray(dim), (raw) => 20 * Math.tanh(raw / 20)) };
}

function choose(image, code, caption, gaussian) {
  stop();
  show([...code]);
  chosen = image;
  drawnGaussian = dim === 2 ? gaussian : null;
  at("original").classList.toggle("empty", !image);
  if (image) paint(at("example"), image, 255);
  at("example").setAttribute("aria-label", caption);
  at("example-caption").textContent = caption;
  drawPoints();
  closeDissection();
}

// Buttons for stored images: their pixels where the page holds them, and what their codes decode to otherwise.
function makeExamples() {
  const { codes, labels } = examples, original = examples.pixels !== "";
  const bytes = unpack(examples.pixels, Uint8Array), size = bytes.length / codes.length;
  at("example-block").hidden = codes.length === 0;
  at("example-title").textContent = original ? "Start from a held-out image" : "Start from the code of a held-out image";
  codes.forEach((code, i) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    const image = original ? Float32Array.from(bytes.subarray(i * size, (i + 1) * size), asSeen) : null;
    const name = labels.length ? `: ${labels[i]}` : "";
    setTimeout(() => paint(canvas, image ?? decode(code), 255));
    button.type = "button";
    button.setAttribute("aria-label", `held-out image ${i + 1}${name}`);
    button.append(canvas);
    button.addEventListener("click", () => {
      unpress();
      pad?.clear();
      button.setAttribute("aria-pressed", "true");
      choose(image, code, `held-out image${name}`, image && encoder ? encode(image) : null);
    });
    at("examples").append(button);
  });
}

const unpress = () => { for (const button of at("examples").children) button.removeAttribute("aria-pressed"); };

let pad = null;

function makePad() {
  at("pad-block").hidden = !encoder;
  if (!encoder) return;
  pad = new Pad(at("pad"), run.side, () => {
    const drawing = pad.image();
    if (!drawing) return;
    const seen = drawing.map((value) => asSeen(run.binary ? 255 * (value >= 0.5) : Math.round(255 * value))), gaussian = encode(seen);
    unpress();
    choose(seen, gaussian.mean, "your drawing, as the encoder sees it", gaussian);
  });
  at("clear").addEventListener("click", () => { pad.clear(); jump(z); });
}

function jump(next) {
  unpress();
  choose(null, next, "image", null);
}

// ---- The dissection: the posterior of the chosen image, and a Gaussian -----------------------------------------

const costs = (codes, count, image) => {
  const maps = decoder.run(codes, count);
  return Float64Array.from({ length: count }, (_, i) => likelihood.cost(maps, i * decoder.outputs, image, run));
};
let coarseMaps = null; // what the coarse cells of the plane decode to, for every image
let dissection = null; // { image, square, density, logPx, encoders, gaussian }
let working = 0; // the number of the newest piece of work; an older one gives up

const frame = () => new Promise((resolve) => { setTimeout(resolve); });

// f(start, count) for `count` things in pieces, with room for the page between them; false where other work has begun.
async function inPieces(mine, count, f, words) {
  let began = performance.now();
  for (let start = 0; start < count; start += AT_ONCE) {
    f(start, Math.min(AT_ONCE, count - start));
    if (performance.now() - began < SLICE) continue;
    at("dissection-status").textContent = `${words} ${Math.round((100 * start) / count)} %`;
    await frame();
    if (mine !== working) return false;
    began = performance.now();
  }
  return true;
}

async function dissect() {
  if (!chosen) { at("dissection-status").textContent = "Start from an image first, or draw one."; return; }
  const image = chosen, mine = (working += 1), plane61 = centres([-REACH, -REACH], 2 * REACH, COARSE), count = COARSE * COARSE;
  if (!coarseMaps) {
    const maps = new Float32Array(count * decoder.outputs);
    const whole = await inPieces(mine, count, (start, n) => {
      maps.set(decoder.run(plane61.subarray(2 * start, 2 * (start + n)), n), start * decoder.outputs);
    }, "decoding the plane:");
    if (!whole) return;
    coarseMaps = maps;
  }
  const coarse = new Float64Array(count);
  const summed = await inPieces(mine, count, (start, n) => {
    for (let i = start; i < start + n; i += 1) coarse[i] = likelihood.cost(coarseMaps, i * decoder.outputs, image, run);
  }, "comparing:");
  if (!summed) return;
  const encoders = encode(image);
  let grid = { corner: [-REACH, -REACH], side: 2 * REACH, n: COARSE, values: joint(plane61, coarse) };
  for (let level = 0, closer = true; level < CLOSEST && closer; level += 1) {
    const square = squareAround(grid, null);
    closer = square.side < 0.6 * grid.side;
    if (closer) grid = await jointsIn(square, mine, image);
    if (!grid) return;
  }
  const square = squareAround(grid, encoders), logPx = integral(grid), peak = peakGaussian(grid);
  const shown = await jointsIn(square, mine, image);
  if (!shown) return;
  dissection = { image, square, encoders, logPx, peak, density: shown.values.map((value) => Math.exp(value - logPx)), gaussian: encoders };
  at("dissected").hidden = false;
  for (const id of ["encoders", "best", "one-step"]) at(id).disabled = false;
  at("dissection-status").textContent = "";
  showGaussian(encoders);
}

// log p(x, z) in the cells of a square; null where other work has begun meanwhile.
async function jointsIn({ corner, side }, mine, image) {
  const cells = centres(corner, side, CELLS), found = new Float64Array(CELLS * CELLS);
  const whole = await inPieces(mine, CELLS * CELLS, (start, n) => {
    found.set(costs(cells.subarray(2 * start, 2 * (start + n)), n, image), start);
  }, "looking closer:");
  return whole ? { corner, side, n: CELLS, values: joint(cells, found) } : null;
}

function closeDissection() {
  working += 1;
  dissection = null;
  at("dissected").hidden = true;
  at("dissection-status").textContent = "";
  for (const id of ["encoders", "best", "one-step"]) at(id).disabled = true;
}

let gaussianWaits = false;

function showGaussian(gaussian) {
  at("dissection-status").textContent = "";
  dissection.gaussian = gaussian;
  if (!gaussianWaits) requestAnimationFrame(drawGaussian);
  gaussianWaits = true;
}

function drawGaussian() {
  gaussianWaits = false;
  if (!dissection) return;
  const { square, density, gaussian, logPx, image } = dissection, canvas = at("posterior"), size = 440, pen = canvas.getContext("2d");
  const small = new OffscreenCanvas(CELLS, CELLS), shades = new ImageData(CELLS, CELLS);
  const most = density.reduce((a, b) => Math.max(a, b), 1e-300);
  density.forEach((value, i) => { // upwards, and small densities are to be seen, too
    const shade = 255 * (1 - 0.85 * Math.sqrt(value / most)), place = 4 * ((CELLS - 1 - Math.floor(i / CELLS)) * CELLS + (i % CELLS));
    shades.data.set([shade, shade, shade, 255], place);
  });
  small.getContext("2d").putImageData(shades, 0, 0);
  canvas.width = canvas.height = size;
  pen.drawImage(small, 0, 0, size, size);
  const scale = size / square.side, sigma = gaussian.logVar.map((v) => Math.exp(v / 2));
  const [x, y] = [scale * (gaussian.mean[0] - square.corner[0]), size - scale * (gaussian.mean[1] - square.corner[1])];
  pen.strokeStyle = pen.fillStyle = "#b35900";
  pen.lineWidth = 3;
  for (const k of [1, 2]) { pen.beginPath(); pen.ellipse(x, y, k * scale * sigma[0], k * scale * sigma[1], 0, 0, 2 * Math.PI); pen.stroke(); }
  pen.beginPath(); pen.arc(x, y, 5, 0, 2 * Math.PI); pen.fill();
  at("posterior-caption").textContent = [0, 1].map((d) =>
    `${nameOf(d)} from ${square.corner[d].toFixed(2)} to ${(square.corner[d] + square.side).toFixed(2)}`).join(", ") + "; rings: one and two standard deviations";
  const { nll, kl } = terms(gaussian, costs, image), gap = nll + kl + logPx;
  Object.assign(dissection, { nll, kl, gap });
  drawBars(nll, kl, logPx);
  at("widths").querySelectorAll("input").forEach((input, d) => {
    input.value = Math.log10(sigma[d]);
    input.setAttribute("aria-valuetext", sigma[d].toFixed(3));
    input.parentElement.querySelector(".value").textContent = sigma[d].toFixed(3);
  });
  show([...gaussian.mean]);
}

// Two bars of the same length.
function drawBars(nll, kl, logPx) {
  const cents = (value) => Math.round(100 * value) / 100; // so that what is written adds up, too
  const total = Math.max(cents(nll) + cents(kl), 0.01), rows = [
    [["reconstruction", cents(nll), "#0072b2"], ["KL(q || prior)", cents(kl), "#b35900"]],
    [["-log p(x)", cents(-logPx), "#767676"], ["KL(q || posterior)", Math.max(total - cents(-logPx), 0), "#00735a"]],
  ];
  const words = rows.map((row) => row.map(([name, value]) => `${name} ${value.toFixed(2)}`));
  at("bars").setAttribute("aria-label", `-ELBO ${total.toFixed(2)} nats: ${words.flat().join(", ")}`);
  const title = document.createElement("p");
  title.textContent = `-ELBO ${total.toFixed(2)} nats, in two ways`;
  at("bars").replaceChildren(title, ...rows.map((row, r) => {
    const block = document.createElement("div"), bar = document.createElement("div"), legend = document.createElement("p");
    bar.className = "bar";
    row.forEach(([, value, colour], i) => {
      const part = document.createElement("i"), mark = document.createElement("i"), text = document.createElement("span");
      part.style.cssText = `width: ${(100 * Math.max(value, 0)) / total}%; background: ${colour}`;
      mark.style.background = colour;
      text.append(mark, words[r][i]);
      bar.append(part);
      legend.append(text);
    });
    block.append(bar, legend);
    return block;
  }));
}

function moveGaussian(event) {
  const box = at("posterior").getBoundingClientRect(), { square, gaussian } = dissection;
  working += 1;
  const shares = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
  showGaussian({ ...gaussian, mean: shares.map((share, d) => square.corner[d] + clamp(share, 0, 1) * square.side) });
}

// Down to the lowest cost, before one's eyes: from here, or from the highest peak, whichever costs less.
async function findBest() {
  const mine = (working += 1), { image, peak } = dissection;
  const price = (gaussian) => { const { nll, kl } = terms(gaussian, costs, image); return nll + kl; };
  let gaussian = price(peak) < price(dissection.gaussian) ? peak : dissection.gaussian;
  for (let i = 0; i < 100; i += 1) {
    const next = descended(gaussian, costs, image);
    if (!next || next.gain < 1e-4) break;
    gaussian = next.gaussian;
    showGaussian(gaussian);
    await frame();
    if (mine !== working) return;
  }
  showGaussian(gaussian);
}

function makeDissection() {
  at("dissection").hidden = !(encoder && dim === 2 && likelihood.cost);
  for (let d = 0; d < 2 && dim === 2; d += 1) {
    const row = document.createElement("div");
    slider(row, { id: `width${d}`, label: [`sigma of ${nameOf(d)}`], min: -3, max: 0.5, step: 0.01, value: -1 }, (value) => {
      working += 1;
      const logVar = [...dissection.gaussian.logVar];
      logVar[d] = 2 * Math.log(10) * value;
      showGaussian({ ...dissection.gaussian, logVar });
    });
    at("widths").append(row);
  }
  at("dissect").addEventListener("click", dissect);
  at("encoders").addEventListener("click", () => { working += 1; showGaussian(dissection.encoders); });
  at("best").addEventListener("click", findBest);
  at("one-step").addEventListener("click", () => {
    working += 1;
    const next = descended(dissection.gaussian, costs, dissection.image);
    if (next) showGaussian(next.gaussian); else at("dissection-status").textContent = "No step leads further down.";
  });
  const canvas = at("posterior");
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); moveGaussian(event); });
  canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) moveGaussian(event); });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!move) return;
    event.preventDefault();
    working += 1;
    const { gaussian, square } = dissection;
    showGaussian({ ...gaussian, mean: gaussian.mean.map((m, d) => m + (move[d] * square.side) / CELLS) });
  });
}

// ---- All together ----------------------------------------------------------------------------------------------

at("name").textContent = run.title;
at("lead").textContent = run.lead;
makeSliders();
makeMap();
makeExamples();
makePad();
makeDissection();
at("reset").addEventListener("click", () => jump(new Array(dim).fill(0)));
at("random").addEventListener("click", () => jump(z.map(standardNormal)));
at("play").addEventListener("click", toggleWalk);
at("link").addEventListener("click", copyLink);
addEventListener("keydown", ({ key }) => { if (key === "Escape") stop(); });
addEventListener("hashchange", () => { const next = fromAddress(); if (next) jump(next); });
for (const [term, text] of run.card) {
  const dt = document.createElement("dt"), dd = document.createElement("dd");
  dt.textContent = term;
  dd.textContent = text;
  at("card").append(dt, dd);
}
z = fromAddress() ?? z;
draw();
globalThis.explorer = {
  decode, encode: encoder && ((image) => encode(Float32Array.from(image))), milliseconds, firstPicture: performance.now(), code: () => [...z],
  dissection: () => dissection && { log_px: dissection.logPx, nll: dissection.nll, kl: dissection.kl, gap: dissection.gap, ...dissection.gaussian },
  simd: memory.simd,
};
