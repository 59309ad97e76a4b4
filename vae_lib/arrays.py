"""The border for arrays: what public functions accept as images, prepared images and codes, checked in one place."""

from __future__ import annotations

import numbers
from typing import Any, cast

import numpy as np

from vae_lib.config import MAX_SEED
from vae_lib.errors import UserError


class _Rows:
    """Rows of an array of images, which are read only as they are needed: `images[i:j]` copies them."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self._images, self._rows = images, rows
        self.shape, self.dtype = (len(rows), *images.shape[1:]), images.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._images[self._rows[rows]]


def select(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``images[rows]`` for what takes images batch by batch: nothing is copied before it is sliced."""
    return cast("np.ndarray", _Rows(images, rows))


def as_images(images: Any, shape: tuple[int, ...], *, what: str = "images", empty: bool = False) -> np.ndarray:
    """``images`` as uint8 (N, *shape); raises `UserError` for anything that is not clearly images of that shape.

    Bytes 0..255 are returned as they are; floats from 0 to 1, and booleans, are scaled to bytes. ``empty`` allows
    N = 0.

        >>> as_images(np.ones([2, 8, 8, 1]), (8, 8, 1)).max()
        np.uint8(255)
    """
    if isinstance(images, _Rows) and images.shape[1:] == shape and len(images):
        return cast("np.ndarray", images)  # it is sliced like one
    array = _array(images, shape, what, empty)
    if array.dtype == np.uint8:
        return array
    wanted = f"{what} must be bytes from 0 to 255 (uint8) or floats from 0 to 1"
    if array.dtype == bool:
        return array * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{wanted}, not {array.dtype}: convert bytes with np.asarray(images, np.uint8).")
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # false for NaN
        raise UserError(f"{wanted}, not floats from {array.min():.9g} to {array.max():.9g}.")
    return np.round(array * 255).astype(np.uint8)


def as_labels(labels: Any, count: int) -> np.ndarray:
    """``labels`` as whole numbers from 0, (count,) int64; raises `UserError` for anything else."""
    array = np.asarray(labels)
    whole = array.dtype.kind in "iub" or (
        array.dtype.kind == "f" and bool((np.abs(array) < 2**53).all() and (array == np.rint(array)).all())
    )
    if array.shape != (count,) or not whole or (count and array.min() < 0):
        raise UserError(f"labels must be {count:,} whole numbers from 0, not {array.dtype} of shape {array.shape}.")
    return array.astype(np.int64)


def as_prepared(x: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``x`` as images such as `VAE.prepare_arrays` makes, finite float32 (N, *shape); raises `UserError`."""
    array = _array(x, shape, "prepared images", False)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"prepared images are floats, not {array.dtype}: make them with model.prepare_arrays(images).")
    if not np.isfinite(array).all():
        raise UserError("prepared images must be finite numbers.")
    return array.astype(np.float32, copy=False)


def as_codes(z: Any, dim: int, *, what: str = "codes", empty: bool = False) -> np.ndarray:
    """``z`` as finite float32 codes (N, ``dim``); raises `UserError` for anything else."""
    array = _array(z, (dim,), what, empty)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{what} must be numbers, not {array.dtype}.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise UserError(f"{what} must be finite numbers of single precision.")
    return array


def check_seed(seed: Any) -> int:
    """``seed`` as an int; raises `UserError` unless it is a whole number from 0 to 2,147,483,647."""
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or not 0 <= int(seed) <= MAX_SEED:
        raise UserError(f"a seed must be a whole number from 0 to {MAX_SEED:,}, not {seed!r}.")
    return int(seed)


def check_count(count: Any, what: str) -> int:
    """``count`` as an int; raises `UserError` unless it is a whole number of at least 1."""
    if not isinstance(count, numbers.Integral) or isinstance(count, bool) or int(count) < 1:
        raise UserError(f"{what} must be a whole number of at least 1, not {count!r}.")
    return int(count)


def _array(values: Any, shape: tuple[int, ...], what: str, empty: bool) -> np.ndarray:
    wanted = f"{what} must have the shape (N, {', '.join(map(str, shape))})"
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # rows of different lengths, and tensors inside of a graph
        raise UserError(f"{wanted}, and what was given makes no array.") from None
    if array.shape[1:] != shape or not array.ndim:
        hint = ""
        if len(shape) == 3 and array.shape[1:] == (shape[2], *shape[:2]):
            hint = ": move the channels last, images.transpose(0, 2, 3, 1)"
        elif array.shape == shape:
            hint = ": for a single one add an axis, array[None]"
        raise UserError(f"{wanted}, not {array.shape}{hint}.")
    if not empty and not len(array):
        raise UserError(f"{wanted} with N of at least 1: there are none.")
    return array
