"""Decoded images on disk: written piece by piece, complete or not at all, and read memory-mapped."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from vae_lib.data.sources import Example
from vae_lib.errors import notice

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
WRITING = ".writing-"  # what the names of folders begin with that are not complete yet
STALE_SECONDS = 24 * 3600.0  # after which such a folder was left behind by a process that was killed
PIECE = 512  # images that are written at once
BLOCK = 2**22  # bytes of a checksum's block
BLOCKS = 64  # of a larger file so many are checked, at even distances


class Arrays(NamedTuple):
    """Images (N, H, W, C) uint8 and labels (N,) int64 of the two parts, and the names of the labels."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    label_names: tuple[str, ...]


class _Rows:
    """A file in NumPy's format whose rows are appended; its header is written again at the end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._waiting = file, list[np.ndarray]()
        self.count = 0
        self.shape: tuple[int, ...] = ()

    def append(self, row: np.ndarray) -> None:
        if not self.count:
            self.start(row.shape)
        if row.shape != self.shape:
            raise ValueError(f"images of the shapes {self.shape} and {row.shape}")
        self._waiting.append(row)
        self.count += 1
        if len(self._waiting) == PIECE:
            self._flush()

    def start(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._header()

    def _header(self) -> None:
        # NumPy leaves room in a header for the first axis to grow.
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _flush(self) -> None:
        if self._waiting:
            self._file.write(np.stack(self._waiting).data)
            self._waiting.clear()

    def finish(self) -> None:
        self._flush()
        end = self._file.tell()
        self._file.seek(0)
        self._header()
        self._file.seek(end)


def in_memory(examples: Iterable[Example], names: tuple[str, ...] | None) -> Arrays:
    """The arrays of examples, of which there is at least one."""
    labels: dict[str, list[Any]] = {"train": [], "test": []}
    images: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for example in examples:
        part = "test" if example.held_out else "train"
        labels[part].append(example.label)
        images[part].append(example.pixels)
    shape = (images["train"] or images["test"])[0].shape
    train, test = (np.stack(part) if part else np.zeros([0, *shape], np.uint8) for part in images.values())
    train_labels, test_labels, names = number(labels, names)
    return Arrays(train, train_labels, test, test_labels, names)


def number(
    labels: dict[str, list[Any]], names: tuple[str, ...] | None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The labels of both parts as numbers (N,) int64 of sorted ``names``, which are those that occur unless given."""
    everything = [*labels["train"], *labels["test"]]
    if names is None:
        found, numbers = np.unique(everything, return_inverse=True)
        names = tuple(str(name) for name in found)
    else:
        numbers = np.asarray(everything)
        if (numbers < 0).any():  # how TFDS marks what has no label
            numbers, names = np.where(numbers < 0, len(names), numbers), (*names, "unlabelled")
    numbers = numbers.astype(np.int64)
    return numbers[: len(labels["train"])], numbers[len(labels["train"]) :], names


def write(entry: Path, examples: Iterable[Example], names: tuple[str, ...] | None) -> None:
    """Keep examples, of which there is at least one, under ``entry``: complete or not at all.

    Raises OSError where that cannot be written. Nothing happens where another process was first.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    _clear_up(entry.parent)
    staging = Path(tempfile.mkdtemp(prefix=WRITING, dir=entry.parent))
    try:
        labels: dict[str, list[Any]] = {"train": [], "test": []}
        with contextlib.ExitStack() as files:
            parts = {part: _Rows(files.enter_context(open(staging / f"{part}_images.npy", "wb"))) for part in labels}
            for example in examples:
                part = "test" if example.held_out else "train"
                parts[part].append(example.pixels)
                labels[part].append(example.label)
            shape = next(rows.shape for rows in parts.values() if rows.count)
            for rows in parts.values():
                if not rows.count:
                    rows.start(shape)
                rows.finish()
        train_labels, test_labels, names = number(labels, names)
        np.save(staging / "train_labels.npy", train_labels, allow_pickle=False)
        np.save(staging / "test_labels.npy", test_labels, allow_pickle=False)
        crc32 = {field: _crc32(staging / f"{field}.npy") for field in ARRAYS}
        (staging / "contents.json").write_text(json.dumps({"label_names": names, "crc32": crc32}), "utf-8")
        staging.chmod(0o777 & ~_umask())  # what a class shares can be read by all
        try:
            staging.rename(entry)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _umask() -> int:
    """The bits that new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(entry: Path) -> Arrays | None:
    """What `write` kept, memory-mapped; None where it is missing, and also, with a notice, where it is damaged."""
    if not os.path.isdir(entry):
        return None
    try:
        record = json.loads((entry / "contents.json").read_text("utf-8"))
        if record["crc32"] != {field: _crc32(entry / f"{field}.npy") for field in ARRAYS}:
            raise ValueError("a checksum differs")
        names = tuple(record["label_names"])
        arrays = [np.load(entry / f"{field}.npy", mmap_mode="r", allow_pickle=False) for field in ARRAYS]
    except PermissionError as error:
        notice(f"the cache {entry} cannot be read ({error.strerror}); going on without.")
        return None
    except (OSError, ValueError, EOFError, KeyError, TypeError, RecursionError) as error:
        notice(f"the cache {entry} is damaged ({error}); making it again.")
        forget(entry)
        return None
    return Arrays(arrays[0], arrays[1], arrays[2], arrays[3], names)


def forget(entry: Path) -> None:
    """Delete what `write` wrote, and the folder unless somebody keeps files of their own in it."""
    with contextlib.suppress(OSError):
        for name in (*(f"{field}.npy" for field in ARRAYS), "contents.json"):
            (entry / name).unlink(missing_ok=True)
        entry.rmdir()


def _clear_up(folder: Path) -> None:
    """Delete what processes that were killed have begun to write."""
    for staging in folder.glob(f"{WRITING}*"):
        with contextlib.suppress(OSError):
            newest = max(path.stat().st_mtime for path in (staging, *staging.iterdir()))
            if newest < time.time() - STALE_SECONDS:
                shutil.rmtree(staging, ignore_errors=True)


def _crc32(path: Path) -> int:
    """The checksum of a file, and of a large one the checksum of its size and of blocks all over it."""
    value, size = 0, path.stat().st_size
    with open(path, "rb") as file:
        if size <= BLOCK * BLOCKS:
            while block := file.read(BLOCK):
                value = zlib.crc32(block, value)
            return value
        value = zlib.crc32(str(size).encode())
        for i in range(BLOCKS):
            file.seek((size - BLOCK) * i // (BLOCKS - 1))
            value = zlib.crc32(file.read(BLOCK), value)
    return value
