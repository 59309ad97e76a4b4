"""What goes wrong, said in one sentence: the user's mistakes and the machine's faults."""

from __future__ import annotations

import contextlib
import difflib
import sys


class UserError(ValueError):
    """A mistake that the user can correct; its text is one sentence that says what is wrong and what to do."""

    exit_status = 2


def one_line(message: object) -> str:
    """A message that may quote anything at all, as one line of printable characters."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message))


class Fault(UserError):
    """Something that failed while the program ran: a full disk, a folder that is gone."""

    exit_status = 1


class WorkerLost(Fault):
    """Another worker of a distributed run is gone."""


def one_of(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `UserError`, with the nearest match, unless ``value`` is among ``choices``."""
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(choices)}."
    raise UserError(f"{what} {value!r} is unknown: {hint}")


def notice(text: str) -> None:
    """One line on stderr, where there is one that takes it: a log that is full or gone stops nothing."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"vae_lib: {one_line(text)}", file=sys.stderr, flush=True)
