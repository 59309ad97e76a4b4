"""Bounds and integrals against closed forms: a linear-Gaussian model has an exact likelihood."""

import itertools
import math

import numpy as np
import pytest

from tests.conftest import small
from vae_lib import marginal
from vae_lib.backend import tf
from vae_lib.errors import UserError
from vae_lib.model import VAE, Posterior
from vae_lib.runs.store import load_run

SIDE = 8


class LinearGaussian(VAE):
    """p(x | z) = N(W z + b, s^2): p(x) and p(z | x) are Gaussian. The encoder is wrong by a known shift."""

    def __init__(self, matrix, sigma=0.5, shift=(0.0, 0.0)):
        super().__init__(2, likelihood="gaussian", image_shape=(SIDE, SIDE, 1), num_filters=2, hidden_units=2)
        self.raw_log_sigma.assign(math.log(sigma))
        self.matrix, self.sigma = np.asarray(matrix, np.float64), sigma
        self.precision = np.eye(2) + self.matrix.T @ self.matrix / sigma**2
        self.shift = np.asarray(shift)

    def mean_of_logits(self, logits):
        return logits

    def decode_logits(self, z, training=False):
        flat = 0.5 + tf.matmul(z, tf.constant(self.matrix.T, tf.float32))
        return tf.reshape(flat, [-1, SIDE, SIDE, 1])

    def encode(self, x):
        flat = tf.reshape(x, [-1, SIDE * SIDE]) - 0.5
        weights = np.linalg.solve(self.precision, self.matrix.T).T / self.sigma**2
        z_mean = tf.matmul(flat, tf.constant(weights, tf.float32)) + self.shift.astype(np.float32)
        log_var = -np.log(np.diag(self.precision)).astype(np.float32)  # the best diagonal Gaussian
        return Posterior(z_mean, tf.broadcast_to(log_var, tf.shape(z_mean)))

    def log_px(self, x):
        centred = x.reshape(len(x), -1).astype(np.float64) - 0.5
        covariance = self.matrix @ self.matrix.T + self.sigma**2 * np.eye(SIDE * SIDE)
        quadratic = (centred @ np.linalg.inv(covariance) * centred).sum(axis=1)
        return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])

    def draw(self, n, seed=1):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal([n, SIDE * SIDE]) * self.sigma
        flat = 0.5 + rng.standard_normal([n, 2]) @ self.matrix.T + noise
        return flat.reshape(n, SIDE, SIDE, 1).astype(np.float32)


def orthogonal(scale=1.0):
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal([SIDE * SIDE, 2]))
    return scale * q


def correlated(scale=1.0):
    return orthogonal(scale) @ np.array([[1.0, 0.9], [0.0, 0.5]])


# The posterior's standard deviation is sigma / scale: from wide to a hundredth.
@pytest.mark.parametrize(("scale", "sigma"), [(1.0, 0.5), (5.0, 0.5), (10.0, 0.1)])
def test_the_integral_is_the_closed_form(scale, sigma):
    model = LinearGaussian(correlated(scale), sigma)
    x = model.draw(40)
    found = marginal.exact_log_px(model, x)
    assert np.abs(found.log_px - model.log_px(x)).max() < 0.01
    assert found.error.max() < 0.05


def test_the_integral_does_not_need_a_good_encoder():
    model = LinearGaussian(orthogonal(10.0), 0.1, shift=(3.0, -3.0))
    x = model.draw(20)
    assert np.abs(marginal.exact_log_px(model, x).log_px - model.log_px(x)).max() < 0.01


def test_the_integral_reaches_codes_far_from_the_origin():
    model = LinearGaussian(orthogonal(5.0), 0.5)
    x = model.draw(10)
    x[0] = 0.5 + (model.matrix @ [9.0, -8.0]).reshape(SIDE, SIDE, 1)
    found = marginal.exact_log_px(model, x)
    assert np.abs(found.log_px - model.log_px(x)).max() < 0.01


def test_an_integral_that_was_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(marginal, "LEVELS", (4, 8))
    model = LinearGaussian(orthogonal(20.0), 0.1)
    x = model.draw(20)
    found = marginal.exact_log_px(model, x)
    assert np.abs(found.log_px - model.log_px(x)).max() > 0.05
    assert found.error.max() > 0.05


def test_other_dimensions_are_not_integrated():
    model = VAE(latent_dim=3, image_shape=(SIDE, SIDE, 1), num_filters=2, hidden_units=2)
    with pytest.raises(UserError, match="has 3"):
        marginal.exact_log_px(model, np.zeros([1, SIDE, SIDE, 1], np.float32))


def test_with_the_true_posterior_one_sample_is_enough():
    model = LinearGaussian(orthogonal(2.0))
    x = model.draw(30)
    bound = marginal.importance_weighted_bound(model, x, 1)
    assert np.abs(bound - model.log_px(x)).max() < 1e-2


def test_the_bound_grows_with_the_samples_to_log_px():
    model = LinearGaussian(orthogonal(1.0), shift=(0.6, 0.3))
    x = model.draw(60)
    bounds = [marginal.importance_weighted_bound(model, x, k).mean() for k in (1, 10, 100, 5000)]
    assert bounds == sorted(bounds)
    assert bounds[0] < model.log_px(x).mean() - 0.5
    assert abs(bounds[-1] - model.log_px(x).mean()) < 0.02


def test_the_bound_equals_its_definition_in_numpy():
    model = LinearGaussian(correlated(2.0), shift=(0.2, 0.1))
    x = model.draw(3)
    bound = marginal.importance_weighted_bound(model, x, 7, seed=5)
    epsilon = tf.random.stateless_normal([3, 7, 2], [5, 0]).numpy().astype(np.float64)
    z_mean, z_log_var = (a.numpy().astype(np.float64) for a in model.encode(tf.constant(x)))
    z = z_mean[:, None] + np.exp(z_log_var / 2)[:, None] * epsilon
    mean = 0.5 + z @ model.matrix.T

    def log_normal(value, centre, variance):
        return -0.5 * ((value - centre) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=-1)

    log_weights = (
        log_normal(x.reshape(3, 1, -1), mean, model.sigma**2)
        + log_normal(z, 0.0, np.ones(2))
        - log_normal(z, z_mean[:, None], np.exp(z_log_var)[:, None])
    )
    assert np.allclose(bound, np.log(np.exp(log_weights).mean(axis=1)), atol=1e-3)


def test_many_samples_come_in_chunks(monkeypatch):
    model = LinearGaussian(orthogonal(1.0), shift=(0.6, 0.3))
    x = model.draw(20)
    whole = marginal.importance_weighted_bound(model, x, 600)
    monkeypatch.setattr(marginal, "DECODED_AT_ONCE", 100 * SIDE * SIDE)
    chunked = marginal.importance_weighted_bound(model, x, 600)
    assert np.abs(whole - chunked).mean() < 0.2  # other noise, the same quantity
    assert np.abs(chunked.mean() - model.log_px(x).mean()) < 0.1


def test_the_gaps_are_their_closed_forms():
    model = LinearGaussian(correlated(2.0), shift=(0.2, -0.1))
    x = model.draw(20)
    gaps = marginal.best_gaussian(model, x)
    # The best diagonal Gaussian has the diagonal of the precision; its KL to the posterior is known.
    approximation = 0.5 * (np.log(np.diag(model.precision)).sum() - np.linalg.slogdet(model.precision)[1])
    amortization = 0.5 * model.shift @ model.precision @ model.shift
    assert approximation > 0.1
    assert np.allclose(model.log_px(x) - gaps.best, approximation, atol=0.02)
    assert np.allclose(gaps.best - gaps.encoder, amortization, atol=0.02)


@pytest.mark.parametrize("kind", ["bernoulli", "continuous_bernoulli", "gaussian"])
def test_the_joint_is_its_definition(kind):
    model = VAE(latent_dim=2, image_shape=(SIDE, SIDE, 1), num_filters=2, hidden_units=8, likelihood=kind)
    x = model.prepare_arrays(np.random.default_rng(0).integers(0, 256, [5, SIDE, SIDE, 1], dtype=np.uint8))
    z = np.random.default_rng(1).standard_normal([4, 2])
    logits = model.decode_logits(tf.constant(z, tf.float32))
    expected = [[-float(model.nll(tf.constant(image[None]), logits[k : k + 1])[0]) for k in range(4)] for image in x]
    prior = -0.5 * np.square(z).sum(axis=1) - np.log(2 * np.pi)
    assert np.allclose(marginal.log_joint(model, x, z), expected + prior, atol=1e-3)


def test_every_bound_is_in_its_place(small_run, sample):
    """Exact >= IWAE-5000 >= IWAE-50 >= ELBO, each within three standard errors of the difference."""
    model = load_run(small_run).model
    images = small(sample, test=15).test_images
    x = model.prepare_arrays(images)
    exact = marginal.exact_log_px(model, x)
    ladder = [
        exact.log_px,
        marginal.importance_weighted_bound(model, x, 5000),
        marginal.importance_weighted_bound(model, x, 50),
        model.elbo_arrays(images).elbo.astype(np.float64),
    ]
    for higher, lower in itertools.pairwise(ladder):
        difference = higher - lower
        assert difference.mean() > -3 * difference.std() / math.sqrt(len(difference)) - exact.error.max()
    assert ladder[0].mean() - ladder[-1].mean() > 0.1


def test_log_sum_exp_survives_what_exp_does_not():
    values = np.array([[-4000.0, -4001.0], [-np.inf, -np.inf], [800.0, 800.0]])
    expected = [-4000 + math.log1p(math.exp(-1)), -np.inf, 800 + math.log(2)]
    assert np.allclose(marginal.log_sum_exp(values), expected)


def test_any_gaussian_can_be_sampled_from():
    model = LinearGaussian(orthogonal(1.0), shift=(3.0, -3.0))
    x = model.draw(20)
    gaps = marginal.best_gaussian(model, x)
    assert np.abs(marginal.importance_weighted_bound(model, x, 50) - model.log_px(x)).mean() > 1.0
    better = marginal.importance_weighted_bound(model, x, 50, posterior=gaps.posterior)
    assert np.abs(better - model.log_px(x)).max() < 0.05


def test_a_narrow_gaussian_keeps_its_digits():
    """Slope and offset nearly cancel there; the sum over the pixels in double precision is the reference."""
    model = VAE(2, image_shape=(32, 32, 1), num_filters=2, hidden_units=8, likelihood="gaussian")
    model.raw_log_sigma.assign(math.log(1 / 200))
    z = np.random.default_rng(0).standard_normal([5, 2])
    x = model.decode_arrays(z) + np.float32(0.003)
    mean = model.decode_arrays(z).astype(np.float64).reshape(5, 1, -1)
    log_sigma = float(model.log_sigma())
    squared = np.square((x.reshape(1, 5, -1) - mean) * math.exp(-log_sigma))
    nll = (0.5 * squared + log_sigma + 0.5 * math.log(2 * math.pi)).sum(axis=-1).T
    prior = -0.5 * np.square(z).sum(axis=-1) - math.log(2 * math.pi)
    np.testing.assert_allclose(marginal.log_joint(model, x, z), prior - nll, atol=1e-3)


def test_the_reach_of_the_integral_is_found_in_batches(monkeypatch):
    model = VAE(2, image_shape=(SIDE, SIDE, 1), num_filters=2, hidden_units=8)
    x = (np.random.default_rng(0).random([4, SIDE, SIDE, 1]) < 0.5).astype(np.float32)
    whole = marginal.exact_log_px(model, x).log_px
    decoded, real = [], VAE.decode_logits

    def counted(self, z, training=False):
        tf.py_function(lambda n: decoded.append(int(n)), [tf.shape(z)[0]], [])
        return real(self, z, training=training)

    monkeypatch.setattr(VAE, "decode_logits", counted)
    monkeypatch.setattr(marginal, "DECODED_AT_ONCE", 500 * SIDE * SIDE)
    np.testing.assert_allclose(marginal.exact_log_px(model, x).log_px, whole, atol=1e-6)
    assert 0 < max(decoded) <= 500
