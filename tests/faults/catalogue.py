"""The page docs/bad-input.md: what is typed, or done to a run, and the sentence that answers it.

``python -m tests.faults.catalogue`` writes it; the tests beside this file compare every sentence with it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT, exit_status, make_small_run
from tests.faults.files import DAMAGES
from tests.faults.inputs import Case, cases
from vae_lib import cli
from vae_lib.errors import UserError
from vae_lib.runs.store import load_run

PAGE = ROOT / "docs" / "bad-input.md"
HEAD = """# Bad input, and what answers it

Every line below was typed in an empty folder, and every damage was done to a copy of a run. Each gets one sentence on
stderr and exit status 2; the folder is the same before and after. `make catalogue` writes this page, and the tests compare
each sentence with it. Beyond the table, `make torture` tries full, read-only and limited disks, signals at random
moments, a folder that is removed while training, eight trainings that start together, 5,000 random command lines and as many
randomly damaged runs; `make large` fifty signals and 20,000 damaged runs; `python -m tests.faults.fuzz` fuzzes the loader guided by coverage, with atheris.

What is no command line and no damage has tests of its own: `tests/test_misuse.py` (arrays, labels, models, seeds, output that
breaks) and `tests/test_habits.py` (names and links, permissions, files of one's own in a run, callbacks that fail, copies,
dtypes, debuggers).
"""


class Answer(NamedTuple):
    """What a command line ended with: its exit status, and what it wrote."""

    status: int
    out: str
    err: str


def typed(case: Case, run: Path, here: Path) -> Answer:
    """Type a case in the folder ``here``, with ``run`` for RUN."""
    door = {"train": cli.train_main, "tools": cli.main}[case.door]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(here), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = exit_status(door, [str(run) if word == "RUN" else word for word in case.arguments])
    return Answer(status, out.getvalue(), err.getvalue())


def sentence_of(answer: Answer, run: Path, here: Path) -> str:
    """The sentence after the program's name, without what differs from folder to folder."""
    sentence = answer.err.partition(": error: ")[2].strip()
    return sentence.replace(str(run), "RUN").replace(str(here), ".").replace(f"{ROOT}/", "")


def refusal(damage: str, run: Path) -> str:
    """Damage ``run`` and load it; the sentence that refuses it."""
    DAMAGES[damage](run)
    try:
        load_run(run)
    except UserError as error:
        return str(error).replace(str(run.parent), ".")
    raise AssertionError(f"a run with {damage} was loaded")


def same(sentence: str, other: str) -> bool:
    """Whether two sentences are equal but for the machine's memory, places in a text, and quotes of argparse."""

    def plain(text: str) -> str:
        return re.sub(r"(the machine has|column|char|line) \d+", r"\1 N", text).replace("'", "")

    return plain(sentence) == plain(other)


def listed() -> dict[str, str]:
    """The page's rows, by what was typed or done."""
    return dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE))


def row(sentence: str) -> str:
    return sentence.replace("|", "/")


def page(inputs: Mapping[str, str], files: Mapping[str, str]) -> str:
    text = HEAD
    for title, answers in (("bad inputs", inputs), ("damaged and hostile runs", files)):
        text += f"\n| {title}: {len(answers)} | answer |\n| --- | --- |\n"
        text += "".join(f"| `{name}` | {row(sentence)} |\n" for name, sentence in answers.items())
    return text


def main() -> None:
    os.environ.setdefault("TFDS_DATA_DIR", "nowhere")
    inputs, files = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VAE_LIB_CACHE"] = f"{folder}/cache"
        run = make_small_run(Path(folder) / "runs" / "small")
        for i, case in enumerate(cases()):
            here = Path(folder) / f"here{i}" / "here"
            here.mkdir(parents=True)
            case.prepare(here)
            inputs[case.name] = sentence_of(typed(case, run, here), run, here)
        for i, damage in enumerate(DAMAGES):
            copy = Path(folder) / f"copy{i}" / "run"
            shutil.copytree(run, copy)
            files[damage] = refusal(damage, copy)
    PAGE.write_text(page(inputs, files), "utf-8")


if __name__ == "__main__":
    main()
