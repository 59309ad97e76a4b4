"""The page's own training: its losses, gradients, updates and bounds are those of TensorFlow and of the package."""

import numpy as np
import pytest

from tests.conftest import ROOT
from vae_lib.backend import keras, tf
from vae_lib.losses import bernoulli_nll, gaussian_kl

pytestmark = pytest.mark.browser

LAB = ROOT / "vae_lib" / "page" / "lab"
SCRIPT = "".join((LAB / name).read_text() for name in ("../simd.js", "../arrays.js", "engine.js"))
INPUTS, HIDDEN, LATENT, IMAGES, BATCH = 30, 22, 3, 9, 12
WIDTH, UNITS, DIM = 32, 24, 4  # the same, filled up to multiples of 4
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian")
BUGS = ("none", "kl-mean", "kl-sign", "nll-mean", "sigma", "no-gradient", "double-sigmoid")
SIZES = {"inputs": INPUTS, "hidden": HIDDEN, "latent": LATENT, "batch": BATCH, "images": IMAGES}
BETA = 1.7
STEP = """c => {
  const net = new Net({...c, rows: c.batch});
  net.values.set(c.values); net.x.set(c.x);
  const losses = net.differentiate(c.batch, c.images, Float32Array.from(c.noise), {beta: c.beta, bug: c.bug});
  const gradients = Array.from(net.gradients);
  net.update(0.01, c.frozen);
  return {...losses, gradients, values: Array.from(net.values), simd: net.memory.simd};
}"""


@pytest.fixture(scope="module")
def engine(browser):
    page = browser.new_page()
    page.add_script_tag(content=SCRIPT)
    yield page
    page.close()


def padded(array, shape):
    result = np.zeros(shape, np.float32)
    result[tuple(slice(n) for n in array.shape)] = array
    return result


def flat(weights, biases, log_sigma):
    """Weights (out, in) and biases as the page lays them out: each size filled up, the head in two parts."""
    parts = []
    for shape, weight, bias in zip(
        ((UNITS, WIDTH), (DIM, UNITS), (UNITS, DIM), (WIDTH, UNITS)), weights, biases, strict=True
    ):
        halves = 2 if weight.shape[0] == 2 * LATENT else 1
        parts += [padded(half, shape).ravel() for half in np.split(weight, halves)]
        parts += [padded(half, shape[:1]) for half in np.split(bias, halves)]
    return np.concatenate([*parts, [log_sigma, 0, 0, 0]])


def random_case(likelihood):
    rng = np.random.default_rng(0)
    shapes = ((HIDDEN, INPUTS), (2 * LATENT, HIDDEN), (HIDDEN, LATENT), (INPUTS, HIDDEN))
    weights = [0.4 * rng.normal(size=shape).astype(np.float32) for shape in shapes]
    biases = [0.3 * rng.normal(size=shape[0]).astype(np.float32) for shape in shapes]
    x = rng.random((IMAGES, INPUTS)).astype(np.float32)
    x = np.float32(x > 0.5) if likelihood == "bernoulli" else x
    return weights, biases, np.float32(-0.3), x, rng.normal(size=(IMAGES, LATENT)).astype(np.float32)


def reference(case, likelihood, bug):
    """nll, kl, and the gradients of the (wrong) loss, by TensorFlow."""
    weights, biases, log_sigma, x, noise = case
    variables = [tf.Variable(value) for value in (*weights, *biases, log_sigma)]
    with tf.GradientTape() as tape:
        (w1, w2, w3, w4), (b1, b2, b3, b4), log_sigma = variables[:4], variables[4:8], variables[8]
        head = tf.nn.gelu(x @ tf.transpose(w1) + b1) @ tf.transpose(w2) + b2
        mean, second = head[:, :LATENT], head[:, LATENT:]
        sigma = second if bug == "sigma" else tf.exp(0.5 * second)
        z = mean + sigma * noise
        if bug == "no-gradient":
            z = tf.stop_gradient(z)
        out = tf.nn.gelu(z @ tf.transpose(w3) + b3) @ tf.transpose(w4) + b4
        if bug == "double-sigmoid":
            out = tf.sigmoid(out)
        if likelihood == "gaussian":
            pixels = 0.5 * tf.square((out - x) / tf.exp(log_sigma)) + log_sigma + 0.5 * np.log(2 * np.pi)
        else:
            pixels = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=out)
            if likelihood == "continuous_bernoulli":
                pixels -= tf.math.log(out / tf.tanh(out / 2))
        log_var = tf.math.log(sigma**2 + 1e-6) if bug == "sigma" else second
        nll = tf.reduce_mean(tf.reduce_sum(pixels, axis=1))
        kl = tf.reduce_mean(0.5 * tf.reduce_sum(mean**2 + sigma**2 - 1 - log_var, axis=1))
        loss = nll / (INPUTS if bug == "nll-mean" else 1)
        loss += BETA * {"kl-sign": -1.0, "kl-mean": 1 / LATENT}.get(bug, 1.0) * kl
    gradients = [g.numpy() for g in tape.gradient(loss, variables, unconnected_gradients="zero")]
    return float(nll), float(kl), flat(gradients[:4], gradients[4:8], gradients[8])


def run_step(engine, case, likelihood, bug="none", *, simd=True, frozen=False):
    weights, biases, log_sigma, x, noise = case
    numbers = {
        "values": flat(weights, biases, log_sigma),
        "x": padded(x, (BATCH, WIDTH)),
        "noise": padded(noise, (BATCH, DIM)),
    }
    return engine.evaluate(STEP, SIZES | {name: array.ravel().tolist() for name, array in numbers.items()} | {
        "likelihood": likelihood, "bug": bug, "beta": BETA, "simd": simd, "frozen": frozen,
    })  # fmt: skip


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("bug", BUGS)
def test_losses_and_gradients_are_those_of_tensorflow(engine, likelihood, bug):
    case = random_case(likelihood)
    nll, kl, gradients = reference(case, likelihood, bug)
    found = run_step(engine, case, likelihood, bug)
    assert found["simd"]
    assert found["nll"] == pytest.approx(nll, abs=1e-3)
    assert found["kl"] == pytest.approx(kl, abs=1e-3)
    tolerance = 1e-3 if bug == "sigma" else 1e-4  # one over a sigma near 0 loses digits
    assert np.abs(np.array(found["gradients"]) - gradients).max() < tolerance * np.abs(gradients).max()


def test_without_webassembly_the_numbers_are_the_same(engine):
    case = random_case("bernoulli")
    fast, plain = (run_step(engine, case, "bernoulli", simd=simd) for simd in (True, False))
    assert not plain["simd"]
    np.testing.assert_allclose(plain["gradients"], fast["gradients"], atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_of_adam_is_that_of_keras(engine, frozen):
    case = random_case("gaussian")
    before, gradients = flat(*case[:3]), reference(case, "gaussian", "none")[2]
    variable = keras.Variable(before)
    keras.optimizers.Adam(0.01).apply([tf.constant(gradients, tf.float32)], [variable])
    after = np.array(run_step(engine, case, "gaussian", frozen=frozen)["values"])
    clear = np.abs(gradients) > 1e-3  # the first step of Adam has the size of the rate, and only the gradient's sign
    learned = np.arange(len(before)) < UNITS * WIDTH + UNITS + 2 * DIM * UNITS + 2 * DIM if frozen else True
    np.testing.assert_allclose(after[clear & learned], variable.numpy()[clear & learned], atol=1e-5)
    assert np.abs(after - before)[clear & learned].min() > 0.009
    assert not frozen or np.array_equal(after[~learned], before[~learned].astype(np.float32))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_log_px_and_the_terms_of_the_bound(engine, likelihood):
    """The mean of p(x | z) over codes of equal probability, in double precision; the terms with a given draw."""
    rng = np.random.default_rng(1)
    x = rng.random((7, INPUTS)).astype(np.float32)
    found = engine.evaluate(
        """c => {
          const net = new Net({inputs: c.inputs, hidden: 8, latent: 2, likelihood: c.likelihood, rows: 16, seed: 3});
          const x = Float32Array.from(c.x), {nll, kl} = terms(net, x, 7, new Float32Array(7 * 4));
          net.z.fill(0); const axis = [0, 1, 2, 3, 4].map((i) => normalQuantile((i + 0.5) / 5)), outs = [];
          for (const b of axis) for (const a of axis) {
            net.z[0] = a; net.z[1] = b; outs.push(Array.from(net.decode(net.z, 4).subarray(0, c.inputs)));
          }
          net.x.set(x); const head = Array.from(net.encode(net.x, 8).subarray(0, 64));
          net.z.fill(0); for (let i = 0; i < 7; i += 1) for (const d of [0, 1]) net.z[4 * i + d] = head[8 * i + d];
          const means = Array.from(net.decode(net.z, 8).subarray(0, 8 * net.width));
          const fine = logPx(net, x, 7, 150, {spread: 1})[0], wide = logPx(net, x, 7, 64)[0];
          const log_px = Array.from(logPx(net, x, 7, 5, {spread: 1}));
          return {log_px, fine, wide, nll: Array.from(nll), kl: Array.from(kl), outs, means, head};
        }""",
        {"inputs": INPUTS, "likelihood": likelihood, "x": padded(x, (7, WIDTH)).ravel().tolist()},
    )

    def log_p(out):  # (G, inputs) -> (images, G)
        if likelihood == "gaussian":
            return -0.5 * (np.square(x[:, None] - out) + np.log(2 * np.pi)).sum(axis=2)
        pixels = x[:, None] * out - np.logaddexp(0, out)
        return (pixels + (np.log(out / np.tanh(out / 2)) if likelihood == "continuous_bernoulli" else 0)).sum(axis=2)

    expected = np.logaddexp.reduce(log_p(np.array(found["outs"])), axis=1) - np.log(25)
    np.testing.assert_allclose(found["log_px"], expected, atol=1e-3)
    assert found["wide"] == pytest.approx(found["fine"], abs=0.01)  # another grid, the same integral
    outs = np.array(found["means"]).reshape(8, WIDTH)[:7, :INPUTS]
    np.testing.assert_allclose(found["nll"], -np.diag(log_p(outs)), atol=1e-3)
    head = np.array(found["head"]).reshape(8, 2, 4)[:7, :, :2]
    mean, log_var = head[:, 0], head[:, 1]
    np.testing.assert_allclose(
        found["kl"], 0.5 * (np.square(mean) + np.exp(log_var) - 1 - log_var).sum(axis=1), atol=1e-4
    )


def test_two_hundred_steps_are_those_of_tensorflow(engine):
    """From the same weights, on the same images and noise, both networks stay together."""
    keras.utils.set_random_seed(0)
    dense, rng = keras.layers.Dense, np.random.default_rng(2)
    encoder = keras.Sequential([keras.Input((INPUTS,)), dense(HIDDEN, "gelu"), dense(2 * LATENT)])
    decoder = keras.Sequential([keras.Input((LATENT,)), dense(HIDDEN, "gelu"), dense(INPUTS)])
    weights = encoder.trainable_variables + decoder.trainable_variables
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(weights)
    layers = [layer for network in (encoder, decoder) for layer in network.layers]
    start = flat([layer.kernel.numpy().T for layer in layers], [layer.bias.numpy() for layer in layers], 0.0)
    mixture = rng.random((5, INPUTS))  # five kinds of images
    x = np.float32(rng.random((200, IMAGES, INPUTS)) < mixture[rng.integers(0, 5, (200, IMAGES))])
    noise = rng.standard_normal((200, IMAGES, LATENT)).astype(np.float32)

    @tf.function
    def step(x, noise):
        with tf.GradientTape() as tape:
            z_mean, z_log_var = tf.split(encoder(x), 2, axis=1)
            loss = tf.reduce_mean(
                bernoulli_nll(x, decoder(z_mean + tf.exp(0.5 * z_log_var) * noise)) + gaussian_kl(z_mean, z_log_var)
            )
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    theirs = [float(step(tf.constant(a), tf.constant(b))) for a, b in zip(x, noise, strict=True)]
    ours = engine.evaluate(
        """c => {
          const net = new Net({...c, rows: c.batch});
          net.values.set(c.values);
          return c.x.map((x, i) => {
            net.x.set(x);
            const {nll, kl} = net.differentiate(c.batch, c.images, Float32Array.from(c.noise[i]));
            net.update(3e-3);
            return nll + kl;
          });
        }""",
        SIZES
        | {"values": start.tolist(), "x": [padded(a, (BATCH, WIDTH)).ravel().tolist() for a in x]}
        | {"noise": [padded(a, (BATCH, DIM)).ravel().tolist() for a in noise]},
    )
    assert np.mean(theirs[-20:]) < np.mean(theirs[:20]) - 0.5
    np.testing.assert_allclose(ours, theirs, atol=0.01)
