"""The loss terms against NumPy, closed forms and Monte Carlo: these pin the units."""

import math

import numpy as np
import pytest

from vae_lib import losses
from vae_lib.backend import tf

rng = np.random.default_rng(3)
MEAN = rng.normal(size=(5, 3)).astype(np.float32)
LOG_VAR = rng.normal(size=(5, 3)).astype(np.float32)
LOGITS = 3 * rng.normal(size=(4, 7, 6, 3)).astype(np.float32)
GREY = rng.uniform(size=(4, 7, 6, 3)).astype(np.float32)


def test_kl_is_the_closed_form_summed_over_dimensions():
    expected = 0.5 * (MEAN**2 + np.exp(LOG_VAR) - 1 - LOG_VAR).sum(axis=1)
    np.testing.assert_allclose(losses.gaussian_kl(MEAN, LOG_VAR), expected, rtol=1e-5)
    shared = losses.gaussian_kl(MEAN, LOG_VAR, tf.exp(0.5 * LOG_VAR))
    np.testing.assert_allclose(shared, expected, rtol=1e-5)


def test_kl_agrees_with_monte_carlo():
    sigma = np.exp(LOG_VAR / 2)
    noise = rng.normal(size=(100_000, 5, 3))
    z = MEAN + sigma * noise
    log_ratio = (-0.5 * noise**2 - LOG_VAR / 2 + 0.5 * z**2).sum(axis=2)
    error = log_ratio.std(axis=0) / math.sqrt(len(noise))
    assert (np.abs(losses.gaussian_kl(MEAN, LOG_VAR) - log_ratio.mean(axis=0)) < 4 * error).all()


def test_kl_doubles_when_the_dimensions_double():
    twice = losses.gaussian_kl(np.tile(MEAN, 2), np.tile(LOG_VAR, 2))
    np.testing.assert_allclose(twice, 2 * losses.gaussian_kl(MEAN, LOG_VAR), rtol=1e-5)


def test_bernoulli_is_numpys_cross_entropy_summed_over_pixels_and_channels():
    bits = (GREY > 0.5).astype(np.float32)
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    expected = -(bits * np.log(p) + (1 - bits) * np.log(1 - p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(losses.bernoulli_nll(bits, LOGITS), expected, rtol=1e-5)


def test_gaussian_is_numpys_density():
    mean, sigma = 1 / (1 + np.exp(-LOGITS.astype(np.float64))), 0.3
    expected = (0.5 * ((GREY - mean) / sigma) ** 2 + math.log(sigma * math.sqrt(2 * math.pi))).sum(axis=(1, 2, 3))
    actual = losses.gaussian_nll(GREY, tf.cast(mean, tf.float32), tf.math.log(0.3))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize("logit", [-40.0, -3.0, -0.05, -1e-3, 0.0, 1e-6, 0.019, 0.021, 0.5, 8.0, 60.0])
def test_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit):
    x = np.linspace(0, 1, 200_001)
    log_density = x * logit - float(losses.continuous_bernoulli_log_normalizer(tf.constant(logit)))
    density = np.exp(log_density)
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-4)
    mean = float(losses.continuous_bernoulli_mean(tf.constant(logit)))
    assert mean == pytest.approx(np.trapezoid(x * density, x), abs=1e-4)
    nll = losses.continuous_bernoulli_nll(tf.constant([[0.25]]), tf.constant([[logit]]))
    assert float(nll[0]) == pytest.approx(-np.interp(0.25, x, log_density), abs=1e-3)


def test_continuous_bernoulli_gradient_is_the_mean_minus_x():
    logits = tf.constant([[-70.0, -2.0, -0.01, 0.01, 3.0, 70.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nll = losses.continuous_bernoulli_nll(tf.fill([1, 6], 0.5), logits)
    expected = losses.continuous_bernoulli_mean(logits) - 0.5
    np.testing.assert_allclose(tape.gradient(nll, logits), expected, atol=1e-6)


@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_logits_stay_finite(extreme):
    logits = tf.fill([2, 3], extreme)
    for nll in (losses.bernoulli_nll, losses.continuous_bernoulli_nll):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = nll(tf.constant([[0.0, 0.5, 1.0]] * 2), logits)
        assert np.isfinite(value).all()
        assert np.isfinite(tape.gradient(value, logits)).all()


def test_the_normalizer_keeps_its_digits_for_small_logits():
    logits = np.linspace(0.021, 0.5, 400).astype(np.float32)
    half = 0.5 * logits.astype(np.float64)
    exact = half + np.log(np.sinh(half) / half)
    found = losses.continuous_bernoulli_log_normalizer(tf.constant(logits)).numpy()
    assert np.abs(found - exact).max() < 1e-6


def test_the_mean_of_a_continuous_bernoulli_near_its_middle_is_exact():
    """Where the closed form loses its digits a series takes over; both against double precision."""
    logits = np.array([-0.2, -0.0999, -0.05, 0.03, 0.0999, 0.1001, 0.3])
    expected = 1 / (1 - np.exp(-logits)) - 1 / logits
    found = losses.continuous_bernoulli_mean(tf.constant(logits, tf.float32))
    np.testing.assert_allclose(found, expected, atol=7e-7)
    np.testing.assert_allclose(losses.continuous_bernoulli_mean(tf.constant([0.0999])), expected[4:5], atol=7e-8)
