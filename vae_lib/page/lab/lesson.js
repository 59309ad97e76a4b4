// The conversation with a training: messages in, pictures and numbers out. In a worker, or in the page where it has none.

const SLICE = 30; // milliseconds of learning between two looks at the messages
const SHOWN = 200; // milliseconds between two reports
const EXACT = 2500; // and between two integrals of log p(x)
const TILES = 14, INTEGRAL = 56, RECONSTRUCTED = 6;

function startLesson(post, again) {
  let learner = null, playing = false, left = 0, reported = 0, integrated = 0, since = 0, seconds = 0, speed = 0, slow = false;
  const sets = {};
  let others = []; // where the plane lies in the dimensions after the second

  function report() {
    const now = performance.now(), { net } = learner, { pixels } = learner.data;
    const exact = net.latent === 2 && (now - integrated > EXACT || !playing) ? INTEGRAL : 0;
    if (exact) integrated = now;
    const numbers = learner.numbers({ exact }), codes = learner.codes();
    const plane = learner.decode(learner.plane(TILES, others));
    const means = new Float32Array(RECONSTRUCTED * net.latent), every = Math.floor(learner.held / RECONSTRUCTED);
    const images = new Uint8ClampedArray(RECONSTRUCTED * pixels);
    for (let i = 0; i < RECONSTRUCTED; i += 1) {
      means.set(codes.subarray(i * every * 2 * net.latent, i * every * 2 * net.latent + net.latent), i * net.latent);
      images.set(learner.data.test.subarray(i * every * pixels, (i * every + 1) * pixels), i * pixels);
    }
    const restored = learner.decode(means);
    if (seconds > 0.2) [speed, since, seconds] = [since / seconds, 0, 0];
    reported = performance.now();
    post({ type: "progress", ...numbers, speed, playing, images: learner.images, epoch: learner.seen / learner.images,
      settings: { ...learner.settings }, perDimension: perDimension(codes, net.latent), codes, plane, shown: images, restored });
  }

  // KL of each latent dimension, the mean over the held-out images, from means and standard deviations.
  function perDimension(codes, latent) {
    const kl = new Array(latent).fill(0), count = codes.length / (2 * latent);
    for (let i = 0; i < count; i += 1) {
      for (let d = 0; d < latent; d += 1) {
        const mean = codes[i * 2 * latent + d], sigma = codes[i * 2 * latent + latent + d];
        kl[d] += (0.5 * (mean * mean + sigma * sigma - 1) - Math.log(sigma)) / count;
      }
    }
    return kl;
  }

  function turn() {
    if (!playing || !learner) return;
    const began = performance.now();
    if (left > 0 || slow) {
      const before = learner.seen;
      learner.step();
      since += learner.seen - before;
      left -= 1;
      if (left === 0) playing = false;
    } else since += learner.learnFor(SLICE);
    seconds += (performance.now() - began) / 1000;
    if (!playing || slow || performance.now() - reported > SHOWN) report();
    if (playing) again(turn, slow ? 400 : 0);
  }

  function play(steps = 0) {
    const idle = !playing;
    [playing, left] = [true, steps];
    if (idle) turn();
  }

  const answers = {
    data({ name, ...set }) { sets[name] = set; },
    start({ settings }) {
      learner = new Learner(sets[settings.data], settings);
      [integrated, since, seconds, speed, others] = [-Infinity, 0, 0, 0, []];
      report();
    },
    set({ settings }) { learner.change(settings); if (!playing) report(); },
    play({ steps }) { play(steps); },
    epoch() { play(Math.ceil(learner.images / learner.settings.batch)); },
    slow({ on }) { slow = on; },
    at(message) { others = message.others; if (!playing) report(); },
    pause() { playing = false; report(); },
    decode({ id, codes }) { post({ type: "decoded", id, pixels: learner.decode(Float32Array.from(codes)) }); },
    encode({ id, image }) {
      const code = learner.encode(image);
      post({ type: "encoded", id, ...code, pixels: learner.decode(Float32Array.from(code.mean)) });
    },
    posterior({ id, image }) { post({ type: "posterior", id, cells: learner.posterior(image, INTEGRAL) }); },
    add({ image, copies }) { learner.add(image, copies); },
  };
  return (message) => answers[message.do](message);
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  const receive = startLesson((message) => self.postMessage(message), (turn, wait) => setTimeout(turn, wait));
  self.onmessage = ({ data }) => receive(data);
}
