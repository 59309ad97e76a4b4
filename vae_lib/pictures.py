"""Pictures of a model: its latent plane, the spiral through it, reconstructions and samples."""

from __future__ import annotations

import numpy as np

from vae_lib import figures, latent
from vae_lib.arrays import as_images, check_count, check_seed
from vae_lib.backend import tf
from vae_lib.config import ModelConfig
from vae_lib.errors import UserError, one_of
from vae_lib.model import VAE, Encodings, check_encodings, check_model

PLANES = ("auto", "diagonal", "principal")
TILES = 40  # along a side, unless other coordinates are given


def on_plane(model: VAE, points: np.ndarray, *, encodings: Encodings | None = None, plane: str = "auto") -> np.ndarray:
    """Points of a plane placed in the model's latent space, (..., 2) -> (..., D).

    In more than two dimensions they lie on the 'diagonal' plane, or on the 'principal' one of encoded images; 'auto'
    takes that one where there are ``encodings`` of two images or more. Raises `UserError`.
    """
    one_of("plane", plane, PLANES)
    dim = _config(model).latent_dim
    if encodings is not None:
        encodings = check_encodings(encodings, dim)
    few = encodings is None or len(encodings.z_mean) < 2
    if dim <= 2 or plane == "diagonal" or (plane == "auto" and few):
        return latent.diagonal_plane(points, dim)
    if encodings is None:
        raise UserError("there are no encoded images that a principal plane could go through: use the diagonal one.")
    return latent.principal_plane(points, encodings.z_mean)


def plane_codes(
    model: VAE, values: np.ndarray, *, encodings: Encodings | None = None, plane: str = "auto"
) -> np.ndarray:
    """The codes of an n x n grid over ``values`` (n,), (n, n, D), placed as `on_plane` does."""
    return on_plane(model, latent.grid(values), encodings=encodings, plane=plane)


def decode_grid(model: VAE, codes: np.ndarray) -> np.ndarray:
    """The decoded images of a grid of codes, (n, m, D) -> (n, m, H, W, C) uint8."""
    images = figures.to_bytes(model.decode_arrays(codes.reshape(-1, codes.shape[-1])))
    return images.reshape(*codes.shape[:2], *images.shape[1:])


def manifold(
    model: VAE, values: np.ndarray | None = None, *, encodings: Encodings | None = None, plane: str = "auto"
) -> np.ndarray:
    """The decoded plane as one picture, (n * H, n * W, C) uint8: z_1 grows to the right, z_2 upwards.

    ``values`` (n,) are the coordinates along each axis, by default 40 that share the prior's probability evenly.
    Raises `UserError`.

        >>> import numpy as np
        >>> from vae_lib import VAE, manifold
        >>> manifold(VAE(latent_dim=2, num_filters=4), np.linspace(-2, 2, 5)).shape
        (140, 140, 1)
    """
    values = _coordinates(values)
    figures.check_pixels((len(values) * _config(model).im_dim) ** 2)
    images = decode_grid(model, plane_codes(model, values, encodings=encodings, plane=plane))
    return figures.tile(images.reshape(-1, *images.shape[2:]), len(values))


def spiral_frames(
    model: VAE,
    values: np.ndarray | None = None,
    *,
    encodings: Encodings | None = None,
    plane: str = "auto",
    scale: int = 1,
) -> np.ndarray:
    """The tiles of `manifold` along `latent.spiral`, (n * n, H, W, C) uint8, each enlarged ``scale`` times.

    Raises `UserError`.

    >>> import numpy as np
    >>> from vae_lib import VAE, spiral_frames
    >>> spiral_frames(VAE(latent_dim=2, num_filters=4), np.linspace(-2, 2, 4), scale=2).shape
    (16, 56, 56, 1)
    """
    scale = check_count(scale, "the scale")
    values = _coordinates(values)
    figures.check_pixels((len(values) * _config(model).im_dim * scale) ** 2)
    images = decode_grid(model, plane_codes(model, values, encodings=encodings, plane=plane))
    rows, columns = latent.spiral(len(values)).T
    return np.stack([figures.enlarge(image, scale) for image in images[rows, columns]])


def reconstructions(model: VAE, images: np.ndarray, columns: int = 10) -> np.ndarray:
    """Images beside what the model makes of them, (N, H, W, C), bytes or floats in [0, 1], -> one picture.

    Each image stands, as the model sees it, to the left of its reconstruction. Raises `UserError`.

        >>> from vae_lib import VAE, load_data, reconstructions
        >>> images = load_data("mnist", source="sample").test_images[:20]
        >>> reconstructions(VAE(latent_dim=2, num_filters=4), images).shape
        (56, 560, 1)
    """
    images = as_images(images, _config(model).image_shape)
    x = model.prepare_arrays(images)
    decoded = model.decode_arrays(model.encode_arrays(images).z_mean)
    pairs = np.stack([figures.to_bytes(x), figures.to_bytes(decoded)], axis=1)  # (N, 2, H, W, C)
    return figures.tile(pairs.reshape(-1, *pairs.shape[2:]), 2 * check_count(columns, "the number of columns"))


def samples(model: VAE, n: int = 100, *, seed: int = 0, columns: int = 10) -> np.ndarray:
    """The means of ``n`` images decoded from the prior, as one picture, bytes (rows * H, columns * W, C).

    Raises `UserError`.

    >>> from vae_lib import VAE, samples
    >>> samples(VAE(latent_dim=2, num_filters=4), 20).shape
    (56, 280, 1)
    """
    n, seed = check_count(n, "the number of images"), check_seed(seed)
    rows = -(-n // check_count(columns, "the number of columns"))
    figures.check_pixels(rows * columns * _config(model).im_dim ** 2)
    z = tf.random.stateless_normal([n, model.config.latent_dim], [seed, 0])  # the codes of `VAE.sample`
    return figures.tile(figures.to_bytes(model.decode_arrays(z.numpy())), columns)


def _config(model: VAE) -> ModelConfig:
    return check_model(model).config


def _coordinates(values: np.ndarray | None) -> np.ndarray:
    """``values`` as finite coordinates along an axis, (n,), or the usual ones; raises `UserError`."""
    if values is None:
        return latent.axis_values(TILES)
    array = np.asarray(values)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise UserError(
            "values must be finite coordinates along an axis, of shape (n,), such as np.linspace(-2, 2, 20)."
        )
    return array


def spread_indices(labels: np.ndarray, n: int) -> np.ndarray:
    """The indices of ``n`` images that take turns through their labels, in the order of the set, (N,) -> (n,)."""
    order = np.argsort(labels, kind="stable")
    _, counts = np.unique(labels, return_counts=True)
    rank = np.empty(len(labels), int)
    rank[order] = np.concatenate([np.arange(count) for count in counts])  # how many of its label came before
    return np.lexsort([labels, rank])[:n]
