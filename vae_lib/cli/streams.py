"""Standard output and error as a program for people needs them: what is printed is never the training's business."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _Forgiving(io.TextIOBase):
    """A stream that goes silent when it breaks: a pager that was closed, a log on a full disk, no terminal at all."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self.lost = stream, False
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows ü as \xfc

    def write(self, text: str) -> int:
        self._attempt("write", text)
        return len(text)

    def flush(self) -> None:
        self._attempt("flush")

    def isatty(self) -> bool:
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("there is no such stream")
        return self._stream.fileno()

    def _attempt(self, method: str, *arguments: Any) -> None:
        if self._stream is None:
            return
        try:
            getattr(self._stream, method)(*arguments)
        except (OSError, ValueError) as error:
            self.lost = getattr(error, "errno", None) == errno.ENOSPC  # and no pipe that a reader has closed
            broken, self._stream = self._stream, None
            with contextlib.suppress(OSError, ValueError):  # what is left in its buffer must not fail at the exit
                empty = os.open(os.devnull, os.O_WRONLY)
                os.dup2(empty, broken.fileno())
                os.close(empty)


@contextlib.contextmanager
def forgiving_streams() -> Iterator[None]:
    """Print to streams that break silently, while a command runs."""
    for number in range(3):  # a closed one must not be taken by the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Forgiving(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before
