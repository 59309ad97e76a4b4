// The page: settings, pictures and curves around a lesson that runs in a worker made from this page.

const at = (id) => document.getElementById(id);
const content = JSON.parse(at("content").textContent);
const FRAMES = 60, YELLOW = "#ffd54f"; // of what belongs to the drawing
const COLOURS = content.colours;

// ---- Settings ----------------------------------------------------------------------------------------------
// Each with its values, in the order in which they are shown; `live` ones may change while it learns.

const SETTINGS = {
  beta: { label: "beta, the weight of the KL", values: [0, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60], start: 1, live: true },
  rate: { label: "learning rate", values: [1e-4, 3e-4, 1e-3, 2e-3, 5e-3, 1e-2, 3e-2], start: 2e-3, live: true },
  batch: { label: "images in a batch", values: [4, 16, 50, 100, 200], start: 50, live: true },
  bug: { label: "a mistake in the loss", live: true, start: "none", choices: {
    none: "none", "kl-mean": "KL averaged over dimensions", "kl-sign": "sign of the KL flipped", "nll-mean": "nll averaged over pixels",
    sigma: "sigma for log sigma squared", "no-gradient": "no gradient through the draw", "double-sigmoid": "a sigmoid too many" } },
  frozen: { label: "only the encoder learns", live: true, start: false },
  data: { label: "images", start: "digits", choices: {
    digits: "digits, black and white", garments: "garments, grey", dots: "a dot, somewhere", bars: "a bar, turned" } },
  likelihood: { label: "likelihood of a pixel", start: "bernoulli", choices: {
    bernoulli: "Bernoulli", continuous_bernoulli: "continuous Bernoulli", gaussian: "Gaussian" } },
  latent: { label: "latent dimensions", values: [1, 2, 3, 5, 8, 16], start: 2 },
  hidden: { label: "hidden units", values: [16, 32, 64, 128, 256, 512], start: 128 },
  seed: { label: "seed", values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], start: 0 },
};
const state = Object.fromEntries(Object.entries(SETTINGS).map(([name, { start }]) => [name, start]));
let hidden = []; // controls that the address hides

const EXPERIMENTS = [
  { name: "The plane forms", set: {}, text: "Press Play. At first every place of the plane draws the same grey mixture; within seconds digits appear, and the codes of held-out images, which are not used for training, find their regions. Drag the ring through the plane." },
  { name: "A world of two numbers", set: { data: "dots" }, text: "Each image shows one dot, so two numbers say all there is to say: how far right it lies, and how far up. Press Play, and within two minutes the plane becomes a map of the places; the letters are compass points. It need not be upright, it may be mirrored, and folds with two dots in a picture go last: nothing asks for an order." },
  { name: "A circle on a plane", set: { data: "bars" }, text: "Press Play. A bar is turned by some angle and more or less long. After half a turn a bar looks as it did, so its angles form a circle, and a circle cannot be laid on the plane like a grid. Find out how the model helps itself: look for the place around which the angles (the labels) turn, or for a seam." },
  { name: "Collapse and revival", set: { beta: 60 }, text: "With a beta of 60 the KL costs more than it saves: all dots fall to the middle, and every place draws the same digit. Let it learn until nothing moves, then set beta back to 1. Does it recover, and how fast?" },
  { name: "A mean in the wrong place", set: { bug: "nll-mean" }, text: "The reconstruction cost is averaged over the 784 pixels, while the KL is not, which is a beta of 784. It looks like collapse, because it is one. Take the mistake out while it learns." },
  { name: "Two numbers for ten digits", set: { latent: 2 }, text: "Note the -ELBO after a minute. Then choose 8 latent dimensions and start again: the cost falls far below. What is lost is the plane; the point now moves through the first two dimensions only." },
  { name: "An encoder that lags behind", set: { frozen: false }, text: "Let it learn for a minute. The distance between the -ELBO and the exact cost is what the encoder misses. Now let only the encoder learn: the exact cost stands still, and the -ELBO comes closer, and never crosses it." },
  { name: "The encoder without a gradient", set: { bug: "no-gradient" }, text: "The draw is cut out of the gradient, so nothing tells the encoder where a code should lie; the KL pulls all of them to the middle. The symptoms are those of collapse, but no beta helps. Take the mistake out, and watch the dots leave the middle." },
];

function control(name) {
  const { label, values, choices } = SETTINGS[name], row = document.createElement("div");
  row.className = "slider";
  row.id = `row-${name}`;
  if (choices) {
    row.innerHTML = `<label for="${name}">${label}</label><select id="${name}"></select><output></output>`;
    for (const [value, text] of Object.entries(choices)) row.querySelector("select").add(new Option(text, value));
  } else if (values) {
    row.innerHTML = `<label for="${name}">${label}</label><input id="${name}" type="range" min="0" max="${values.length - 1}" step="1"><output for="${name}"></output>`;
  } else row.innerHTML = `<label for="${name}">${label}</label><input id="${name}" type="checkbox"><output></output>`;
  row.querySelector("input, select").addEventListener("input", ({ target }) => {
    state[name] = values ? values[target.value] : choices ? target.value : target.checked;
    if (name === "data") state.likelihood = state.data === "garments" ? "continuous_bernoulli" : "bernoulli";
    showSettings();
    remember();
    if (SETTINGS[name].live) tell({ do: "set", settings: state });
    else start();
  });
  return row;
}

function showSettings() {
  for (const [name, { values, choices }] of Object.entries(SETTINGS)) {
    const row = at(`row-${name}`), input = at(name);
    if (values) {
      input.value = values.indexOf(state[name]);
      input.setAttribute("aria-valuetext", state[name]);
      row.querySelector("output").textContent = state[name];
    } else if (choices) input.value = state[name];
    else input.checked = state[name];
    row.hidden = hidden.includes(name);
  }
}

function remember() {
  const changed = Object.entries(state).filter(([name, value]) => value !== SETTINGS[name].start).map(([name, value]) => `${name}=${value}`);
  if (hidden.length) changed.push(`hide=${hidden.join("+")}`);
  try { history.replaceState(null, "", `#${changed.join("&")}`); } catch { /* a frame without an address of its own */ }
}

function fromAddress() {
  for (const part of location.hash.slice(1).split("&")) {
    const [name, text = ""] = part.split("=");
    if (name === "hide") hidden = text.split("+").filter((control) => at(control) || SETTINGS[control]);
    if (!SETTINGS[name]) continue;
    const { values, choices } = SETTINGS[name], value = values ? Number(text) : choices ? text : text === "true";
    if (values ? values.includes(value) : choices ? value in choices : true) state[name] = value;
  }
  for (const id of hidden) if (at(id)) at(id).hidden = true;
}

// ---- The lesson --------------------------------------------------------------------------------------------

let receive = null, worker = null, latest = null, curve = [], frames = [], questions = 0;
const waiting = new Map();
let point = [0, 0]; // the code under the ring
let drawn = null; // the code of the visitor's drawing
let joined = null; // by how many pixels its reconstruction was off when its copies joined the training images

function tell(message) { if (worker) worker.postMessage(message); else receive(message); }

// A question with an answer of its own.
function ask(message) {
  questions += 1;
  return new Promise((resolve) => { waiting.set(questions, resolve); tell({ ...message, id: questions }); });
}

function open() {
  try {
    worker = new Worker(URL.createObjectURL(new Blob([at("engine").textContent], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => heard(data);
  } catch { // no worker here: the page itself learns, in slices
    receive = startLesson(heard, (turn, wait) => setTimeout(turn, Math.max(wait, 4)));
  }
}

function heard(message) {
  if (message.type === "progress") {
    latest = message;
    curve.push({ seen: message.seen, nll: message.nll, kl: message.kl, logPx: message.logPx, trainNll: message.trainNll, trainKl: message.trainKl });
    if (curve.length > 2000) curve = curve.filter((_, i) => i % 2 === 0);
    keepFrame(message);
    if (!drawing) requestAnimationFrame(draw);
    drawing = true;
  } else {
    waiting.get(message.id)?.(message);
    waiting.delete(message.id);
  }
}

// A slider for each dimension after the second: it moves the plane through the others, and the point with it.
function showOthers() {
  point = Array.from({ length: Math.max(2, state.latent) }, (_, i) => point[i] ?? 0);
  at("others").replaceChildren(...point.slice(2).map((_, i) => {
    const row = document.createElement("div"), name = `z${i + 3}`;
    row.className = "slider";
    row.innerHTML = `<label for="${name}">${name}</label><input id="${name}" type="range" min="-2.5" max="2.5" step="0.1"><output for="${name}"></output>`;
    row.querySelector("input").addEventListener("input", ({ target }) => { point[i + 2] = Number(target.value); placeOthers(); decodePoint(); });
    return row;
  }));
  placeOthers();
}

function placeOthers() {
  point.slice(2).forEach((value, i) => {
    const row = at(`z${i + 3}`);
    row.value = value;
    row.nextElementSibling.textContent = value.toFixed(1);
  });
  if (point.length > 2 && latest?.perDimension.length === point.length) tell({ do: "at", others: point.slice(2) });
}

function start() {
  curve = []; frames = []; point = [0, 0]; [drawn, posterior] = [null, null];
  clearTimeout(posteriorTimer);
  at("status").textContent = "";
  showOthers();
  tell({ do: "start", settings: state });
  if (at("play").getAttribute("aria-pressed") === "true") tell({ do: "play", steps: 0 });
}

// ---- Pictures ----------------------------------------------------------------------------------------------

let drawing = false;

function greyscale(pixels, columns, canvas) {
  const rows = pixels.length / (SIDE * SIDE) / columns, image = new ImageData(columns * SIDE, rows * SIDE), words = new Uint32Array(image.data.buffer);
  for (let t = 0; t < rows * columns; t += 1) {
    const x0 = (t % columns) * SIDE, y0 = Math.floor(t / columns) * SIDE;
    for (let y = 0; y < SIDE; y += 1) {
      let to = (y0 + y) * columns * SIDE + x0, from = t * SIDE * SIDE + y * SIDE;
      for (let x = 0; x < SIDE; x += 1, to += 1, from += 1) words[to] = 0xff000000 | (pixels[from] * 0x010101);
    }
  }
  if (canvas.width !== image.width || canvas.height !== image.height) [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function keepFrame({ seen, plane }) {
  if (frames.length && frames.at(-1).seen === seen) frames.pop();
  frames.push({ seen, plane });
  if (frames.length > FRAMES) frames = frames.filter((_, i) => i % 2 === 0 || i === frames.length - 1);
  const slider = at("frame"), wasLast = Number(slider.value) === Number(slider.max);
  slider.max = frames.length - 1;
  if (wasLast) slider.value = slider.max;
}

function draw() {
  drawing = false;
  if (!latest || !frames.length) return; // nothing is known yet of a model that has just been made
  const frame = frames[Number(at("frame").value)] ?? frames.at(-1), now = frame === frames.at(-1);
  greyscale(frame.plane, TILES, at("plane"));
  at("frame-name").textContent = now ? "now" : `the plane after ${frame.seen.toLocaleString("en")} images; all else is now`;
  drawCodes(now);
  drawCurves();
  const pairs = new Uint8ClampedArray(latest.shown.length * 2);
  pairs.set(latest.shown); pairs.set(latest.restored, latest.shown.length);
  greyscale(pairs, latest.shown.length / (SIDE * SIDE), at("pairs"));
  if (pad.image() && (latest.playing || !drawn)) encodeDrawing(false);
  showNumbers();
  at("verdict").textContent = verdict();
  decodePoint();
}

const toShare = (z) => (normalCdf(z) - PLANE_END) / (1 - 2 * PLANE_END);
// The middle of the first tile lies at the first quantile, that of the last one at the last.
const toPlane = (z) => (0.5 + clamp(toShare(z), 0, 1) * (TILES - 1)) / TILES;
const fromPlane = (share) => normalQuantile(PLANE_END + (1 - 2 * PLANE_END) * clamp((share * TILES - 0.5) / (TILES - 1), 0, 1));

function drawCodes(now) {
  const canvas = at("codes"), { codes } = latest, latent = latest.perDimension.length, size = 784;
  canvas.width = canvas.height = size;
  const shown = at("show-codes").checked && now;
  at("plane").classList.toggle("dimmed", shown);
  const pen = canvas.getContext("2d");
  Object.assign(pen, { font: "bold 20px system-ui, sans-serif", textAlign: "center", textBaseline: "middle" });
  const ellipse = (mean, sigma, colour, width, name) => {
    const [x, y] = [mean[0], latent > 1 ? mean[1] : 0], s = latent > 1 ? sigma[1] : 0.2;
    const left = toPlane(x - sigma[0]) * size, right = toPlane(x + sigma[0]) * size, top = (1 - toPlane(y + s)) * size, bottom = (1 - toPlane(y - s)) * size;
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = width;
    pen.globalAlpha = name === "" ? 1 : 0.5;
    pen.beginPath();
    pen.ellipse((left + right) / 2, (top + bottom) / 2, Math.max((right - left) / 2, 1), Math.max((bottom - top) / 2, 1), 0, 0, 2 * Math.PI);
    pen.stroke();
    pen.globalAlpha = 1;
    const [px, py] = [clamp(toPlane(x) * size, 9, size - 9), clamp((1 - toPlane(y)) * size, 11, size - 11)];
    pen.lineWidth = 4;
    pen.strokeStyle = "#000000";
    pen.strokeText(name, px, py);
    pen.fillText(name, px, py);
  };
  if (shown) {
    const { labels, names } = content.sets[state.data];
    let beyond = 0;
    for (let i = 0; i < codes.length; i += 2 * latent) {
      if (Math.max(Math.abs(codes[i]), latent > 1 ? Math.abs(codes[i + 1]) : 0) > fromPlane(1)) { beyond += 1; continue; }
      ellipse(codes.subarray(i, i + latent), codes.subarray(i + latent, i + 2 * latent), COLOURS[labels[i / (2 * latent)]], 1.5, names[labels[i / (2 * latent)]]);
    }
    at("beyond").textContent = beyond ? `(${beyond} of ${labels.length} lie beyond the plane)` : "";
  }
  if (posterior && now && latent === 2) drawPosterior(pen, size);
  if (drawn && drawn.mean.length === latent) ellipse(drawn.mean, drawn.sigma, YELLOW, 5, "");
}

// Where the drawing's code can lie: each cell of the plane as opaque as its density.
function drawPosterior(pen, size) {
  const side = Math.sqrt(posterior.length), axis = wideAxis(side);
  const edges = Array.from({ length: side + 1 }, (_, i) =>
    size * toPlane(i === 0 ? -9 : i === side ? 9 : (axis[i - 1] + axis[i]) / 2));
  pen.fillStyle = YELLOW;
  posterior.forEach((density, cell) => {
    if (density < 0.02) return;
    const [column, row] = [cell % side, Math.floor(cell / side)];
    pen.globalAlpha = 0.75 * density;
    pen.fillRect(edges[column], size - edges[row + 1], edges[column + 1] - edges[column], edges[row + 1] - edges[row]);
  });
  pen.globalAlpha = 1;
}

function drawCurves() {
  const canvas = at("curves"), ratio = 2, width = canvas.clientWidth || 560, height = 200;
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.body);
  pen.scale(ratio, ratio);
  pen.font = "12px system-ui, sans-serif";
  const rows = curve.filter((row) => Number.isFinite(row.nll + row.kl));
  if (rows.length < 2) return;
  const totals = rows.map((row) => row.nll + row.kl).sort((a, b) => a - b), last = rows.at(-1);
  const high = totals[Math.floor(0.97 * (totals.length - 1))], low = Math.min(totals[0] - 2 * Math.abs(last.kl) - 4, ...rows.map((row) => row.nll));
  const x = (row) => 44 + (width - 56) * (row.seen / Math.max(last.seen, 1)), y = (value) => 8 + (height - 34) * clamp((high - value) / (high - low || 1), 0, 1);
  const area = (upper, lower, colour) => {
    pen.fillStyle = colour;
    pen.beginPath();
    rows.forEach((row, i) => (i ? pen.lineTo(x(row), y(upper(row))) : pen.moveTo(x(row), y(upper(row)))));
    [...rows].reverse().forEach((row) => pen.lineTo(x(row), y(lower(row))));
    pen.fill();
  };
  const line = (value, colour, dash = []) => {
    const there = rows.filter((row) => Number.isFinite(value(row)));
    pen.strokeStyle = colour; pen.lineWidth = 2; pen.setLineDash(dash);
    pen.beginPath();
    there.forEach((row, i) => (i ? pen.lineTo(x(row), y(value(row))) : pen.moveTo(x(row), y(value(row)))));
    pen.stroke(); pen.setLineDash([]);
  };
  area((row) => row.nll, () => low, "#4e79a799");
  area((row) => row.nll + row.kl, (row) => row.nll, "#f28e2b99");
  line((row) => row.nll + row.kl, style.color);
  line((row) => row.trainNll + row.trainKl, style.color, [3, 3]);
  pen.fillStyle = "#b3261e"; // now and then, so no line: it would cross the others where they are steep
  for (const row of rows.filter(({ logPx }) => Number.isFinite(logPx))) {
    pen.beginPath();
    pen.arc(x(row), y(-row.logPx), 3, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.fillStyle = style.color;
  for (let i = 0; i <= 3; i += 1) pen.fillText((low + ((high - low) * i) / 3).toFixed(0), 4, y(low + ((high - low) * i) / 3) + 4);
  pen.fillText(`${last.seen.toLocaleString("en")} images seen`, Math.max(44, width - 150), height - 6);
  pen.fillText("nats an image", 44, height - 6);
}

const number = (value, digits = 1) => (Number.isFinite(value) ? value.toFixed(digits) : "not finite");

function showNumbers() {
  const rows = [
    ["-ELBO of held-out images", `${number(-latest.elbo)} nats`],
    ["reconstruction + KL", `${number(latest.nll)} + ${number(latest.kl)}`],
    ["exact cost -log p(x)", lastExactRow() ? `${number(-lastExact())} nats, when the -ELBO was ${number(lastExactRow().nll + lastExactRow().kl)}` : latest.perDimension.length === 2 ? "..." : "for two dimensions only"],
    ["of training images, lately", latest.trainNll === undefined ? "" : `${number(latest.trainNll + latest.trainKl)} nats`],
    ["seen", `${latest.seen.toLocaleString("en")} images, ${number(latest.epoch)} epochs, ${Math.round(latest.speed).toLocaleString("en")} a second`],
  ];
  at("numbers").replaceChildren(...rows.flatMap(([name, text]) => {
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, value.textContent] = [name, text];
    return [term, value];
  }));
}

const lastExactRow = () => curve.findLast((row) => Number.isFinite(row.logPx));
const lastExact = () => lastExactRow()?.logPx;

// What is off with the model, in a sentence, from what can be measured.
function verdict() {
  const { nll, kl, perDimension, seen, epoch } = latest;
  if (!Number.isFinite(nll + kl)) return "The numbers are not finite: start again with a smaller learning rate, or without the mistake.";
  if (seen < 2000) return "";
  const collapsed = perDimension.filter((value) => value < 0.01).length;
  if (kl < 0.1 * perDimension.length) return `Posterior collapse: the KL is ${kl.toFixed(3)} nats, so the code says nothing about the image.`;
  if (collapsed) return `${collapsed} of ${perDimension.length} dimensions are not used: their KL is below 0.01 nats.`;
  if (kl > 8 * perDimension.length) return `The KL is ${kl.toFixed(0)} nats: codes lie far from where the prior expects them, and draws from it will not be images.`;
  if (epoch > 3 && latest.trainNll + latest.trainKl < nll + kl - 8) return "Held-out images cost more than training images: the model learns these by heart.";
  return "Nothing is off.";
}

// ---- The point, and the pad ---------------------------------------------------------------------------------

let decoding = false, stale = false;

async function decodePoint() {
  at("marker").style.left = `${100 * toPlane(point[0])}%`;
  at("marker").style.top = `${100 * (1 - toPlane(point[1]))}%`;
  if (decoding || !latest) { stale = true; return; }
  [decoding, stale] = [true, false];
  const code = point.slice(0, latest.perDimension.length);
  const { pixels } = await ask({ do: "decode", codes: code });
  decoding = false;
  if (stale) decodePoint(); // the point has moved meanwhile
  greyscale(pixels, 1, at("decoded"));
  at("decoded-name").textContent = `decoded at (${code.map((value) => value.toFixed(2)).join(", ")})`;
}

function pointTo(event) {
  const box = at("map").getBoundingClientRect();
  [point[0], point[1]] = [fromPlane((event.clientX - box.left) / box.width), fromPlane(1 - (event.clientY - box.top) / box.height)];
  decodePoint();
}

const pad = new Pad(at("pad"), SIDE, () => encodeDrawing());

// The drawing in bytes, and for digits in black and white.
function drawing28() {
  const image = pad.image();
  return image && Uint8Array.from(image, (value) => (state.data === "garments" ? 255 * value : 255 * (value >= 0.5)));
}

// By how many pixels the reconstruction of the drawing is off, as the sum of all differences.
const pixelsOff = (image) => Math.round(image.reduce((sum, value, i) => sum + Math.abs(value - drawn.pixels[i]), 0) / 255);

let posterior = null, posteriorTimer; // of the drawing, in cells of the plane

// The drawing's code now; with `move` the ring goes there, and its posterior follows when the hand rests.
async function encodeDrawing(move = true) {
  const image = drawing28();
  if (!image || !latest) { [drawn, posterior, joined] = [null, null, null]; drawCodes(isNow()); return; }
  drawn = await ask({ do: "encode", image });
  if (move) [posterior, joined] = [null, null];
  else if (joined !== null) at("status").textContent = `40 copies of your drawing are learned from: its reconstruction was ${joined} pixels off, and is ${pixelsOff(image)} now`;
  clearTimeout(posteriorTimer);
  posteriorTimer = setTimeout(async () => {
    posterior = (await ask({ do: "posterior", image })).cells;
    if (!pad.image()) posterior = null; // it was wiped off meanwhile
    drawCodes(isNow());
  }, move ? 200 : 0);
  if (!move) return;
  drawn.mean.forEach((value, i) => { point[i] = value; });
  placeOthers();
  greyscale(drawn.pixels, 1, at("decoded"));
  const shade = drawn.mean.length === 2 ? "; yellow ring: the encoder's guess, yellow shade: where its code can lie" : "";
  at("status").textContent = `your drawing lies at (${drawn.mean.slice(0, 2).map((value) => value.toFixed(2)).join(", ")}), spread ${drawn.sigma[0].toFixed(2)}${shade}`;
  drawCodes(isNow());
  decodePoint();
}

// ---- Wiring ------------------------------------------------------------------------------------------------

const isNow = () => at("frame").value === at("frame").max;

function toNow() {
  at("frame").value = at("frame").max;
  draw();
}

function press(button, on) { at(button).setAttribute("aria-pressed", String(on)); }

function wire() {
  for (const name of Object.keys(SETTINGS)) at(SETTINGS[name].live ? "live" : "fixed").append(control(name));
  EXPERIMENTS.forEach(({ name }, i) => at("experiment").add(new Option(name, i)));
  at("experiment").addEventListener("input", ({ target }) => choose(EXPERIMENTS[target.value]));
  at("play").addEventListener("click", () => {
    const on = at("play").getAttribute("aria-pressed") !== "true";
    press("play", on);
    at("play").textContent = on ? "Pause" : "Play";
    if (on) toNow();
    tell(on ? { do: "play", steps: 0 } : { do: "pause" });
  });
  at("step").addEventListener("click", () => tell({ do: "play", steps: 1 }));
  at("epoch").addEventListener("click", () => tell({ do: "epoch" }));
  at("slow").addEventListener("click", () => {
    const on = at("slow").getAttribute("aria-pressed") !== "true";
    press("slow", on);
    tell({ do: "slow", on });
    if (on && at("play").getAttribute("aria-pressed") !== "true") at("play").click();
  });
  at("restart").addEventListener("click", start);
  at("link").addEventListener("click", async () => {
    remember();
    try { await navigator.clipboard.writeText(location.href); at("status").textContent = "copied"; } catch { at("status").textContent = "the address is the link"; }
  });
  at("frame").addEventListener("input", draw);
  addEventListener("keydown", ({ key }) => { if (key === "Escape") toNow(); });
  at("show-codes").addEventListener("input", draw);
  at("map").addEventListener("pointerdown", (event) => { at("map").setPointerCapture(event.pointerId); pointTo(event); });
  at("map").addEventListener("pointermove", (event) => { if (event.buttons) pointTo(event); });
  at("map").addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
    if (!move) return;
    event.preventDefault();
    [point[0], point[1]] = move.map((value, i) => clamp(point[i] + value, -2.3, 2.3));
    decodePoint();
  });
  at("clear").addEventListener("click", () => { pad.clear(); at("status").textContent = ""; encodeDrawing(); });
  at("learn-it").addEventListener("click", () => {
    const image = drawing28();
    if (!image) { at("status").textContent = "draw something first"; return; }
    tell({ do: "add", image, copies: 40 });
    if (drawn) joined = pixelsOff(image);
    at("status").textContent = "40 copies of your drawing join the training images";
  });
}

function choose({ set, text }) {
  for (const [name, setting] of Object.entries(SETTINGS)) state[name] = set[name] ?? setting.start;
  at("story").textContent = text;
  showSettings();
  remember();
  start();
}

// Deflated and packed images of the page, to bytes 0..255: one bit or four bits a pixel.
async function unpackImages({ packed, bits }) {
  const stream = new Blob([Uint8Array.from(atob(packed), (c) => c.charCodeAt(0))]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), each = 8 / bits, most = 2 ** bits - 1;
  const pixels = new Uint8Array(bytes.length * each);
  for (let i = 0; i < pixels.length; i += 1) pixels[i] = Math.round((255 * ((bytes[Math.floor(i / each)] >> (8 - bits * (1 + (i % each)))) & most)) / most);
  return pixels;
}

// Images with two numbers in them: a dot at a place, or a bar with an angle and a length; labels are quarters of the range.
function toys(name, count, seed) {
  const chance = new Chance(seed), images = new Uint8Array(count * SIDE * SIDE), labels = [];
  for (let n = 0; n < count; n += 1) {
    const [a, b] = [chance.uniform(), chance.uniform()], [sin, cos] = [Math.sin(Math.PI * a), Math.cos(Math.PI * a)];
    labels.push(name === "dots" ? 2 * (b >= 0.5) + (a >= 0.5) : Math.floor(4 * a));
    for (let i = 0; i < SIDE * SIDE; i += 1) {
      const x = (i % SIDE) - 13.5, y = 13.5 - Math.floor(i / SIDE), along = x * cos + y * sin, off = y * cos - x * sin;
      const inside = name === "dots" ? Math.hypot(x - 16 * (a - 0.5), y - 16 * (b - 0.5)) < 4 : Math.abs(off) < 1.6 && Math.abs(along) < 4 + 8 * b;
      images[n * SIDE * SIDE + i] = inside ? 255 : 0;
    }
  }
  return { images, labels };
}

const TOYS = { dots: ["SW", "SE", "NW", "NE"], bars: ["0\u00b0", "45\u00b0", "90\u00b0", "135\u00b0"] };

async function main() {
  open();
  wire();
  fromAddress();
  showSettings();
  const prepared = EXPERIMENTS.findIndex(({ set }) => Object.entries(SETTINGS).every(([name, { start }]) => state[name] === (set[name] ?? start)));
  at("experiment").value = Math.max(prepared, 0);
  at("story").textContent = EXPERIMENTS[Math.max(prepared, 0)].text;
  for (const name of [state.data, ...Object.keys(SETTINGS.data.choices).filter((other) => other !== state.data)]) {
    let train, test;
    if (name in TOYS) {
      const held = toys(name, 200, 2);
      [train, test] = [toys(name, 2000, 1).images, held.images];
      content.sets[name] = { labels: held.labels, names: TOYS[name] };
    } else [train, test] = await Promise.all([unpackImages(content.sets[name].train), unpackImages(content.sets[name].test)]);
    tell({ do: "data", name, pixels: SIDE * SIDE, train, test });
    if (name === state.data) start();
  }
}

globalThis.lab = {
  state: () => latest && {
    step: latest.step, images: latest.seen, nll: latest.nll, kl: latest.kl, elbo: latest.elbo, log_px: lastExact() ?? null,
    elbo_at_log_px: lastExactRow() ? -(lastExactRow().nll + lastExactRow().kl) : null, kl_per_dimension: [...latest.perDimension],
    playing: latest.playing, beta: latest.settings.beta, images_a_second: latest.speed, verdict: verdict(), settings: { ...state }, point: [...point],
    drawing: drawn && { mean: drawn.mean, sigma: drawn.sigma, posterior: posterior && Array.from(posterior) },
  },
};
main();
