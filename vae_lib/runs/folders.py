"""What is done to a run's folder as a whole: written to by one process, replaced, deleted.

Only files that a run is made of are ever deleted, and only a folder that holds nothing else is replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vae_lib.errors import Fault, UserError
from vae_lib.files import STAGED
from vae_lib.runs.trust import PLANES, WEIGHTS

LOCK = ".lock"
FILES = ("config.json", WEIGHTS, "history.csv", "metrics.json", "encodings.npz", PLANES)
CHECKPOINT = re.compile(r"\d{6}-\d{9}\.npz")


@contextlib.contextmanager
def locked(partial: Path) -> Iterator[None]:
    """Hold an unfinished run, so that no other process writes into it; raises `UserError` where one does.

    The operating system releases the lock of a process that ends, however it ends.
    """
    lock = FileLock(partial / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{partial} is being written by another process: wait for it, or stop it first.") from None
    except OSError as error:
        raise Fault(f"cannot write to {partial} ({error.strerror or error}).") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (partial / LOCK).unlink(missing_ok=True)
        lock.release()


def own_checkpoints(folder: Path) -> tuple[list[Path], list[Path]]:
    """A run's checkpoints, the oldest first, and what a process that was killed left half written."""
    found = sorted(path for path in (folder / "checkpoints").glob("*") if not path.is_dir())
    complete, half_written = ([path for path in found if name.fullmatch(path.name)] for name in (CHECKPOINT, STAGED))
    return complete, half_written


def _own_files(folder: Path) -> list[Path]:
    """Everything in a run's folder that the program made."""
    staged = [path for path in folder.glob(".*") if STAGED.fullmatch(path.name)]
    complete, half_written = own_checkpoints(folder)
    return [*complete, *half_written, *(folder / name for name in (*FILES, LOCK)), *staged]


def _foreign_files(folder: Path) -> list[str]:
    """What lies in a run's folder that no run has."""
    ours = {*_own_files(folder), folder / "checkpoints"}
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path not in ours)


def check_replaceable(folder: Path) -> None:
    """Raise `UserError` unless ``folder`` is a run and nothing but a run."""
    if folder.is_symlink() or not os.path.isfile(folder / "config.json"):
        raise UserError(f"{folder} is not a run, so it is not replaced: choose another folder.")
    if foreign := _foreign_files(folder):
        raise UserError(
            f"{folder} holds {foreign[0]}, which is no part of a run: move it away, or choose another folder."
        )


def delete_run(folder: Path) -> None:
    """Delete a run's own files, and its folder if nothing else is left in it."""
    for path in _own_files(folder):
        path.unlink(missing_ok=True)
    for empty in (folder / "checkpoints", folder):
        with contextlib.suppress(OSError):
            empty.rmdir()


@contextlib.contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Free the name of a run while it is replaced; the run comes back if that fails, and is deleted if not."""
    if not os.path.lexists(folder):
        yield
        return
    check_replaceable(folder)
    keep = Path(tempfile.mkdtemp(prefix=f".{folder.name}.replaced-", dir=folder.parent))
    old = keep / folder.name
    folder.rename(old)
    try:
        yield
    except BaseException:
        old.rename(folder)
        raise
    else:
        delete_run(old)
    finally:
        with contextlib.suppress(OSError):
            keep.rmdir()
