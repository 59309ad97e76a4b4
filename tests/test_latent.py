"""Grids, planes, spirals and interpolations."""

from statistics import NormalDist

import numpy as np
import pytest

from vae_lib import latent
from vae_lib.errors import UserError


def test_quantiles_give_each_tile_the_same_share_of_the_prior():
    values = latent.axis_values(5, quantiles=(0.1, 0.9))
    np.testing.assert_allclose([NormalDist().cdf(v) for v in values], [0.1, 0.3, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(latent.axis_values(3, extent=2.0), [-2, 0, 2])


@pytest.mark.parametrize(
    "arguments",
    [{"n": 0}, {"n": 3, "extent": -1.0}, {"n": 3, "extent": float("nan")}, {"n": 3, "quantiles": (0.0, 0.5)},
     {"n": 3, "quantiles": (0.6, 0.5)}, {"n": 3, "extent": 1.0, "quantiles": (0.1, 0.9)}],
)  # fmt: skip
def test_impossible_axes_are_refused(arguments):
    with pytest.raises(UserError):
        latent.axis_values(**arguments)


def test_a_grid_grows_to_the_right_and_upwards():
    grid = latent.grid(np.array([-1.0, 0.0, 1.0]))
    assert grid.shape == (3, 3, 2)
    np.testing.assert_array_equal(grid[0, 0], [-1, 1])
    np.testing.assert_array_equal(grid[2, 2], [1, -1])


def test_the_diagonal_plane_splits_the_coordinates_in_halves():
    point = np.array([2.0, 3.0])
    np.testing.assert_array_equal(latent.diagonal_plane(point, 6), [2, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(latent.diagonal_plane(point, 2), [2, 3])
    np.testing.assert_array_equal(latent.diagonal_plane(point, 1), [2])


def test_the_principal_plane_spans_the_directions_of_largest_variance():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(5000, 4)) * [0.1, 3.0, 0.2, 2.0] + [1, 2, 3, 4]
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    origin, x, y = latent.principal_plane(points, codes)
    np.testing.assert_allclose(origin, codes.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(x - origin, [0, 3, 0, 0], atol=0.15)
    np.testing.assert_allclose(y - origin, [0, 0, 0, 2], atol=0.15)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 40])
def test_a_spiral_visits_every_tile_once_each_next_to_the_last(n):
    path = latent.spiral(n)
    assert len({tuple(tile) for tile in path}) == n * n
    assert tuple(path[0]) == (0, 0)
    assert (np.abs(np.diff(path, axis=0)).sum(axis=1) == 1).all()
    rings = np.minimum(path, n - 1 - path).min(axis=1)
    if n % 2:
        assert (np.diff(rings) >= 0).all()  # always inwards


def test_interpolations_reach_both_ends():
    a, b = np.array([2.0, 0.0]), np.array([0.0, 4.0])
    for spherical in (False, True):
        path = latent.interpolate(a, b, 5, spherical=spherical)
        np.testing.assert_allclose(path[[0, -1]], [a, b], atol=1e-12)
    np.testing.assert_allclose(latent.interpolate(a, b, 3)[1], [1, 2])
    turned = latent.interpolate(a, b, 3, spherical=True)[1]
    np.testing.assert_allclose(turned, 3 * np.array([1, 1]) / np.sqrt(2))
    np.testing.assert_allclose(latent.interpolate(a, -a, 3, spherical=True)[1], [0, 0])


@pytest.mark.parametrize("n", [2, 4, 10, 40])
def test_a_spiral_over_an_even_grid_is_a_loop(n):
    path = latent.spiral(n)
    assert np.abs(path[0] - path[-1]).sum() == 1
    lanes = np.minimum(path // 2, (n - 1 - path) // 2).min(axis=1)[: n * n // 2]
    assert (np.diff(lanes) >= 0).all()  # inwards on the first half of the way
    middle = np.abs(path - (n - 1) / 2).max(axis=1)
    assert middle.argmin() == pytest.approx(n * n / 2, abs=n)  # halfway it has reached the centre


def test_arrays_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="at least 2 codes"):
        latent.principal_plane(latent.grid(latent.axis_values(3)), np.zeros([1, 4]))
    with pytest.raises(UserError, match="at least 1"):
        latent.spiral(0)


def test_a_single_tile_stands_in_the_middle():
    assert latent.axis_values(1).tolist() == [0.0]
    assert latent.axis_values(1, extent=3.0).tolist() == [0.0]
