// The page: one code z, shown as sliders, as a point on the map and as the image that it decodes to.

const FARTHEST = 1e4; // that an address may ask for
const END = 2.58; // of a slider: half a percent of the prior lies beyond each end
const WALK = 12; // tiles a second
const COLOURS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#d4d4d4"];

const run = JSON.parse(document.getElementById("content").textContent);
const at = (id) => document.getElementById(id);
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const { decoder: packed, plane, points, examples } = run;
const dim = run.order.length;
const decoder = new Decoder(packed.layers, unpack(packed.weights, Uint8Array), unpack(packed.columns, Float32Array), run.mean,
  run.logScale);
let z = new Array(dim).fill(0);

// ---- Pictures ----------------------------------------------------------------------------------------------

function paint(canvas, values, scale) {
  const { side, channels } = run, pixels = new ImageData(side, side);
  for (let i = 0; i < side * side; i += 1) {
    for (let c = 0; c < 3; c += 1) pixels.data[4 * i + c] = values[channels === 3 ? 3 * i + c : i] * scale; // the array rounds
    pixels.data[4 * i + 3] = 255;
  }
  canvas.width = canvas.height = side;
  canvas.classList.toggle("crisp", side < 64);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

let waiting = false;
const milliseconds = []; // of the last decodings, for whoever measures

function draw() {
  waiting = false;
  const start = performance.now();
  paint(at("image"), decoder.decode(z), 255);
  placeMarker();
  for (const slider of at("sliders").querySelectorAll("input")) {
    const value = z[slider.dataset.dimension];
    if (document.activeElement !== slider || Math.abs(slider.value - value) > 0.006) slider.value = value;
    slider.parentElement.querySelector("output").value = value.toFixed(2);
  }
  milliseconds.push(performance.now() - start);
  if (milliseconds.length > 1000) milliseconds.shift();
}

let remembered;

// Show the code `next`: at most one decoding a frame, and the address follows when the hand rests.
function show(next) {
  z = next;
  if (!waiting) requestAnimationFrame(draw);
  waiting = true;
  clearTimeout(remembered);
  if (walk === null) remembered = setTimeout(remember, 250);
}

function remember() {
  try {
    history.replaceState(null, "", `#z=${z.map((value) => value.toFixed(3)).join(",")}`);
  } catch { /* a frame without an address of its own */ }
}

function fromAddress() {
  const found = /^#z=([-0-9.,e]+)$/.exec(location.hash);
  const values = found ? found[1].split(",").map(Number) : [];
  return values.length === dim && values.every(Number.isFinite) ? values.map((value) => clamp(value, -FARTHEST, FARTHEST)) : null;
}

// ---- The map: a plane through the latent space, in equal steps of the prior's probability --------------------

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const [lowest, highest] = run.quantiles;
const toShare = (a) => clamp((normalCdf(a) - lowest) / (highest - lowest), 0, 1);
const toAxis = (share) => normalQuantile(lowest + clamp(share, 0, 1) * (highest - lowest));
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
  const [a, b] = onPlane(z);
  at("marker").style.left = `${100 * toShare(a)}%`;
  at("marker").style.top = `${100 * (1 - toShare(b))}%`;
}

function pointTo(event) {
  const box = at("map").getBoundingClientRect();
  stop();
  show(moveOnPlane(toAxis((event.clientX - box.left) / box.width), toAxis(1 - (event.clientY - box.top) / box.height)));
}

function drawPoints() {
  const canvas = at("points"), shown = at("show-points").checked && points.codes !== "";
  at("plane").classList.toggle("dimmed", shown);
  canvas.width = canvas.height = 880;
  if (!shown) return;
  const pen = canvas.getContext("2d"), codes = unpack(points.codes, Int16Array);
  const labels = points.labels === "" ? null : unpack(points.labels, Uint8Array), count = codes.length / dim;
  let drawn = 0;
  for (let i = 0; i < count; i += 1) {
    const code = Array.from(codes.subarray(i * dim, (i + 1) * dim), (value) => value * points.step);
    const [x, y] = onPlane(code).map(toShare);
    if (x * (1 - x) * y * (1 - y) === 0) continue; // beyond the edge of the map
    pen.fillStyle = labels ? COLOURS[labels[i] % COLOURS.length] : "#ffb74d";
    pen.beginPath();
    pen.arc(880 * x, 880 * (1 - y), 4, 0, 2 * Math.PI);
    pen.fill();
    drawn += 1;
  }
  const number = (value) => value.toLocaleString("en");
  at("shown").textContent = `(${number(drawn)} of ${number(count)}; the others lie beyond the map)`;
}

function makeMap() {
  const map = at("map");
  at("plane").src = run.map;
  at("map-caption").textContent = dim === 2
    ? "the latent plane; drag, or use the arrow keys"
    : "a plane through the latent space, along its two widest directions, and the point of it that is nearest to the code; drag, or use the arrow keys";
  if (dim === 1) at("map-figure").hidden = true;
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); pointTo(event); });
  map.addEventListener("pointermove", (event) => { if (map.hasPointerCapture(event.pointerId)) pointTo(event); });
  map.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.25 : 0.05;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (!(event.key in moves)) return;
    const [a, b] = onPlane(z), [right, up] = moves[event.key], end = toAxis(1);
    event.preventDefault();
    stop();
    show(moveOnPlane(clamp(a + right, -end, end), clamp(b + up, -end, end)));
  });
  at("show-points").addEventListener("change", drawPoints);
  at("overlay").hidden = points.codes === "" || dim === 1;
  points.names.forEach((name, i) => {
    const entry = document.createElement("li"), mark = document.createElement("i");
    mark.style.background = COLOURS[i % COLOURS.length];
    entry.append(mark, name);
    at("legend").append(entry);
  });
  drawPoints();
}

// ---- The walk ------------------------------------------------------------------------------------------------

let walk = null; // the time at which it started, or null

function stop() {
  if (walk === null) return;
  walk = null;
  at("play").setAttribute("aria-pressed", "false");
}

function tileCode(index) {
  const { tiles, order } = run.spiral, i = index % (order.length / 2);
  const a = toAxis(order[2 * i + 1] / (tiles - 1)), b = toAxis(1 - order[2 * i] / (tiles - 1));
  return plane.centre.map((value, d) => value + a * plane.x[d] + b * plane.y[d]);
}

function step(now) {
  if (walk === null) return;
  const position = Math.max(0, ((now - walk) / 1000) * WALK), index = Math.floor(position), part = position - index;
  const from = tileCode(index), to = tileCode(index + 1);
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
  at("play").setAttribute("aria-pressed", "true");
  requestAnimationFrame(step);
}

// ---- Controls ------------------------------------------------------------------------------------------------

function makeSliders() {
  for (const i of run.order) {
    const row = document.createElement("div"), label = document.createElement("label");
    const slider = document.createElement("input"), value = document.createElement("output"), kl = document.createElement("span");
    row.className = "slider";
    Object.assign(slider, { type: "range", min: -END, max: END, step: 0.01, id: `z${i + 1}`, value: 0 });
    slider.dataset.dimension = i;
    slider.addEventListener("input", () => {
      stop();
      show(z.map((old, d) => (d === i ? Number(slider.value) : old)));
    });
    label.htmlFor = slider.id;
    value.htmlFor = slider.id;
    kl.textContent = run.kl[i] > 0 ? `${run.kl[i].toFixed(2)} nats` : "";
    label.append(`z${i + 1} `, kl);
    row.append(label, slider, value);
    at("sliders").append(row);
  }
}

function standardNormal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

async function copyLink() {
  remember();
  try {
    await navigator.clipboard.writeText(location.href);
    at("status").textContent = "Copied.";
  } catch {
    at("status").textContent = "The address bar holds the link.";
  }
  setTimeout(() => { at("status").textContent = ""; }, 3000);
}

// Buttons for stored images: their pixels where the page holds them, and what their codes decode to otherwise.
function makeExamples() {
  const { codes, labels } = examples, original = examples.pixels !== "";
  const pixels = unpack(examples.pixels, Uint8Array), size = pixels.length / codes.length;
  at("example-block").hidden = codes.length === 0;
  at("example-title").textContent = original ? "Start from a held-out image" : "Start from the code of a held-out image";
  codes.forEach((code, i) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    const image = pixels.subarray(i * size, (i + 1) * size), name = labels.length ? `: ${labels[i]}` : "";
    setTimeout(() => (original ? paint(canvas, image, 1) : paint(canvas, decoder.decode(code), 255)));
    button.type = "button";
    button.setAttribute("aria-label", `held-out image ${i + 1}${name}`);
    button.append(canvas);
    button.addEventListener("click", () => {
      jump([...code]);
      if (!original) return;
      paint(at("example"), image, 1);
      at("example-caption").textContent = `held-out image${name}`;
      at("original").hidden = false;
    });
    at("examples").append(button);
  });
}

function jump(next) {
  stop();
  at("original").hidden = true;
  show(next);
}

at("name").textContent = run.name;
at("lead").textContent = [`${dim} latent dimensions`, ...run.card.slice(0, 1).map((row) => row[1])].join("; ") + ". Decoded in this page.";
makeSliders();
makeMap();
makeExamples();
at("reset").addEventListener("click", () => jump(new Array(dim).fill(0)));
at("random").addEventListener("click", () => jump(z.map(standardNormal)));
at("play").addEventListener("click", toggleWalk);
at("link").addEventListener("click", copyLink);
addEventListener("hashchange", () => { const next = fromAddress(); if (next) jump(next); });
for (const [term, text] of run.card) {
  const dt = document.createElement("dt"), dd = document.createElement("dd");
  dt.textContent = term;
  dd.textContent = text;
  at("card").append(dt, dd);
}
z = fromAddress() ?? z;
draw();
globalThis.explorer = { decoder, milliseconds, firstPicture: performance.now(), code: () => [...z] };
