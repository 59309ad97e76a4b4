"""How likely images are under a trained model: importance-weighted bounds, and log p(x) itself in two dimensions.

Everything here works on prepared images x, (N, H, W, C) float32, as `VAE.prepare_arrays` makes them, so that every
quantity speaks of the same pixels. All results are in nats per image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vae_lib.arrays import as_codes, as_prepared, check_count, check_seed
from vae_lib.backend import keras, parallel_map, tf
from vae_lib.config import EVALUATION_SEED
from vae_lib.errors import UserError
from vae_lib.losses import LOG_2PI, discretized_logistic_nll, gaussian_kl
from vae_lib.model import VAE, Posterior, check_model

DECODED_AT_ONCE = 2_000_000  # pixels in one batch: larger ones leave the processor's caches and are slower
DECODED_TOGETHER = 2048  # codes of several tiles, where each has few: a call costs as much as decoding dozens
TILE = 0.5  # the side of the squares that the latent plane is cut into
LEVELS = (4, 8, 16, 32, 64, 128)  # points along a tile's side: the first finds the tiles that matter, the others sum
FARTHEST = 16.0  # from the origin, where the prior's log density is below -128
NEGLIGIBLE = 25.0  # a tile that holds less than exp(-25) of an image's mass is not refined
COARSE = 75.0  # the same for the coarsest lattice, which can miss the top of a narrow peak


def log_sum_exp(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """log(sum(exp(values))) along an axis, in double precision; -inf where all values are."""
    values = np.asarray(values, np.float64)
    top = values.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - top).sum(axis=axis)) + np.squeeze(top, axis)


def importance_weighted_bound(
    model: VAE,
    x: np.ndarray,
    samples: int,
    *,
    seed: int = 0,
    posterior: Posterior | None = None,
    progress: str | None = None,
) -> np.ndarray:
    """The importance-weighted bound with ``samples`` samples an image, (N, H, W, C) -> (N,) float64.

    log 1/K sum_k p(x, z_k) / q(z_k | x) with z_k from q(z | x): Burda et al. 2016, equation 8. Its expectation
    grows with K from the ELBO towards log p(x). The noise is a function of ``seed``, ``samples`` and the place of an
    image among ``x``. In place of the encoder's q(z | x) other Gaussians can be given as ``posterior``, arrays (N, D):
    every one gives a bound.
    """
    samples, seed = check_count(samples, "the number of importance samples"), check_seed(seed)
    x = as_prepared(x, model.config.image_shape)
    at_once = max(1, DECODED_AT_ONCE // math.prod(x.shape[1:]))
    chunk = min(samples, at_once)
    images = max(1, min(500, at_once // chunk))
    codes = tf.TensorSpec([None, model.config.latent_dim])
    specs = [
        tf.TensorSpec([None, *x.shape[1:]]),
        codes,
        codes,
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([2], tf.int32),
    ]

    def weights(batch: tf.Tensor, z_mean: tf.Tensor, z_log_var: tf.Tensor, k: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        epsilon = tf.random.stateless_normal([tf.shape(batch)[0], k, model.config.latent_dim], key)
        z = z_mean[:, None] + tf.exp(0.5 * z_log_var)[:, None] * epsilon  # (B, K, D)
        flat = tf.reshape(z, [-1, model.config.latent_dim])
        nll = tf.reshape(model.nll(tf.repeat(batch, k, axis=0), model.decode_logits(flat)), [-1, k])
        # log p(z) - log q(z | x): the constants cancel
        prior = 0.5 * tf.reduce_sum(tf.square(epsilon) + z_log_var[:, None] - tf.square(z), axis=-1)
        return prior - nll  # (B, K)

    run = tf.function(weights).get_concrete_function(*specs)

    def part(start: int) -> np.ndarray:
        rows = slice(start, start + images)
        batch, logs = tf.constant(x[rows]), []
        q = model.encode(batch) if posterior is None else [tf.constant(a[rows], tf.float32) for a in posterior]
        for done in range(0, samples, chunk):
            key = tf.constant([seed, (start * samples + done) % 2**31], tf.int32)
            logs.append(log_sum_exp(run(batch, *q, tf.constant(min(chunk, samples - done)), key).numpy()))
        return log_sum_exp(np.stack(logs, axis=-1)) - math.log(samples)

    return np.concatenate(parallel_map(part, range(0, len(x), images), progress=progress))


# ---- The plane, integrated ---------------------------------------------------------------------------------
# The likelihoods of one number a pixel are exponential families in x: log p(x | z) = x . slope(z) - offset(z) -
# base(x). So the values at many points for many images are one matrix product. The discretized logistic is none: its
# values are computed pixel by pixel for each pair, which takes about a hundred times as long.


Points = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Values = Callable[[np.ndarray], np.ndarray]  # images (n, P) to log p(x, z) + base(x) at some codes, (n, K)
Plane = Callable[[np.ndarray], Values]  # codes (K, 2) to these values


def _plane(model: VAE) -> Plane:
    """A function of codes (K, 2) that decodes them once and gives their `Values` for any images."""
    if model.config.likelihood == "discretized_logistic":
        return _pairs(model)
    points = _points(model)

    def at(z: np.ndarray) -> Values:
        slope, offset = points(z)
        return lambda flat: flat @ slope.T - offset

    return at


def _pairs(model: VAE) -> Plane:
    def values(flat: tf.Tensor, mean: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(lambda x: -discretized_logistic_nll(tf.broadcast_to(x, tf.shape(mean)), mean, log_scale), flat)

    run = tf.function(values).get_concrete_function(*[tf.TensorSpec([None, None])] * 3)

    def at(z: np.ndarray) -> Values:
        logits = model.decode_logits(tf.constant(z, tf.float32))
        terms = [tf.reshape(term, [len(z), -1]) for term in model.location_and_log_scale(logits)]
        offset = 0.5 * np.square(z).sum(axis=-1) + LOG_2PI
        return lambda flat: run(tf.constant(flat, tf.float32), *terms).numpy().astype(np.float64) - offset

    return at


def _points(model: VAE) -> Points:
    """A function of codes (K, 2) that gives slopes (K, P) and offsets (K,), float64; the offset holds -log p(z) too."""

    gaussian = model.config.likelihood == "gaussian"

    def linear(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = model.decode_logits(z)
        slope = model.mean_of_logits(logits) if gaussian else logits
        return tf.reshape(slope, [tf.shape(z)[0], -1]), model.nll(tf.zeros_like(logits), logits)

    run = tf.function(linear).get_concrete_function(tf.TensorSpec([None, 2]))
    log_sigma = float(model.log_sigma()) if gaussian else 0.0

    def points(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slope, offset = (tensor.numpy().astype(np.float64) for tensor in run(tf.constant(z, tf.float32)))
        if gaussian:  # from the means in double precision, since slope and offset nearly cancel
            precision = math.exp(-2.0 * log_sigma)
            constant = slope.shape[1] * (log_sigma + 0.5 * LOG_2PI)
            offset = 0.5 * precision * np.square(slope).sum(axis=-1) + constant
            slope *= precision
        return slope, offset + 0.5 * np.square(z).sum(axis=-1) + LOG_2PI

    return points


def _base(model: VAE, x: np.ndarray) -> np.ndarray:
    """The part of -log p(x | z) that does not depend on z, (N, P) -> (N,)."""
    if model.config.likelihood != "gaussian":
        return np.zeros(len(x))
    return 0.5 * np.square(x).sum(axis=-1) * math.exp(-2.0 * float(model.log_sigma()))


def log_joint(model: VAE, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """log p(x, z) of every image with every code of a plane, (N, H, W, C), (K, 2) -> (N, K) float64."""
    x = as_prepared(x, model.config.image_shape)
    flat = x.reshape(len(x), -1).astype(np.float64)
    return _plane(model)(as_codes(z, 2))(flat) - _base(model, flat)[:, None]


class Exact(NamedTuple):
    """log p(x) by numerical integration and its estimated error, both (N,) in nats."""

    log_px: np.ndarray
    error: np.ndarray


def exact_log_px(model: VAE, x: np.ndarray, *, tolerance: float = 0.02, progress: str | None = None) -> Exact:
    """log p(x) of a model with two latent dimensions, the integral of p(x | z) p(z) over the plane.

    The plane is cut into square tiles with a lattice of midpoints in each. The lattice is made twice as fine, in
    the tiles that matter to an image, until the four lattices of twice the spacing that it is made of agree within
    ``tolerance``: their spread is the stated error. For a smooth integrand that vanishes at the border the midpoint
    rule converges faster than any power of the spacing (Trefethen and Weideman 2014), so the whole lattice is much
    better than its quarters. The share of the mass in the outermost tiles is added to the error. Raises `UserError`
    for another number of dimensions.
    """
    if model.config.latent_dim != 2:
        raise UserError(f"log p(x) is integrated over 2 latent dimensions; this model has {model.config.latent_dim}.")
    x = as_prepared(x, model.config.image_shape)
    flat = x.reshape(len(x), -1).astype(np.float64)
    plane = _plane(model)
    z_mean = _encode(model, x)
    reach = _reach(plane, flat, z_mean)
    edges = np.arange(-reach, reach, TILE)
    corners = np.stack(np.meshgrid(edges, edges), axis=-1).reshape(-1, 2)  # (T, 2)
    home = np.square(z_mean[:, None] - (corners + TILE / 2)).sum(axis=-1).argmin(axis=1)  # where z_mean lies
    mass = np.full([len(x), len(corners)], -np.inf)  # log of the integral over each tile
    total, error = np.full(len(x), -np.inf), np.full(len(x), np.inf)
    for side in LEVELS:
        still = np.flatnonzero(error > tolerance)
        if not len(still):
            break
        wanted = np.zeros_like(mass, bool)
        depth = {LEVELS[0]: np.inf, LEVELS[1]: COARSE}.get(side, NEGLIGIBLE)
        wanted[still] = mass[still] >= total[still, None] - depth
        wanted[still, home[still]] = True
        quarters = np.full([len(x), 4], -np.inf)

        def refine(group: np.ndarray, side: int = side, wanted: np.ndarray = wanted) -> tuple[np.ndarray, np.ndarray]:
            rows = np.flatnonzero(wanted[:, group].any(axis=1))
            return rows, _tile_quarters(plane, flat[rows], corners[group], side)

        tiles = np.flatnonzero(wanted.any(axis=0))
        many = max(1, min(DECODED_TOGETHER, DECODED_AT_ONCE // flat.shape[1]) // side**2)
        groups = np.split(tiles, range(many, len(tiles), many))
        for group, (rows, found) in zip(groups, parallel_map(refine, groups, progress=progress), strict=True):
            place = np.ix_(rows, group)
            found[~wanted[place]] = -np.inf
            mass[place] = np.where(wanted[place], log_sum_exp(found) - math.log(4), mass[place])
            quarters[rows] = np.logaddexp(quarters[rows], log_sum_exp(found, axis=1))
        total[still] = log_sum_exp(quarters[still]) - math.log(4)
        if side > LEVELS[0]:
            error[still] = np.ptp(quarters[still], axis=1)
    border = (np.abs(corners + TILE / 2) > reach - TILE).any(axis=1)
    return Exact(total - _base(model, flat), error + np.exp(log_sum_exp(mass[:, border]) - total))


def _encode(model: VAE, x: np.ndarray) -> np.ndarray:
    """z_mean of prepared images, (N, H, W, C) -> (N, D)."""
    batches = range(0, len(x), 500)
    return np.concatenate(parallel_map(lambda i: model.encode(tf.constant(x[i : i + 500])).z_mean.numpy(), batches))


def _reach(plane: Plane, flat: np.ndarray, z_mean: np.ndarray) -> float:
    """How far from the origin, along the axes, images (N, P) have mass: a multiple of the tiles' side."""
    steps = np.arange(-FARTHEST, FARTHEST + 0.1, TILE / 2)
    lattice = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    rings, ring = np.unique(np.abs(lattice).max(axis=1), return_inverse=True)
    order = np.argsort(ring, kind="stable")  # from the centre outwards
    highest = np.full([len(flat), len(rings)], -np.inf)  # of each image's values on each ring
    for part in np.split(order, range(0, len(order), max(1, DECODED_AT_ONCE // flat.shape[1]))[1:]):
        values = plane(lattice[part])
        for i in range(0, len(flat), 500):
            for r, found in enumerate(np.split(values(flat[i : i + 500]), np.flatnonzero(np.diff(ring[part])) + 1, 1)):
                here = ring[part[0]] + r
                highest[i : i + 500, here] = np.maximum(highest[i : i + 500, here], found.max(axis=1))
    matters = (highest > highest.max(axis=1, keepdims=True) - NEGLIGIBLE).any(axis=0)
    needed = max(6.0, float(np.abs(z_mean).max()) + 1.0, float(rings[matters].max()) + TILE)
    return min(FARTHEST, TILE * math.ceil(needed / TILE))


def _tile_quarters(plane: Plane, flat: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """log of the integral over tiles by each of the four lattices of each second point, (n, P), (T, 2) -> (n, T, 4)."""
    steps = (np.arange(side) + 0.5) * (TILE / side)
    quarters = np.full([len(flat), len(corners), 4], -np.inf)
    rows = max(2, DECODED_AT_ONCE // (len(corners) * side * flat.shape[1]) // 2 * 2)  # of the lattices, an even number
    for y in np.split(steps, range(rows, side, rows)):
        lattice = np.stack(np.meshgrid(steps, y), axis=-1).reshape(-1, 2)
        values = plane((corners[:, None] + lattice).reshape(-1, 2))(flat)
        values = values.reshape(len(flat), len(corners), len(y) // 2, 2, side // 2, 2)
        values = values.transpose(0, 1, 3, 5, 2, 4).reshape(*quarters.shape, -1)
        quarters = np.logaddexp(quarters, log_sum_exp(values))
    return quarters + 2.0 * math.log(2.0 * TILE / side)


# ---- The best Gaussian -------------------------------------------------------------------------------------


def hermite(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (order^2, 2) and weights of a 2-D standard normal expectation, exact for degree 2 order - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    return grid.astype(np.float32), np.outer(weights, weights).reshape(-1).astype(np.float32) / (2 * math.pi)


def _quadrature_elbo(model: VAE, x: tf.Tensor, z_mean: tf.Tensor, z_log_var: tf.Tensor, order: int) -> tf.Tensor:
    """The ELBO (B,) of Gaussians in two dimensions, its expectation a Gauss-Hermite sum instead of a sample."""
    return _weighted_elbo(model, x, z_mean, z_log_var, *hermite(order))


def _weighted_elbo(
    model: VAE, x: tf.Tensor, z_mean: tf.Tensor, z_log_var: tf.Tensor, nodes: np.ndarray, weights: np.ndarray
) -> tf.Tensor:
    """The ELBO (B,) of Gaussians, its expectation a sum over ``nodes`` (K, D) of a standard normal."""
    z = z_mean[:, None] + tf.exp(0.5 * z_log_var)[:, None] * nodes  # (B, K, D)
    logits = model.decode_logits(tf.reshape(z, [-1, nodes.shape[1]]))
    nll = tf.reshape(model.nll(tf.repeat(x, len(nodes), axis=0), logits), [-1, len(nodes)])
    return -tf.linalg.matvec(nll, weights) - gaussian_kl(z_mean, z_log_var)


class Gaps(NamedTuple):
    """ELBOs (N,) in nats of the encoder's Gaussian and of the best one found for each image, and the best ones."""

    encoder: np.ndarray
    best: np.ndarray
    posterior: Posterior


def best_gaussian(model: VAE, x: np.ndarray, *, steps: int = 150, progress: str | None = None) -> Gaps:
    """How good a Gaussian q(z | x) could be: each image's own mean and variances, fitted by gradient ascent.

    log p(x) - best is what no Gaussian with a diagonal covariance can reach (the approximation gap), best - encoder
    what this encoder misses of it (the amortization gap): Cremer, Li and Duvenaud 2018. For two dimensions. The
    ascent starts from the encoder's Gaussian and from the likeliest point of a coarse grid, and the better end counts.
    """
    x = as_prepared(x, model.config.image_shape)
    values = np.linspace(-4.0, 4.0, 65)
    grid = np.stack(np.meshgrid(values, values), axis=-1).reshape(-1, 2)
    ascend = _ascent(functools.partial(_quadrature_elbo, model, order=4), steps)

    def part(start: int) -> tuple[np.ndarray, ...]:
        batch = tf.constant(x[start : start + 50])
        mean, log_var = model.encode(batch)
        peak = tf.constant(grid[log_joint(model, batch.numpy(), grid).argmax(axis=1)], tf.float32)
        ends = [(mean, log_var)] + [ascend(batch, centre, log_var) for centre in (mean, peak)]
        elbos = np.stack([_quadrature_elbo(model, batch, *end, order=8).numpy() for end in ends])
        best = elbos.argmax(axis=0), np.arange(len(batch))
        return elbos[0], elbos[best], *(np.stack(column)[best] for column in zip(*ends, strict=True))

    parts = parallel_map(part, range(0, len(x), 50), progress=progress)
    encoder, elbo, mean, log_var = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Gaps(encoder, elbo, Posterior(mean, log_var))


def refine(
    vae: VAE,
    images: np.ndarray,
    *,
    steps: int = 40,
    samples: int = 16,
    seed: int = EVALUATION_SEED,
    progress: str | None = None,
) -> Posterior:
    """Each image's own Gaussian, by gradient ascent of its ELBO from the encoder's: two arrays (N, D).

    Half-way between one network for all images and inference from scratch (Kim et al. 2018). ``images`` are bytes or
    floats in [0, 1], (N, H, W, C). In two dimensions the ELBO is a Gauss-Hermite sum, and `best_gaussian` is the limit
    of many ``steps``; in more dimensions it is the mean of ``samples`` draws whose noise, a function of ``seed``, is
    the same at every step and comes in pairs of opposite sign. Raises `UserError`.

        >>> from vae_lib import VAE, load_data, refine
        >>> digits = load_data("mnist", source="sample").test_images[:4]
        >>> refine(VAE(latent_dim=3, num_filters=4), digits, steps=2).z_mean.shape
        (4, 3)
    """
    x = check_model(vae).prepare_arrays(images, seed=seed)
    steps, samples = check_count(steps, "the number of steps"), check_count(samples, "the number of samples")
    if vae.config.latent_dim == 2:
        elbo: Any = functools.partial(_quadrature_elbo, vae, order=4)
    else:
        half = np.random.default_rng(seed).standard_normal([-(-samples // 2), vae.config.latent_dim], np.float32)
        elbo = functools.partial(_mean_elbo, vae, nodes=np.concatenate([half, -half]))
    ascend = _ascent(elbo, steps)

    def part(start: int) -> list[np.ndarray]:
        batch = tf.constant(x[start : start + 50])
        before = vae.encode(batch)
        after = ascend(batch, *before)
        better = elbo(batch, *after) > elbo(batch, *before)  # the first steps may overshoot
        return [tf.where(better[:, None], new, old).numpy() for old, new in zip(before, after, strict=True)]

    parts = parallel_map(part, range(0, len(x), 50), progress=progress)
    return Posterior(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _mean_elbo(model: VAE, x: tf.Tensor, z_mean: tf.Tensor, z_log_var: tf.Tensor, nodes: np.ndarray) -> tf.Tensor:
    """The ELBO (B,) of Gaussians, its expectation the mean over standard normal draws (K, D)."""
    return _weighted_elbo(model, x, z_mean, z_log_var, nodes, np.full(len(nodes), 1 / len(nodes), np.float32))


def _ascent(elbo: Callable[..., tf.Tensor], steps: int) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """A function of images (B, H, W, C) and their Gaussians, two of (B, D), that gives Gaussians of higher ELBO."""

    @tf.function(reduce_retracing=True)
    def gradients(batch: tf.Tensor, mean: tf.Tensor, log_var: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([mean, log_var])
            loss = -tf.reduce_sum(elbo(batch, mean, log_var))
        return tape.gradient(loss, [mean, log_var])

    def ascend(batch: tf.Tensor, mean: tf.Tensor, log_var: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scale = tf.exp(0.5 * log_var)  # steps in units of the posterior's own width
        shift, stretch = keras.Variable(tf.zeros_like(mean)), keras.Variable(tf.zeros_like(mean))
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.2, steps))
        for _ in range(steps):
            d_mean, d_log_var = gradients(batch, mean + scale * shift, log_var + stretch)
            optimizer.apply([d_mean * scale, d_log_var], [shift, stretch])
        return mean + scale * shift, log_var + stretch

    return ascend
