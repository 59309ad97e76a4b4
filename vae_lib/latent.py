"""Arrays of latent codes: grids, planes, spirals and interpolations. NumPy only, nothing is decoded here."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np

from vae_lib.errors import UserError

Array = np.ndarray
DEFAULT_QUANTILES = (0.025, 0.975)
MAX_TILES = 1000
MAX_EXTENT = 1000


def axis_values(n: int, *, extent: float | None = None, quantiles: tuple[float, float] | None = None) -> Array:
    """``n`` coordinates along one latent axis, (n,), ascending.

    ``extent`` gives equal steps over [-extent, extent] (in prior standard deviations); ``quantiles`` gives
    equal steps of the prior's probability between two of its quantiles, so that each tile of a grid stands
    for the same share of samples. With neither: quantiles 0.025 to 0.975. A single tile stands in the middle.
    Raises `UserError`.
    """
    if not 1 <= n <= MAX_TILES:
        raise UserError(f"the number of tiles along a side must be from 1 to {MAX_TILES}, not {n}.")
    if extent is not None and quantiles is not None:
        raise UserError("give either a range or quantiles, not both.")
    if extent is not None:
        if not 0 < extent <= MAX_EXTENT:
            raise UserError(f"the range must be above 0 and at most {MAX_EXTENT:,} standard deviations, not {extent}.")
        return np.linspace(-extent, extent, n) if n > 1 else np.zeros(1)
    low, high = quantiles or DEFAULT_QUANTILES
    if not 0 < low < high < 1:
        raise UserError(f"quantiles must satisfy 0 < low < high < 1, not {low} and {high}.")
    shares = np.linspace(low, high, n) if n > 1 else [(low + high) / 2]
    return np.array([NormalDist().inv_cdf(p) for p in shares])


def prior_cells(n: int) -> tuple[Array, Array]:
    """The means of z and of z^2 in ``n`` cells of a standard normal's axis that hold the same share each, two (n,)."""
    normal = NormalDist()
    edges = [-np.inf, *(normal.inv_cdf(i / n) for i in range(1, n)), np.inf]
    density = np.array([0.0, *map(normal.pdf, edges[1:-1]), 0.0])
    first = np.array([0.0, *(edge * normal.pdf(edge) for edge in edges[1:-1]), 0.0])  # 0 in the limit at both ends
    return -n * np.diff(density), 1.0 - n * np.diff(first)


def grid(values: Array) -> Array:
    """The square grid over ``values``, (n,) -> (n, n, 2): x grows to the right, y grows upwards."""
    x, y = np.meshgrid(values, values[::-1])
    return np.stack([x, y], axis=-1)


def diagonal_plane(points: Array, latent_dim: int) -> Array:
    """2-D points placed in D dimensions, (..., 2) -> (..., D): the first half follows x, the rest follows y.

    In one dimension only x is kept.
    """
    half = (latent_dim + 1) // 2
    x, y = points[..., :1], points[..., 1:]
    return np.concatenate([np.repeat(x, half, -1), np.repeat(y, latent_dim - half, -1)], axis=-1)


def principal_plane(points: Array, z_mean: Array) -> Array:
    """2-D points on the plane of the two largest variances of encoded images ``z_mean`` (N, D).

    (..., 2) -> (..., D). The plane goes through the mean code and is scaled by the standard deviations, so
    that one unit is one standard deviation of the codes. Each direction's largest component is positive.
    Raises `UserError`.
    """
    if z_mean.ndim != 2 or min(z_mean.shape) < 2:
        raise UserError(f"a principal plane needs at least 2 codes of 2 dimensions, not shape {z_mean.shape}.")
    centre = z_mean.mean(axis=0)
    _, singular, directions = np.linalg.svd(z_mean - centre, full_matrices=False)
    axes = directions[:2] * (singular[:2, None] / np.sqrt(len(z_mean) - 1))
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.sign(axes[[0, 1], largest])[:, None]
    return centre + points @ axes


def spiral(n: int) -> Array:
    """The row and column of every tile of an n x n grid in spiral order, (n * n, 2).

    It starts in the outer corner at the top left and winds inwards; each tile is next to the one before. For an even
    ``n`` it winds inwards on one lane and outwards on the other, and ends next to where it started, so that an
    animation of it is a loop.
    Raises `UserError`.
    """
    if n < 1:
        raise UserError(f"the number of tiles must be at least 1, not {n}.")
    if n % 2:
        return _inward_spiral(n)
    lane = [tuple(cell) for cell in _inward_spiral(n // 2).tolist()]  # of blocks of 2 x 2 tiles
    joined = {pair for a, b in itertools.pairwise(lane) for pair in ((a, b), (b, a))}
    row, column, order = 0, 0, []
    for _ in range(n * n):
        order.append((row, column))
        block, corner = (row // 2, column // 2), (row % 2, column % 2)
        # Clockwise around the block, but straight on where the lane goes on to the next block.
        ahead, clockwise = {
            (0, 0): ((-1, 0), (0, 1)), (0, 1): ((0, 1), (1, 0)), (1, 1): ((1, 0), (0, -1)), (1, 0): ((0, -1), (-1, 0)),
        }[corner]  # fmt: skip
        step = ahead if (block, (block[0] + ahead[0], block[1] + ahead[1])) in joined else clockwise
        row, column = row + step[0], column + step[1]
    return np.array(order)


def _inward_spiral(n: int) -> Array:
    left = np.arange(n * n).reshape(n, n)
    order = []
    while left.size:
        order.append(left[0])
        left = np.rot90(left[1:])  # the next side comes to the top
    return np.stack(np.divmod(np.concatenate(order), n), axis=-1)


def interpolate(start: Array, end: Array, steps: int, *, spherical: bool = False) -> Array:
    """``steps`` codes from ``start`` to ``end`` (both included), (D,), (D,) -> (steps, D).

    ``spherical`` turns at a constant angle about the origin (Shoemake 1985) and interpolates the length
    linearly; it falls back to the straight line where the angle is not defined.
    """
    t = np.linspace(0.0, 1.0, steps)[:, None]
    straight = (1 - t) * start + t * end
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    if not spherical or min(lengths) == 0:
        return straight
    a, b = start / lengths[0], end / lengths[1]
    angle = np.arccos(np.clip(a @ b, -1.0, 1.0))
    if np.sin(angle) < 1e-6:
        return straight
    direction = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return direction * ((1 - t) * lengths[0] + t * lengths[1])
