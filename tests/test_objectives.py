"""Likelihoods of grey levels, log p(x) as an objective, importance samples, and a prior that fits, by closed forms."""

import dataclasses

import numpy as np
import pytest

from tests import numpy_vae
from tests.conftest import random_images, small
from vae_lib import losses, marginal
from vae_lib.backend import keras, tf
from vae_lib.config import ModelConfig, RunConfig, TrainingConfig
from vae_lib.errors import UserError
from vae_lib.evaluation import describe_codes, evaluate
from vae_lib.model import VAE
from vae_lib.objectives import Batch, elbo_gradients, importance_gradients, marginal_gradients, shifted_grid
from vae_lib.priors import match_prior
from vae_lib.runs.lifecycle import train_run
from vae_lib.runs.store import load_run, save_run
from vae_lib.trainer import Trainer
from vae_lib.training import train

TINY = {"num_filters": 2, "hidden_units": 8, "image_shape": (8, 8, 1)}
LEVELS = (np.arange(256) + 0.5) / 256


def logistic_masses(mean, scale):
    """The 256 masses in double precision, straight from the distribution function."""
    edges = np.concatenate([[-np.inf], np.arange(1, 256) / 256, [np.inf]])
    return np.diff(1 / (1 + np.exp(np.clip((mean - edges) / scale, -700, 700))))


@pytest.mark.parametrize("mean", [-1.0, -0.05, 0.0, 0.003, 0.4, 1.0, 1.2])
@pytest.mark.parametrize("log_scale", [-8.0, -5.0, -2.0, 2.0])
def test_the_masses_of_all_grey_levels_are_a_distribution(mean, log_scale):
    x, m, s = (tf.reshape(tf.constant(a, tf.float32), [-1, 1, 1, 1]) for a in (LEVELS, [mean] * 256, [log_scale] * 256))
    masses = np.exp(-losses.discretized_logistic_nll(x, m, s).numpy().astype(float))
    assert masses.sum() == pytest.approx(1.0, abs=2e-6)
    np.testing.assert_allclose(masses, logistic_masses(mean, np.exp(log_scale)), atol=2e-5, rtol=1e-3)
    expected = masses @ LEVELS
    variance = masses @ np.square(LEVELS) - expected**2
    assert float(losses.discretized_logistic_mean(m, s)[0, 0, 0, 0]) == pytest.approx(expected, abs=1 / 256)
    found = float(losses.discretized_logistic_variance(m, s)[0, 0, 0, 0])
    assert found == pytest.approx(variance, rel=0.05, abs=1 / 256**2)


def test_the_gradient_of_the_masses_by_differences():
    x = tf.constant(np.repeat(LEVELS[[0, 3, 128, 255]], 3).reshape(-1, 1, 1, 1), tf.float32)
    mean = np.tile([0.1, 0.5, 0.97], 4).reshape(-1, 1, 1, 1)
    log_scale = np.linspace(-4, -1, 12).reshape(-1, 1, 1, 1)

    def reference(mean, log_scale):
        level = np.rint(np.ravel(x) * 256 - 0.5).astype(int)
        pairs = zip(np.ravel(mean), np.ravel(log_scale), level, strict=True)
        return np.array([-np.log(logistic_masses(m, np.exp(s))[k]) for m, s, k in pairs])

    variables = [tf.constant(mean, tf.float32), tf.constant(log_scale, tf.float32)]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        value = losses.discretized_logistic_nll(x, *variables)
    by_mean, by_scale = (np.ravel(g) for g in tape.gradient(value, variables))
    h = 1e-5
    np.testing.assert_allclose(value, reference(mean, log_scale), rtol=1e-4)
    numeric = (reference(mean + h, log_scale) - reference(mean - h, log_scale)) / (2 * h)
    np.testing.assert_allclose(by_mean, numeric, rtol=1e-3, atol=1e-3)
    numeric = (reference(mean, log_scale + h) - reference(mean, log_scale - h)) / (2 * h)
    np.testing.assert_allclose(by_scale, numeric, rtol=1e-3, atol=1e-3)


def test_a_colour_image_has_a_mean_and_a_scale_for_each_channel():
    vae = VAE(2, **TINY | {"image_shape": (8, 8, 3)}, likelihood="discretized_logistic")
    logits = vae.decode_logits(tf.zeros([2, 2]))
    assert logits.shape == (2, 8, 8, 6)
    mean, log_scale = vae.location_and_log_scale(logits)
    np.testing.assert_allclose(mean, tf.sigmoid(logits[..., :3]))
    assert np.abs(log_scale + 3.0).max() < 0.5  # a new decoder starts there
    assert vae.decode(tf.zeros([2, 2])).shape == (2, 8, 8, 3)


def test_what_the_page_and_the_pictures_show_is_the_mean():
    vae = VAE(2, **TINY, likelihood="discretized_logistic")
    logits = 4 * tf.random.stateless_normal([50, 8, 8, 2], [0, 0])
    mean, variance = vae.mean_and_variance(logits)
    parts = vae.location_and_log_scale(logits)
    masses = [logistic_masses(m, np.exp(s)) for m, s in zip(*(np.ravel(p).astype(float) for p in parts), strict=True)]
    expected = np.array(masses) @ LEVELS
    np.testing.assert_allclose(np.ravel(mean), expected, atol=1 / 256)
    np.testing.assert_allclose(
        np.ravel(variance), np.array(masses) @ np.square(LEVELS) - expected**2, rtol=0.1, atol=1e-4
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_numpy_finds_the_same_elbo(channels):
    vae = VAE(3, **TINY | {"image_shape": (16, 16, channels)}, likelihood="discretized_logistic", encoder_layers=2)
    for weight in vae.weights:
        weight.assign(2.0 * weight)
    images = random_images(6, 16, channels)
    images[0], images[1] = 0, 255
    epsilon, _ = vae.image_noise(images, 3)
    nll, kl = numpy_vae.elbo(vae, images, epsilon)
    found = vae.elbo_arrays(images, seed=3)
    np.testing.assert_allclose(found.nll, nll, rtol=1e-5)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-4, atol=1e-5)


def test_bits_per_pixel_are_those_that_the_masses_cost():
    vae, images = VAE(2, **TINY, likelihood="discretized_logistic"), random_images(20, 8)
    found = evaluate(vae, images)
    assert found["bits_per_pixel"] == pytest.approx(-found["elbo"] / 64 / np.log(2))
    density = evaluate(VAE(2, **TINY, likelihood="gaussian"), images)
    assert density["bits_per_pixel"] == pytest.approx(-density["elbo"] / 64 / np.log(2) + 8)


@pytest.mark.slow
def test_the_integral_of_a_model_of_grey_levels_lies_above_its_bounds():
    vae, images = VAE(2, **TINY, likelihood="discretized_logistic"), random_images(5, 8)
    found = evaluate(vae, images, samples=[2000], exact=True)
    assert found["log_px"] == pytest.approx(found["iwae_2000"], abs=0.3)
    assert found["log_px"] > found["elbo"]


# ---- log p(x) as an objective ------------------------------------------------------------------------------


def test_a_shifted_grid_covers_the_prior_evenly():
    codes = np.concatenate(
        [shifted_grid(tf.constant(shift, tf.float32), 20) for shift in np.random.default_rng(0).random([200, 2])]
    )
    assert codes.shape == (200 * 400, 2)
    assert np.abs(codes.mean(axis=0)).max() < 0.02
    assert np.abs(codes.std(axis=0) - 1).max() < 0.02
    assert np.abs(np.corrcoef(codes.T)[0, 1]) < 0.01
    one = shifted_grid(tf.constant([0.5, 0.5]), 2).numpy()
    np.testing.assert_allclose(np.unique(np.round(one, 5)), [-0.67449, 0.67449])


@pytest.mark.parametrize("settings", [{}, {"likelihood": "gaussian"}, {"likelihood": "continuous_bernoulli"}])
def test_the_marginal_objective_is_log_px_and_its_gradient(settings):
    vae = VAE(2, **TINY, **settings)
    images = random_images(6, 8)
    _, uniform = vae.image_noise(images, 0)
    batch = Batch(images, np.full(6, 1 / 6, np.float32), None, uniform, shift=tf.constant([0.5, 0.5]))
    gradients, numbers = marginal_gradients(vae, batch, 64, 2)
    exact = marginal.exact_log_px(vae, np.asarray(vae.prepare(images, uniform))).log_px
    assert float(numbers[0]) == pytest.approx(-exact.mean(), abs=0.02)
    assert float(numbers[1]) == 0.0

    variables = [v.value for v in vae.trainable_variables]
    with tf.GradientTape() as tape:  # the same sum without shards, differentiated as a whole
        codes = shifted_grid(batch.shift, 64)
        nll = vae.nll(
            tf.repeat(vae.prepare(images, uniform), len(codes), 0), tf.tile(vae.decode_logits(codes), [6, 1, 1, 1])
        )
        loss = -tf.reduce_mean(tf.reduce_logsumexp(-tf.reshape(nll, [6, -1]), axis=1))
    expected = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    for found, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-3 * max(1.0, np.abs(wanted).max()))


def test_training_on_log_px_needs_no_encoder_and_leaves_it_alone(sample):
    vae = VAE(2, num_filters=8, hidden_units=64)
    before = [weight.numpy() for weight in vae.encoder.weights]
    settings = {"objective": "marginal", "grid_side": 24, "batch_size": 100, "learning_rate": 3e-3}
    history = train(vae, sample.train_images[::2], epochs=10, **settings)
    assert history[-1]["train_elbo"] > history[0]["train_elbo"] + 50
    assert all(np.array_equal(a, b) for a, b in zip(before, vae.encoder.weights, strict=True))
    assert vae.config.inference == "grid"
    x = vae.prepare_arrays(sample.test_images[::70])
    gaps, log_px = marginal.best_gaussian(vae, x), marginal.exact_log_px(vae, x).log_px.mean()
    assert log_px - 5.0 < gaps.encoder.mean() <= log_px  # the Gaussian of the exact posterior
    assert gaps.best.mean() - gaps.encoder.mean() < 1.0  # nearly the best there is


def test_a_posterior_with_one_peak_has_the_moments_of_the_true_one(sample):
    vae = VAE(2, num_filters=4, hidden_units=32, inference="grid")
    x = vae.prepare_arrays(sample.test_images[:5])
    values = np.linspace(-5, 5, 401)
    codes = np.stack(np.meshgrid(values, values), -1).reshape(-1, 2)
    log_p = marginal.log_joint(vae, x, codes)
    share = np.exp(log_p - marginal.log_sum_exp(log_p)[:, None])
    mean = share @ codes
    z_mean, z_log_var = vae.encode(x)
    np.testing.assert_allclose(z_mean, mean, atol=0.02)
    np.testing.assert_allclose(np.exp(z_log_var), share @ np.square(codes) - np.square(mean), rtol=0.1)
    arrays = vae.encode_arrays(sample.test_images[:5], batch_size=2)
    np.testing.assert_allclose(arrays.z_mean, z_mean, atol=1e-4)


def test_a_run_trained_on_log_px_comes_back(sample, tmp_path):
    vae = VAE(2, num_filters=2, hidden_units=8)
    train(vae, sample.train_images[::40], epochs=1, objective="marginal", grid_side=8)
    run = load_run(save_run(tmp_path / "exact", vae))
    assert (run.config.model.inference, run.config.training.objective) == ("grid", "marginal")
    images = sample.test_images[:9]
    np.testing.assert_array_equal(run.model.encode_arrays(images).z_mean, vae.encode_arrays(images).z_mean)
    np.testing.assert_allclose(run.model.elbo_arrays(images).elbo, vae.elbo_arrays(images).elbo, rtol=1e-6)
    train(vae, sample.train_images[::40], epochs=1)
    assert vae.config.inference == "encoder"


def test_an_objective_that_does_not_suit_is_refused(sample):
    with pytest.raises(UserError, match="2 latent dimensions, not 3"):
        train(VAE(3, **TINY), random_images(8, 8), objective="marginal")
    with pytest.raises(UserError, match="not discretized_logistic"):
        train(VAE(2, **TINY, likelihood="discretized_logistic"), random_images(8, 8), objective="marginal")
    for setting in ({"importance_samples": 2}, {"augment_encoder": True}, {"match_prior": True}, {"beta": 2.0}):
        with pytest.raises(UserError, match=r"objective 'marginal'|KL term"):
            TrainingConfig(objective="marginal", **setting)
    with pytest.raises(UserError, match="objective 'margnal' is unknown"):
        TrainingConfig(objective="margnal")
    with pytest.raises(UserError, match="beta"):
        TrainingConfig(importance_samples=2, beta_start=3.0)


# ---- Importance samples ------------------------------------------------------------------------------------


def mean_gradients(function, vae, images, repeats, samples):
    total = None
    for i in range(repeats):
        epsilon = tf.random.stateless_normal([len(images), samples, vae.config.latent_dim], [i, 7])
        batch = Batch(images, np.full(len(images), 1 / len(images), np.float32), epsilon[:, 0], samples=epsilon)
        found, numbers = function(batch)
        flat = np.concatenate([np.ravel(g) for g in found])
        total = flat if total is None else total + flat
    return total / repeats, numbers


def test_the_gradient_of_many_samples_is_that_of_their_bound_on_average():
    """The doubly reparameterized estimator against automatic differentiation of the bound, over many draws."""
    vae, images = VAE(2, image_shape=(8, 8, 1), num_filters=1, hidden_units=4, seed=3), random_images(3, 8)
    variables = [v.value for v in vae.trainable_variables]

    def plain(batch):
        x = vae.prepare(images)
        with tf.GradientTape() as tape:
            z_mean, z_log_var = vae.encode(x)
            z = z_mean[:, None] + tf.exp(0.5 * z_log_var)[:, None] * batch.samples
            nll = tf.reshape(vae.nll(tf.repeat(x, 4, 0), vae.decode_logits(tf.reshape(z, [-1, 2]))), [-1, 4])
            ratio = 0.5 * tf.reduce_sum(tf.square(batch.samples) + z_log_var[:, None] - tf.square(z), -1)
            loss = -tf.reduce_mean(tf.reduce_logsumexp(ratio - nll, axis=1))
        return tape.gradient(loss, variables), None

    compiled = tf.function(lambda batch: importance_gradients(vae, batch))
    ours, _ = mean_gradients(compiled, vae, images, 400, 4)
    theirs, _ = mean_gradients(tf.function(plain), vae, images, 400, 4)
    assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(theirs)
    assert np.dot(ours, theirs) > 0.99 * np.linalg.norm(ours) * np.linalg.norm(theirs)


def test_one_importance_sample_gives_the_decoder_the_gradient_of_the_elbo():
    vae, images = VAE(2, **TINY), random_images(5, 8)
    epsilon = tf.random.stateless_normal([5, 1, 2], [0, 1])
    batch = Batch(images, np.full(5, 0.2, np.float32), epsilon[:, 0], samples=epsilon)
    many, numbers = importance_gradients(vae, batch)
    one, expected = elbo_gradients(vae, batch, 1.0)
    np.testing.assert_allclose(numbers, expected, rtol=1e-5)
    first = len(vae.encoder.trainable_variables)
    for a, b in zip(many[first:], one[first:], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("settings", [{"importance_samples": 3}, {"importance_samples": 2, "augment_encoder": True},
                                      {"objective": "marginal", "grid_side": 8}])  # fmt: skip
def test_other_objectives_repeat_bit_for_bit_and_eager_agrees(sample, settings):
    images = sample.train_images[::25]
    histories = []
    for mode in ("graph", "graph", "eager"):
        vae = VAE(2, num_filters=4, hidden_units=16)
        histories.append([row["train_elbo"] for row in train(vae, images, epochs=2, mode=mode, **settings)])
    assert histories[0] == histories[1]
    np.testing.assert_allclose(histories[2], histories[0], rtol=1e-4)


def test_more_samples_are_a_tighter_objective(sample):
    bounds = []
    for k in (1, 8):
        vae = VAE(2, num_filters=4, hidden_units=32)
        train(vae, sample.train_images[::4], epochs=5, importance_samples=k, learning_rate=3e-3)
        x = vae.prepare_arrays(sample.test_images[:200])
        bounds.append(marginal.importance_weighted_bound(vae, x, 8).mean())
    assert bounds[1] > bounds[0]


# ---- A prior that fits, and a Gaussian for each image ------------------------------------------------------


def test_matching_the_prior_changes_no_image_and_raises_the_elbo(sample):
    vae = VAE(3, num_filters=4, hidden_units=16, encoder_layers=2)
    train(vae, sample.train_images[::10], epochs=3, learning_rate=5e-3)
    images = sample.test_images[:300]
    head = vae.encoder.layers[-1]
    head.bias.assign(head.bias + np.array([1.5, -1.0, 0.5, 0.0, 0.0, 0.0], np.float32))  # away from the prior
    before, codes = vae.decode_arrays(vae.encode_arrays(images).z_mean), vae.encode_arrays(images)
    misfit = describe_codes(*codes)["moment_kl"]
    elbo = evaluate(vae, images)["elbo"]
    match_prior(vae, images)
    np.testing.assert_allclose(vae.decode_arrays(vae.encode_arrays(images).z_mean), before, atol=2e-4)
    after = describe_codes(*vae.encode_arrays(images))
    np.testing.assert_allclose(after["aggregate_variance"], 1.0, atol=0.02)
    assert after["moment_kl"] < 0.5 * misfit
    gain = evaluate(vae, images)["elbo"] - elbo
    assert gain == pytest.approx(misfit - after["moment_kl"], abs=0.3)


def test_training_matches_the_prior_at_its_end_where_asked(sample):
    images = sample.train_images[::10]
    fits = []
    for asked in (True, False):
        vae = VAE(2, num_filters=4, hidden_units=16)
        train(vae, images, epochs=2, learning_rate=5e-3, match_prior=asked)
        fits.append(np.abs(np.log(describe_codes(*vae.encode_arrays(images))["aggregate_variance"])).max())
    assert fits[0] < 0.01 < fits[1]


def test_networks_without_dense_ends_keep_their_prior():
    vae = VAE(2, **TINY)
    vae.decoder.layers[0].use_bias = False
    with pytest.raises(UserError, match="begins with a dense layer with a bias"):
        match_prior(vae, random_images(4, 8))
    with pytest.raises(UserError, match="without an encoder"):
        match_prior(VAE(2, **TINY, inference="grid"), random_images(4, 8))


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 4])
def test_refining_raises_each_images_elbo_towards_the_best(sample, dim):
    vae = VAE(dim, num_filters=4, hidden_units=32)
    train(vae, sample.train_images[::10], epochs=4, learning_rate=5e-3)
    images = sample.test_images[::70]
    found = evaluate(vae, images, refine=60, samples=[200], exact=dim == 2)
    assert found["elbo"] + 0.3 < found["refined_elbo"]
    assert found["refined_elbo"] <= found.get("log_px", np.inf)
    assert found["refine_steps"] == 60
    if dim == 2:
        x = vae.prepare_arrays(images)
        gaps = marginal.best_gaussian(vae, x)  # which looks for a better start, too
        assert gaps.best.mean() - found["refined_elbo"] < 0.4 * (gaps.best - gaps.encoder).mean()
    none, some = (marginal.refine(vae, images, steps=steps).z_mean for steps in (1, 30))
    assert np.abs(none - vae.encode_arrays(images).z_mean).max() < np.abs(some - none).max()


# ---- What a hostile user found -----------------------------------------------------------------------------


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def variances(vae, images):
    return np.log(describe_codes(*vae.encode_arrays(images))["aggregate_variance"])


def test_the_prior_is_matched_too_where_a_callback_ends_the_training(sample):
    vae, images = VAE(2, num_filters=4, hidden_units=16), sample.train_images[::10]
    assert len(train(vae, images, epochs=5, learning_rate=5e-3, match_prior=True, callbacks=Stop())) == 1
    assert np.abs(variances(vae, images)).max() < 0.01


def test_a_run_says_where_its_numbers_came_from(sample, tmp_path):
    vae = VAE(2, num_filters=2, hidden_units=8)
    few = small(sample, train=60, test=20)
    train(vae, few, epochs=1)
    train(vae, few, epochs=1, objective="marginal", grid_side=6)
    vae.set_inference("encoder")
    run = load_run(save_run(tmp_path / "mine", vae, few))
    assert run.config.model.inference == "encoder"
    np.testing.assert_array_equal(
        run.model.encode_arrays(few.test_images).z_mean, vae.encode_arrays(few.test_images)[0]
    )
    config = RunConfig(ModelConfig(2, num_filters=2, hidden_units=8, inference="grid"), TrainingConfig(epochs=1))
    run = load_run(train_run(config, few, tmp_path / "elbo"))
    assert run.config.model.inference == "encoder"
    assert evaluate(run.model, few.test_images)["elbo"] == pytest.approx(run.metrics["test"]["elbo"], abs=1e-3)
    marginal_one = dataclasses.replace(config, training=TrainingConfig(epochs=1, objective="marginal", grid_side=6))
    assert load_run(train_run(marginal_one, few, tmp_path / "exact")).config.model.inference == "grid"


def dense(inputs, outputs, *, last_shape=None, **options):
    stack = [keras.Input(inputs), keras.layers.Flatten(), keras.layers.Dense(8, "relu", **options)]
    stack += [keras.layers.Dense(outputs)] + ([keras.layers.Reshape(last_shape)] if last_shape else [])
    return keras.Sequential(stack)


def test_regularizers_are_for_the_elbo_alone():
    decoder = dense((2,), 64, last_shape=(8, 8, 1), kernel_regularizer="l2")
    vae = VAE(2, **TINY, decoder=decoder)
    for setting in ({"objective": "marginal"}, {"importance_samples": 2}):
        with pytest.raises(UserError, match="regularizers"):
            train(vae, random_images(8, 8), **setting)
    assert vae.config.inference == "encoder"
    train(vae, random_images(8, 8), epochs=1)


def test_what_cannot_be_matched_is_refused_before_the_first_epoch():
    class Skipping(keras.Model):
        def __init__(self):
            super().__init__()
            self.out, self.skip = keras.layers.Dense(64), keras.layers.Dense(64)

        def call(self, z):
            return tf.reshape(self.out(z) + self.skip(z), [-1, 8, 8, 1])

    vae = VAE(2, **TINY, decoder=Skipping())
    with pytest.raises(UserError, match=r"keras\.Sequential"):
        train(vae, random_images(8, 8), match_prior=True)
    assert vae.epochs_trained == 0


def test_neither_a_trainer_nor_a_refusal_changes_where_posteriors_come_from():
    vae, images = VAE(2, **TINY), random_images(8, 8)
    train(vae, images, epochs=1, objective="marginal", grid_side=4)
    Trainer(vae, images)
    with pytest.raises(UserError, match=r"keras\.Sequential"):
        train(VAE(2, **TINY, encoder=keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
              keras.layers.Dense(4, use_bias=False)])), images, match_prior=True)  # fmt: skip
    assert vae.config.inference == "grid"


def test_many_samples_train_an_encoder_with_a_weight_that_it_does_not_use():
    class Wasteful(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = keras.layers.Dense(4), keras.layers.Dense(3)
            self.unused.build((None, 5))

        def call(self, x):
            return self.used(tf.reshape(x, [-1, 64]))

    vae = VAE(2, **TINY, encoder=Wasteful())
    before = vae.encoder.unused.kernel.numpy()
    train(vae, random_images(20, 8), epochs=1, importance_samples=3)
    np.testing.assert_array_equal(vae.encoder.unused.kernel, before)


@pytest.mark.parametrize("dim", [2, 3])
def test_refining_makes_no_image_worse(dim):
    vae, images = VAE(dim, **TINY), random_images(50, 8)
    train(vae, images, epochs=20, learning_rate=1e-2)
    x, seed = vae.prepare_arrays(images), 2**31 - 1
    half = np.random.default_rng(seed).standard_normal([8, dim], np.float32)
    nodes = np.concatenate([half, -half])
    before, after = vae.encode_arrays(images), marginal.refine(vae, images, steps=1, seed=seed)
    if dim == 2:
        old, new = (marginal._quadrature_elbo(vae, x, *map(tf.constant, q), order=4).numpy() for q in (before, after))
    else:
        old, new = (marginal._mean_elbo(vae, x, *map(tf.constant, q), nodes=nodes).numpy() for q in (before, after))
    assert (new >= old - 1e-3).all()
    assert np.isfinite(evaluate(vae, images, refine=1, seed=seed)["refined_elbo"])


def test_a_grid_is_a_setting_of_the_marginal_objective():
    with pytest.raises(UserError, match="grid_side is a setting of objective 'marginal'"):
        TrainingConfig(grid_side=9)
