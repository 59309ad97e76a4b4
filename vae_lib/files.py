"""Files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import zlib
from pathlib import Path

from vae_lib.errors import UserError

STAGED = re.compile(r"\.[0-9a-f]{8}\.\d+\.part(\.weights\.h5)?")  # what a file is called until it is complete


def user_path(path: str | os.PathLike[str], what: str = "a file") -> Path:
    """``path`` with a leading ~ and environment variables replaced, unless there is a file of exactly that name.

    Raises `UserError` where it names nothing.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        raise UserError(f"{what} must be text or a path, not {path!r}.") from None
    if not text:
        raise UserError(f"no name was given for {what}.")
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"{what} cannot be called {text!r}.")
    return Path(text if os.path.lexists(text) else os.path.expandvars(os.path.expanduser(text)))


def real_path(path: Path) -> Path:
    """``path`` without links and dots; unlike `Path.resolve` also for a link that leads in a circle."""
    return Path(os.path.realpath(path))


def output_path(path: str | os.PathLike[str], what: str) -> Path:
    """Where a file is to be written, its folder made; raises `UserError` where that cannot be."""
    target = user_path(path, what)
    if os.path.isdir(target) or not target.name:
        raise UserError(f"cannot write {target}: it is a folder.")
    make_folder(target)
    return target


def make_folder(target: Path) -> None:
    """Make the folder that the file ``target`` is to lie in; raises `UserError`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"cannot write {target}: {target.parent} is no folder.") from None
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}.") from None


def staging_path(path: Path, ending: str = "") -> Path:
    """Where the content of ``path`` is written before it is complete: short, and this process' own."""
    return path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}.part{ending}")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content``, or leave it as it was; its permissions stay.

    Of a link it is the file behind it that is replaced. Raises `UserError` where that is a device, a pipe or a folder.
    """
    target = real_path(path)
    if os.path.lexists(target) and not target.is_file():
        raise UserError(f"{path} is not a regular file, so it is not replaced.")
    staging = staging_path(target)
    try:
        with open(staging, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):
            shutil.copymode(target, staging)
        staging.replace(target)
    finally:
        staging.unlink(missing_ok=True)
