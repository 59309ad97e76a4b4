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


@contextlib.contextmanager
def read_in_no_order(array: np.ndarray) -> Iterator[None]:
    """Tell the system, while rows of a memory-mapped array are read here and there, to read nothing beside them."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_RANDOM"):
        yield
        return
    base.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        base.madvise(mmap.MADV_NORMAL)
