"""Files of a run that anybody may have made: checked before a single number is used.

HDF5 can hold more than arrays: links into other files, arrays that lie in other files, groups that contain
themselves. None of that is followed.
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np

from vae_lib.errors import UserError
from vae_lib.model import VAE, Encodings
from vae_lib.runs.limits import parameters

WEIGHTS = "model.weights.h5"
MAX_TEXT = 2**24  # bytes of a run's config, history or numbers
MAX_BYTES = 2**28  # of a run's encodings, unpacked: those of a million images fit
SPARE = 10_000  # numbers that a file may hold beyond the weights


def own_file(folder: Path, name: str) -> Path:
    """A file of a run; raises `UserError` where it is a link, or far larger than such a file can be."""
    path = folder / name
    if path.is_symlink():
        raise UserError(f"{path} is a link: a run's files must lie in its folder.")
    if name != WEIGHTS and path.is_file() and path.stat().st_size > (MAX_BYTES if name.endswith("z") else MAX_TEXT):
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: that is no file of a run.")
    return path


def load_weights(model: VAE, path: Path) -> None:
    """Give ``model`` the weights in the HDF5 file ``path``. Raises `UserError` for any file but its own."""
    try:
        with h5py.File(path, "r") as file:
            _check_group(file, parameters(model.config) + SPARE, set())
        model.load_weights(path)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # h5py and Keras raise many kinds for what a file can hold
        raise UserError(f"{path} is not this model's weights: {_first_line(error)}") from None
    if not all(np.isfinite(weight.numpy()).all() for weight in model.weights):
        raise UserError(f"{path} holds weights that are not numbers.")


def check_size(path: Path, expected: int) -> None:
    """Raise `UserError` where a file is too small for ``expected`` weights, before memory is taken for them."""
    if os.path.getsize(path) < 4 * expected:
        raise UserError(f"{path} is too small for the {expected:,} weights that its config asks for.")


def read_encodings(path: Path, dim: int) -> Encodings | None:
    """The encoded test set, None where a run has none; raises `UserError` for anything else than three arrays."""
    if not os.path.lexists(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise UserError(f"{path} unpacks to more than {MAX_BYTES:,} bytes.")
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as arrays:
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


def _check_group(group: h5py.Group, room: int, seen: set[int]) -> int:
    """Refuse links and foreign or oversized arrays in a group; returns the numbers that are left of ``room``."""
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise UserError(f"{group.file.filename} holds a group that contains itself.")
    seen.add(address)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UserError(f"{group.file.filename} holds a link ({name!r}), which is not followed.")
        item = group[name]
        if isinstance(item, h5py.Group):
            room = _check_group(item, room, seen)
        elif not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
            raise UserError(f"{group.file.filename} holds something that is no plain array ({name!r}).")
        else:
            room -= int(item.size or 0)
        if room < 0:
            raise UserError(f"{group.file.filename} holds more numbers than the model has weights.")
    return room


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"<(\w+) name=[^>]*>", r"a \1", line)  # a layer's name holds a running number
