"""Loss terms as pure functions, per example and in nats: ``(B, ...) -> (B,)``.

Each sums over every axis but the first and never averages: a mean over pixels or latent dimensions would
silently change the weight between reconstruction and KL.

A tensor that collects three or more gradient contributions makes TensorFlow's graphs add them in an order
that changes from run to run. The forms below give each input at most two, so that training on a CPU is
repeatable bit for bit.
"""

from __future__ import annotations

import math

from vae_lib.backend import tf

LOG_2PI = math.log(2 * math.pi)


def _sum_per_example(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(x, axis=tf.range(1, tf.rank(x)))  # (B, ...) -> (B,)


def gaussian_kl(z_mean: tf.Tensor, z_log_var: tf.Tensor, z_sigma: tf.Tensor | None = None) -> tf.Tensor:
    """KL(N(z_mean, exp(z_log_var)) || N(0, I)) in nats, (B, D) -> (B,).

    ``z_sigma``, exp(z_log_var / 2), can be passed when it is already known; sharing it keeps training
    repeatable. Kingma and Welling 2014, appendix B.
    """
    if z_sigma is None:
        z_sigma = tf.exp(0.5 * z_log_var)
    return 0.5 * _sum_per_example(tf.square(z_mean) + tf.square(z_sigma) - 1.0 - z_log_var)


def bernoulli_nll(x: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-log p(x | logits) of binary pixels in nats, (B, H, W, C) -> (B,): softplus(l) - x l."""
    return _sum_per_example(tf.nn.softplus(logits) - x * logits)


def continuous_bernoulli_nll(x: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-log p(x | logits) of grey pixels in [0, 1] in nats, (B, H, W, C) -> (B,): A(l) - x l.

    A density, so it can be negative. Loaiza-Ganem and Cunningham 2019, equation 8, written in logits.
    """
    return _sum_per_example(continuous_bernoulli_log_normalizer(logits) - x * logits)


@tf.custom_gradient
def continuous_bernoulli_log_normalizer(logits: tf.Tensor) -> tuple[tf.Tensor, object]:
    """A(l) = log((e^l - 1) / l), elementwise; its derivative is the distribution's mean."""
    half = tf.maximum(tf.abs(0.5 * logits), 1e-2)
    exact = half + tf.math.log(-tf.math.expm1(-2.0 * half)) - tf.math.log(2.0 * half)  # log(sinh(a) / a)
    series = tf.square(logits) / 24.0  # near 0 the exact form loses its digits
    value = 0.5 * logits + tf.where(tf.abs(logits) < 2e-2, series, exact)
    return value, lambda upstream: upstream * continuous_bernoulli_mean(logits)


def continuous_bernoulli_mean(logits: tf.Tensor) -> tf.Tensor:
    """E[x | l] = 1 / (1 - e^-l) - 1 / l, elementwise, in [0, 1]; it is not sigmoid(l)."""
    small = tf.abs(logits) < 1e-1
    safe = tf.where(small, 1.0, logits)
    exact = 0.5 + 0.5 / tf.tanh(0.5 * safe) - 1.0 / safe
    return tf.where(small, 0.5 + logits / 12.0 - logits * tf.square(logits) / 720.0, exact)


def continuous_bernoulli_variance(logits: tf.Tensor) -> tf.Tensor:
    """Var[x | l] = 1 / l^2 - 1 / (4 sinh(l / 2)^2), elementwise, in (0, 1/12]: the derivative of the mean."""
    half = tf.minimum(0.5 * tf.abs(logits), 40.0)  # beyond, the second term is 0 in float32
    safe = tf.maximum(half, 5e-2)
    exact = 0.25 / tf.square(tf.maximum(0.5 * tf.abs(logits), 5e-2)) - 0.25 / tf.square(tf.sinh(safe))
    return tf.where(half < 5e-2, 1.0 / 12.0 - tf.square(logits) / 240.0, exact)


def gaussian_nll(x: tf.Tensor, mean: tf.Tensor, log_sigma: tf.Tensor) -> tf.Tensor:
    """-log N(x; mean, exp(log_sigma)^2) in nats, (B, H, W, C) -> (B,); ``log_sigma`` broadcasts.

    A density, so it can be negative. Rybkin, Daniilidis and Levine 2021 learn one scalar ``log_sigma``.
    """
    squared = 0.5 * tf.square((x - mean) * tf.exp(-log_sigma))
    return _sum_per_example(squared + (log_sigma + 0.5 * LOG_2PI))


# ---- The discretized logistic --------------------------------------------------------------------------------
# A grey level k of 256 has the mass that a logistic distribution gives to [k / 256, (k + 1) / 256]; all that lies below
# 0 or above 1 goes to the two ends (Salimans et al. 2017). Unlike a density it cannot exceed 1, so its nats are bits
# that a decoder really spends. Pixels x are the middles of their levels, (k + 1/2) / 256.

LEVEL = 1 / 256


def discretized_logistic_nll(x: tf.Tensor, location: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """-log P(x | location, scale) of grey levels in nats, three of (B, H, W, C) -> (B,).

    A location below 0 says that a pixel is black and how surely, whatever the scale.
    """
    return _sum_per_example(_logistic_level_nll(x, location, log_scale))


@tf.custom_gradient
def _logistic_level_nll(x: tf.Tensor, location: tf.Tensor, log_scale: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Elementwise; sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)) needs no small difference."""
    below = tf.cast(x < 1.0 - LEVEL, tf.float32)  # a level has an upper border unless it is the last,
    above = tf.cast(x > LEVEL, tf.float32)  # and a lower border unless it is the first
    precision = tf.exp(-log_scale)
    centre, width = (x - location) * precision, LEVEL * precision
    upper, lower = centre + 0.5 * width, centre - 0.5 * width
    value = below * tf.nn.softplus(-upper) + above * tf.nn.softplus(lower)
    value -= below * above * tf.math.log(-tf.math.expm1(-width))

    def gradient(upstream: tf.Tensor) -> tuple[None, tf.Tensor, tf.Tensor]:
        at_upper, at_lower = below * tf.sigmoid(-upper), above * tf.sigmoid(lower)
        by_location = precision * (at_upper - at_lower)
        by_scale = upper * at_upper - lower * at_lower + below * above * width * tf.exp(-width) / -tf.math.expm1(-width)
        return None, upstream * by_location, upstream * by_scale

    return value, gradient


def discretized_logistic_mean(location: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """E[x], elementwise, in [0, 1]: what lies beyond 0 and 1 counts as 0 and 1, wherever the logistic has its middle.

    The levels are taken as infinitely narrow, which is off by much less than one of them.
    """
    return _logistic_moments(location, log_scale)[0]


def discretized_logistic_variance(location: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """Var[x], elementwise, by the dilogarithm; levels infinitely narrow."""
    return _logistic_moments(location, log_scale)[1]


def _logistic_moments(location: tf.Tensor, log_scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance around r, the location moved into [0, 1]: integrals of P(Y > t) above it and P(Y < t) below."""
    scale = tf.exp(log_scale)
    r = tf.clip_by_value(location, 0.0, 1.0)

    def one_side(near: tf.Tensor, far: tf.Tensor, beyond: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        near, far = tf.maximum(near, 0.0) / scale, tf.maximum(far, 0.0) / scale
        first = scale * (tf.nn.softplus(-near) - tf.nn.softplus(-far))
        return first, 2.0 * (tf.square(scale) * (_dilogarithmic(far) - _dilogarithmic(near)) - beyond * first)

    above = one_side(r - location, 1.0 - location, r - location)
    below = one_side(location - r, location, location - r)
    return r + above[0] - below[0], above[1] + below[1] - tf.square(above[0] - below[0])


def _dilogarithmic(b: tf.Tensor) -> tf.Tensor:
    """The integral of y sigmoid(-y) from 0 to b, for b >= 0."""
    return math.pi**2 / 12 - b * tf.nn.softplus(-b) + tf.math.special.spence(1.0 + tf.exp(-b))
