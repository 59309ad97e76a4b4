"""How much memory this process may use, and how to read what does not fit."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
IN_MEMORY = 0.25  # the share of the memory that images may take before they are streamed


def memory() -> float:
    """The memory that this process may use, in bytes, infinite if unknown.

    It is the machine's, or less in a container, in a control group and under a limit on a process's data.
    """
    limits = [float("inf")]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        limits.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    for path in _limit_files():
        with contextlib.suppress(ValueError, OSError):  # "max" is no number
            limits.append(float(path.read_text()))
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource  # which Windows does not have

        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            if (soft := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY:
                limits.append(float(soft))
    return min(limits)


def _limit_files() -> Iterator[Path]:
    """The files with limits of this process's control groups and of those around them, in both versions of cgroups."""
    yield from (CGROUPS / "memory.max", CGROUPS / "memory" / "memory.limit_in_bytes")
    with contextlib.suppress(OSError, ValueError):
        for line in OWN_CGROUP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
            group = root / path.lstrip("/")
            while group != root:
                yield group / name
                group = group.parent


class RowReader:
    """Takes rows of an array that may be memory-mapped, and read from disk, here and there.

    Inside a ``with`` block the system reads nothing beside them, as it otherwise would.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array, base = array, _mapped(array)
        self._map = base if hasattr(mmap, "MADV_RANDOM") and array.flags.c_contiguous else None
        if self._map is not None:
            self._start = array.ctypes.data - np.frombuffer(self._map, np.uint8).ctypes.data

    def __enter__(self) -> RowReader:
        if self._map is not None:
            self._map.madvise(mmap.MADV_RANDOM)
        return self

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.madvise(mmap.MADV_NORMAL)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """``array[rows]``; the disk is asked for all of them before the first is waited for."""
        if self._map is not None:
            size = self._array.strides[0]
            for row in rows.tolist():
                begin = self._start + row * size
                page = begin - begin % mmap.PAGESIZE
                self._map.madvise(mmap.MADV_WILLNEED, page, begin + size - page)
        return np.take(self._array, rows, axis=0)


def _mapped(array: np.ndarray) -> mmap.mmap | None:
    """The file's map that an array is a view of."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
