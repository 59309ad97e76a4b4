"""Pictures of a run: where a model's codes become images and images become files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vae_lib import figures, latent
from vae_lib.errors import UserError, one_of
from vae_lib.evaluation import EVALUATION_SEED
from vae_lib.model import VAE
from vae_lib.runs.store import Run, project_dir

PLANES = ("auto", "diagonal", "principal")


def plane_codes(run: Run, values: np.ndarray, plane: str = "auto") -> np.ndarray:
    """The codes of an n x n grid over ``values`` (n,) in the run's latent space, (n, n, D).

    In more than two dimensions the grid lies on the 'diagonal' plane, or on the 'principal' one of the encoded
    test set ('auto' takes it where the run has its encodings). Raises `UserError`.
    """
    return on_plane(run, latent.grid(values), plane)


def on_plane(run: Run, points: np.ndarray, plane: str = "auto") -> np.ndarray:
    """Points of a plane placed in the run's latent space, (..., 2) -> (..., D), as `plane_codes` does with a grid."""
    one_of("plane", plane, PLANES)
    dim = run.config.latent_dim
    if dim <= 2 or plane == "diagonal" or (plane == "auto" and run.encodings is None):
        return latent.diagonal_plane(points, dim)
    if run.encodings is None:
        raise UserError(f"{run.path} has no encoded test set: use the diagonal plane.")
    return latent.principal_plane(points, run.encodings.z_mean)


def decode_grid(model: VAE, codes: np.ndarray) -> np.ndarray:
    """The decoded images of a grid of codes, (n, m, D) -> (n, m, H, W, C) uint8."""
    images = figures.to_bytes(model.decode_arrays(codes.reshape(-1, codes.shape[-1])))
    return images.reshape(*codes.shape[:2], *images.shape[1:])


def manifold(run: Run, values: np.ndarray, *, plane: str = "auto") -> np.ndarray:
    """The decoded plane as one picture, (n * H, n * W, C) uint8: z_1 grows to the right, z_2 upwards."""
    figures.check_pixels((len(values) * run.config.im_dim) ** 2)
    images = decode_grid(run.model, plane_codes(run, values, plane))
    return figures.tile(images.reshape(-1, *images.shape[2:]), len(values))


def spiral_frames(run: Run, values: np.ndarray, *, plane: str = "auto", scale: int = 1) -> np.ndarray:
    """The tiles of the decoded plane along `latent.spiral`, (n * n, H, W, C) uint8."""
    if scale < 1:
        raise UserError(f"the scale must be at least 1, not {scale}.")
    figures.check_pixels((len(values) * run.config.im_dim * scale) ** 2)
    images = decode_grid(run.model, plane_codes(run, values, plane))
    rows, columns = latent.spiral(len(values)).T
    return np.stack([figures.enlarge(image, scale) for image in images[rows, columns]])


def reconstructions(run: Run, images: np.ndarray, columns: int = 10) -> np.ndarray:
    """Test images beside what the model makes of them, uint8 (N, H, W, C) -> one picture.

    Each image stands, as the model sees it, to the left of its reconstruction.
    """
    x = run.model.prepare_arrays(images, seed=EVALUATION_SEED)
    decoded = run.model.decode_arrays(run.model.encode_arrays(images, seed=EVALUATION_SEED).z_mean)
    pairs = np.stack([figures.to_bytes(x), figures.to_bytes(decoded)], axis=1)  # (N, 2, H, W, C)
    return figures.tile(pairs.reshape(-1, *pairs.shape[2:]), 2 * columns)


def samples(run: Run, n: int = 100, *, seed: int = 0, columns: int = 10) -> np.ndarray:
    """The means of ``n`` images decoded from the prior, as one picture."""
    return figures.tile(figures.to_bytes(run.model.sample(n, seed).numpy()), columns)


def spread_indices(labels: np.ndarray, n: int) -> np.ndarray:
    """The indices of ``n`` images that take turns through their labels, in the order of the set, (N,) -> (n,)."""
    order = np.argsort(labels, kind="stable")
    _, counts = np.unique(labels, return_counts=True)
    rank = np.empty(len(labels), int)
    rank[order] = np.concatenate([np.arange(count) for count in counts])  # how many of its label came before
    return np.lexsort([labels, rank])[:n]


def default_scale(im_dim: int) -> int:
    """How much to enlarge an image of that side so that people can see it: to 112 pixels or more from 28."""
    return max(1, round(112 / im_dim)) if im_dim < 64 else 1


def picture_path(run: Run, suffix: str, out: str | os.PathLike[str] | None) -> Path:
    """``out``, or the run's name under ``img/``."""
    return Path(out) if out is not None else project_dir("img") / f"{run.path.name}{suffix}"
