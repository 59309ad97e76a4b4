"""Write the scoreboard of the shipped runs into a Markdown page: ``python -m tools.scoreboard PAGE``.

The tables go between the lines <!-- scoreboard --> and <!-- end -->.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.pretrain import RECIPES
from vae_lib.errors import UserError
from vae_lib.files import write_atomically
from vae_lib.runs.places import find_run
from vae_lib.runs.store import read_config, read_metrics
from vae_lib.scoreboard import compressor_sizes, scoreboard

START, END = "<!-- scoreboard -->\n", "<!-- end -->"


def tables() -> str:
    """The scoreboard of the shipped runs."""
    folders = {name: find_run(name) for name in sorted(RECIPES)}
    runs = {name: (read_config(folder)[0], read_metrics(folder)) for name, folder in folders.items()}
    return scoreboard(runs, compressor_sizes())


def between_marks(text: str, content: str) -> str:
    """A Markdown text with ``content`` between its marks; raises `UserError` where it has none."""
    head, mark, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not (mark and end):
        raise UserError(f"the page has no lines {START.strip()} and {END} to write between.")
    return head + mark + content + end + tail


def main() -> None:
    page = Path(sys.argv[1])
    write_atomically(page, between_marks(page.read_text("utf-8"), tables()).encode())


if __name__ == "__main__":
    main()
