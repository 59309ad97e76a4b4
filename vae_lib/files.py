"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from vae_lib.errors import UserError


def user_path(path: str | os.PathLike[str], what: str = "a file") -> Path:
    """``path`` with a leading ~ and environment variables replaced; raises `UserError` where it names nothing."""
    try:
        text = os.fspath(path)
    except TypeError:
        raise UserError(f"{what} must be text or a path, not {path!r}.") from None
    if not text:
        raise UserError(f"no name was given for {what}.")
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"{what} cannot be called {text!r}.")
    return Path(os.path.expandvars(os.path.expanduser(text)))


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content``, or leave it as it was."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(staging, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)
