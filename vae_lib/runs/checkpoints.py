"""Checkpoints: all that a training run needs to go on, in one file that is complete or absent."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from vae_lib.errors import UserError
from vae_lib.files import write_atomically
from vae_lib.runs.folders import own_checkpoints
from vae_lib.training import State

FORMAT = 2
KEEP = 2


def save(folder: Path, state: State) -> Path:
    """Write ``state`` as the newest checkpoint of a run and drop all but the last two; returns its path."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    header = {
        "format": FORMAT,
        "n_images": state.n_images,
        "history": state.history,
        "best_epoch": state.best_epoch,
        "seconds": state.seconds,
        "command": state.command,
        "variables": len(state.variables),
    }
    arrays: dict[str, Any] = {f"a{i:04d}": array for i, array in enumerate([*state.variables, *state.best])}
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(json.dumps(header)), losses=state.losses, **arrays)
    path = checkpoints / f"{len(state.history):06d}-{len(state.losses):09d}.npz"
    write_atomically(path, buffer.getvalue())
    complete, half_written = own_checkpoints(folder)
    for old in [*complete[:-KEEP], *half_written]:
        old.unlink(missing_ok=True)
    return path


def load(folder: Path) -> State | None:
    """The newest checkpoint of a run that can be read; None where the run has none.

    Raises `UserError` where there are checkpoints and each is damaged.
    """
    paths = own_checkpoints(folder)[0][::-1]
    for path in paths:
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, zipfile.BadZipFile):
            continue
    if paths:
        raise UserError(f"every checkpoint in {folder / 'checkpoints'} is damaged: start again with --overwrite.")
    return None


def _claimed_bytes(array: IO[bytes]) -> int:
    """How large an array is by its header, before memory is taken for it."""
    if np.lib.format.read_magic(array) != (1, 0):
        raise ValueError("another version of NumPy's format than checkpoints have")
    shape, _, dtype = np.lib.format.read_array_header_1_0(array)
    return math.prod(shape) * dtype.itemsize


def _read(path: Path) -> State:
    """A checkpoint's state; raises one of several errors for a file that is none."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("a checkpoint is not compressed: what it unpacks to has no bound")
            with archive.open(entry) as array:
                if _claimed_bytes(array) > entry.file_size:
                    raise ValueError(f"{entry.filename} claims to be larger than it is")
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        header = json.loads(str(file["header"]))
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
        arrays = [file[name] for name in sorted(file.files) if name.startswith("a")]
        n, losses = int(header["variables"]), file["losses"]
        if losses.ndim != 2 or losses.shape[1] != 2 or losses.dtype != np.float32:
            raise ValueError("no losses")
        return State(
            n_images=int(header["n_images"]),
            history=[{str(name): float(value) for name, value in row.items()} for row in header["history"]],
            losses=losses,
            variables=arrays[:n],
            best=arrays[n:],
            best_epoch=int(header["best_epoch"]),
            seconds=float(header["seconds"]),
            command=str(header["command"]),
        )
