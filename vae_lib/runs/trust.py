"""Files of a run that anybody may have made: checked before a single number is used.

When it loads weights, Keras 3.13.2 or later refuses links into other files, arrays that lie in other files, and arrays
of another shape than the model's; it reads nothing else of a file. What is left to check is what surrounds the weights.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vae_lib.errors import UserError
from vae_lib.model import VAE, Encodings

WEIGHTS = "model.weights.h5"
PLANES = "planes.npz"
MAX_TEXT = 2**24  # bytes of a run's config, history or numbers
MAX_BYTES = 2**28  # of a run's encodings, unpacked: those of a million images fit


def own_file(folder: Path, name: str) -> Path:
    """A file of a run; raises `UserError` where it is a link or no file, or larger than such a file can be."""
    path = folder / name
    if path.is_symlink():
        raise UserError(f"{path} is a link: a run's files must lie in its folder.")
    if os.path.lexists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is not a regular file.")
    if (
        name != WEIGHTS
        and os.path.isfile(path)
        and path.stat().st_size > (MAX_BYTES if name.endswith("z") else MAX_TEXT)
    ):
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: that is no file of a run.")
    return path


def load_weights(model: VAE, path: Path) -> None:
    """Give ``model`` the weights in the HDF5 file ``path``. Raises `UserError` for any file but its own."""
    try:
        model.load_weights(path)
    except (UserError, MemoryError):
        raise
    except Exception:  # h5py and Keras raise many kinds for what a file can hold
        raise UserError(f"{path} does not hold the weights of the model that its config describes.") from None
    if not all(np.isfinite(weight.numpy()).all() for weight in model.weights):
        raise UserError(f"{path} holds weights that are not numbers.")


def check_size(path: Path, expected: int) -> None:
    """Raise `UserError` where a file is too small for ``expected`` weights, before memory is taken for them."""
    if os.path.getsize(path) < 2 * expected:  # they may be kept in half precision
        raise UserError(f"{path} is too small for the {expected:,} weights that its config asks for.")


@contextlib.contextmanager
def arrays_of(path: Path) -> Iterator[Any]:
    """The arrays of a .npz file by name; raises `UserError` where they would take too much memory."""
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise UserError(f"{path} unpacks to more than {MAX_BYTES:,} bytes.")
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as arrays:
        yield arrays


def read_encodings(path: Path, dim: int) -> Encodings | None:
    """The encoded test set, None where a run has none; raises `UserError` for anything else than three arrays."""
    if not os.path.lexists(path):
        return None
    try:
        with arrays_of(path) as arrays:
            z_mean, z_log_var = (arrays[name].astype(np.float32) for name in Encodings._fields[:2])
            labels = arrays["labels"].astype(np.int64, casting="safe")
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for what a file can hold
        raise UserError(f"{path} does not hold encodings: {error}.") from None
    shape = (len(labels), dim)
    if z_mean.shape != shape or z_log_var.shape != shape or not np.isfinite([z_mean, z_log_var]).all():
        raise UserError(f"{path} holds no codes of {dim} dimensions with a label each.")
    return Encodings(z_mean, z_log_var, labels)
