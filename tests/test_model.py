"""Shapes, sampling, seeds and likelihoods of the model."""

import math

import numpy as np
import pytest

from tests.conftest import random_images
from vae_lib.backend import keras, tf
from vae_lib.errors import UserError
from vae_lib.evaluation import evaluate_elbo
from vae_lib.model import VAE, Elbo
from vae_lib.networks import feature_size
from vae_lib.training import train


def small_vae(**options) -> VAE:
    return VAE(**{"latent_dim": 2, "num_filters": 4, "hidden_units": 16} | options)


@pytest.mark.parametrize("im_dim", [8, 9, 11, 16, 25, 28, 31, 33, 48, 64])
@pytest.mark.parametrize("latent_dim", [1, 2, 10])
def test_every_size_comes_back_as_asked(im_dim, latent_dim):
    vae = small_vae(image_shape=(im_dim, im_dim, 1), latent_dim=latent_dim)
    x = vae.prepare(tf.constant(random_images(3, im_dim)))
    z_mean, z_log_var = vae.encode(x)
    assert z_mean.shape == z_log_var.shape == (3, latent_dim)
    assert vae.decode(z_mean).shape == (3, im_dim, im_dim, 1)
    assert feature_size(im_dim)[0] <= 8


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_any_batch_size_and_an_unknown_one(batch):
    vae = small_vae()
    images = random_images(batch)
    for terms in (vae.elbo_of_bytes(images, *vae.image_noise(images, 0)), vae.elbo_arrays(images)):
        assert [part.shape for part in terms] == [(batch,)] * 3
    function = tf.function(vae.reconstruct, input_signature=[tf.TensorSpec([None, 28, 28, 1])])
    assert function(tf.zeros([batch, 28, 28, 1])).shape == (batch, 28, 28, 1)


class Doubled(VAE):
    def elbo(self, x, epsilon, *, training=False):
        return Elbo(*(2.0 * term for term in super().elbo(x, epsilon, training=training)))


def test_an_elbo_of_ones_own_is_trained_and_measured():
    images = random_images(20)
    plain, doubled = (kind(latent_dim=2, num_filters=4, hidden_units=16, seed=1) for kind in (VAE, Doubled))
    assert evaluate_elbo(doubled, images)["elbo"] == pytest.approx(2 * evaluate_elbo(plain, images)["elbo"])
    rows = [train(vae, images, epochs=1, batch_size=20, learning_rate=1e-9)[-1] for vae in (plain, doubled)]
    assert rows[1]["train_elbo"] == pytest.approx(2 * rows[0]["train_elbo"])
    for vae in (plain, doubled):
        vae.compile("adam")
    losses = [vae.evaluate(images, verbose=0) for vae in (plain, doubled)]
    assert losses[1] == pytest.approx(2 * losses[0], rel=0.05)  # each with noise of its own


def test_colour_images():
    vae = small_vae(image_shape=(28, 28, 3), likelihood="gaussian")
    assert vae.sample(2).shape == (2, 28, 28, 3)
    assert vae.elbo_arrays(random_images(3, channels=3)).nll.shape == (3,)


@pytest.mark.parametrize(
    ("likelihood", "binarize"),
    [
        ("bernoulli", "threshold"),
        ("bernoulli", "dynamic"),
        ("discretized_logistic", "none"),
        ("continuous_bernoulli", "none"),
        ("gaussian", "none"),
    ],
)
def test_the_elbo_is_minus_reconstruction_and_kl_under_each_likelihood(likelihood, binarize):
    vae = small_vae(likelihood=likelihood, binarize=binarize)
    images = random_images(6)
    terms = vae.elbo_of_bytes(images, *vae.image_noise(images, 1))
    np.testing.assert_allclose(terms.elbo, -(terms.nll + terms.kl), rtol=1e-6)
    again = vae.elbo_of_bytes(images, *vae.image_noise(images, 1))
    np.testing.assert_array_equal(terms.nll, again.nll)
    assert (terms.nll != vae.elbo_of_bytes(images, *vae.image_noise(images, 2)).nll).numpy().all()
    assert (terms.kl >= 0).numpy().all()
    decoded = vae.decode(tf.random.stateless_normal([100, 2], [0, 0]) * 5).numpy()
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_sampling_has_the_posteriors_moments_and_lets_gradients_through():
    vae = small_vae()
    x = tf.repeat(vae.prepare(tf.constant(random_images(1))), 10_000, axis=0)
    epsilon, _ = vae.noise(10_000, tf.constant([5, 0]))
    assert np.abs(np.mean(epsilon, axis=0)).max() < 0.05
    assert np.abs(np.std(epsilon, axis=0) - 1).max() < 0.03
    with tf.GradientTape() as tape:
        z_mean, z_log_var = vae.encode(x[:8])
        tape.watch([z_mean, z_log_var])
        z = z_mean + tf.exp(0.5 * z_log_var) * epsilon[:8]
        loss = tf.reduce_mean(vae.nll(x[:8], vae.decode_logits(z)))
    assert all(np.abs(g).min() > 0 for g in tape.gradient(loss, [z_mean, z_log_var]))


def test_the_log_variance_is_bounded():
    vae = small_vae()
    vae.encoder.layers[-1].bias.assign(tf.fill([4], 1e6))
    terms = vae.elbo_arrays(random_images(2))
    assert np.isfinite(vae.encode(tf.zeros([1, 28, 28, 1])).z_log_var).all()
    assert np.isfinite(terms.nll).all()


def test_thresholded_pixels_are_bits_split_at_one_half():
    vae = small_vae()
    images = tf.reshape(tf.constant([0, 127, 128, 255], tf.uint8), [1, 2, 2, 1])
    np.testing.assert_array_equal(np.ravel(vae.prepare(images)), [0, 0, 1, 1])


def test_dynamic_binarization_has_the_grey_values_as_probabilities():
    vae = small_vae(binarize="dynamic")
    images = tf.fill([400, 28, 28, 1], tf.constant(51, tf.uint8))  # 51 / 255 = 0.2
    _, uniform = vae.noise(400, tf.constant([0, 0]))
    bits = vae.prepare(images, uniform).numpy()
    assert set(np.unique(bits)) == {0.0, 1.0}
    assert bits.mean() == pytest.approx(0.2, abs=0.003)


def test_dynamic_binarization_is_independent_of_the_sampling_noise():
    vae = small_vae(binarize="dynamic", latent_dim=28 * 28)
    epsilon, uniform = vae.noise(100, tf.constant([0, 0]))
    correlation = np.corrcoef(np.ravel(epsilon), np.ravel(uniform))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(100 * 28 * 28)


@pytest.mark.parametrize("settings", [{"binarize": "dynamic"}, {"likelihood": "gaussian"}, {}])
def test_neither_code_nor_elbo_of_an_image_depends_on_its_neighbours(settings):
    vae, images = small_vae(**settings), random_images(7)
    whole, alone = (vae.encode_arrays(part).z_mean for part in (images, images[5:6]))
    np.testing.assert_allclose(alone[0], whole[5], atol=1e-6)
    np.testing.assert_allclose(vae.encode_arrays(images[::-1], batch_size=2).z_mean[1], whole[5], atol=1e-6)
    elbos = vae.elbo_arrays(images, batch_size=3).elbo
    np.testing.assert_allclose(vae.elbo_arrays(images[5:6]).elbo[0], elbos[5], rtol=1e-5)
    np.testing.assert_array_equal(vae.prepare_arrays(images)[5], vae.prepare_arrays(images[5:6])[0])
    assert not np.allclose(vae.elbo_arrays(images, seed=1).elbo, elbos, rtol=1e-6)


def test_an_images_noise_has_the_moments_that_it_should_have_and_differs_between_images():
    vae = small_vae(latent_dim=500, binarize="dynamic")
    epsilon, uniform = vae.image_noise(random_images(20), 3)
    assert abs(epsilon.mean()) < 0.05
    assert abs(epsilon.std() - 1) < 0.05
    assert abs(uniform.mean() - 0.5) < 0.01
    assert abs(uniform.std() - 12**-0.5) < 0.01
    correlations = np.corrcoef(epsilon) - np.eye(20)
    assert np.abs(correlations).max() < 0.25
    same, _ = vae.image_noise(random_images(20), 3)
    np.testing.assert_array_equal(same, epsilon)
    assert vae.image_noise(random_images(1), 4)[0][0, 0] != epsilon[0, 0]


def test_weights_follow_from_the_seed_alone():
    keras.utils.set_random_seed(1)
    first = small_vae(seed=4)
    keras.utils.set_random_seed(2)
    second, other = small_vae(seed=4), small_vae(seed=5)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_keras_compile_fit_and_evaluate_lower_the_same_loss(sample):
    vae = small_vae()
    x = vae.prepare(tf.constant(sample.train_images[:500])).numpy()
    vae.compile(keras.optimizers.Adam(3e-3))
    before = vae.evaluate(x, batch_size=500, verbose=0)
    vae.fit(x, epochs=3, batch_size=50, verbose=0)
    after = vae.evaluate(x, batch_size=500, verbose=0)
    assert after < before - 100
    epsilon, _ = vae.noise(500, tf.constant([0, 30]))  # 3 epochs of 10 steps
    assert after == pytest.approx(-float(tf.reduce_mean(vae.elbo(x, epsilon).elbo)), rel=1e-4)


def test_batched_arrays_equal_single_calls():
    vae = small_vae()
    images = random_images(7)
    whole = vae.encode(vae.prepare(tf.constant(images)))
    parts = vae.encode_arrays(images, batch_size=3)
    np.testing.assert_allclose(parts.z_mean, whole.z_mean, atol=1e-5)
    z = np.random.default_rng(0).normal(size=(7, 2))
    np.testing.assert_allclose(vae.decode_arrays(z, batch_size=3), vae.decode(tf.constant(z, tf.float32)), atol=1e-5)


def test_a_sigma_below_its_bound_can_come_back():
    model = VAE(2, likelihood="gaussian", num_filters=2, hidden_units=4)
    model.raw_log_sigma.assign(-9.0)
    with tf.GradientTape() as tape:
        loss = tf.square(model.log_sigma() - 0.0)  # wants a larger sigma
    assert float(model.log_sigma()) == pytest.approx(math.log(1 / 256))
    assert float(tape.gradient(loss, model.raw_log_sigma.value)) < 0.0
    with tf.GradientTape() as tape:
        loss = model.log_sigma()  # wants a smaller one, which the bound forbids
    assert float(tape.gradient(loss, model.raw_log_sigma.value)) == 0.0


def test_a_decoder_comes_back_from_a_keras_file(tmp_path):
    model = VAE(2, num_filters=2, hidden_units=4)
    z = np.random.default_rng(0).standard_normal([3, 2]).astype(np.float32)
    model.decoder.save(tmp_path / "decoder.keras")
    again = keras.saving.load_model(tmp_path / "decoder.keras")
    np.testing.assert_array_equal(again(z), model.decoder(z))


def own_networks(outputs=4):
    encoder = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(outputs)])
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(784), keras.layers.Reshape((28, 28, 1))])
    return {"encoder": encoder, "decoder": decoder}


@pytest.mark.parametrize("networks", [dict, own_networks], ids=["built in", "own"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_model_comes_back_equal_from_a_keras_file(tmp_path, networks, likelihood):
    vae = small_vae(likelihood=likelihood, seed=3, **networks())
    images = random_images(3)
    vae.encode_arrays(images)
    vae.save(tmp_path / "mine.keras")
    again = keras.saving.load_model(tmp_path / "mine.keras")
    assert again.config == vae.config
    for a, b in zip(vae.elbo_arrays(images), again.elbo_arrays(images), strict=True):
        np.testing.assert_array_equal(a, b)
    twin = keras.models.clone_model(vae)
    assert twin.config == vae.config
    assert twin.count_params() == vae.count_params()


def test_networks_of_another_shape_are_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"the encoder must map \(B, 28, 28, 1\) to \(B, 4\), not to \(B, 3\)"):
        VAE(2, **own_networks(outputs=3))
    with pytest.raises(UserError, match=r"the decoder must map \(B, 3\) to \(B, 28, 28, 1\), and it cannot"):
        VAE(3, **own_networks(outputs=6))


def test_keras_fit_takes_bytes(sample):
    vae = small_vae(binarize="dynamic")
    vae.compile("adam")
    losses = vae.fit(sample.train_images[:500], epochs=3, batch_size=50, verbose=0).history["loss"]
    assert losses[2] < losses[0]
    x = vae.prepare(tf.constant(sample.train_images[:5]), tf.fill([5, 28, 28, 1], 0.5))
    np.testing.assert_allclose(vae(sample.train_images[:5]), vae.reconstruct(x), atol=1e-6)


class Halved(keras.layers.Layer):
    """A layer of one's own that Keras does not know by name."""

    def call(self, inputs):
        return 0.5 * inputs


def test_a_network_with_a_layer_of_ones_own_comes_back_where_it_is_named(tmp_path):
    encoder = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), Halved(), keras.layers.Dense(4)])
    vae = small_vae(encoder=encoder)
    vae.save(tmp_path / "mine.keras")
    with pytest.raises(TypeError, match="Halved"):
        keras.saving.load_model(tmp_path / "mine.keras")
    again = keras.saving.load_model(tmp_path / "mine.keras", custom_objects={"Halved": Halved})
    images = random_images(3)
    np.testing.assert_array_equal(again.encode_arrays(images).z_mean, vae.encode_arrays(images).z_mean)
