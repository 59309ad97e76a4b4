"""Every bad input gets one sentence and exit status 2, and nothing is written. Prints the table of answers."""

import re

import pytest

from tests.conftest import ROOT, exit_status
from tests.faults.files import DAMAGES
from tests.faults.inputs import Case, cases
from vae_lib import cli

CASES = list(cases())


def listing(folder):
    return sorted((str(p.relative_to(folder)), p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.rglob("*"))


def answer(case: Case, run, here, capsys) -> str:
    """The sentence that a case gets; checks what holds for all of them."""
    case.prepare(here)
    before, before_run = listing(here), listing(run.parent)
    door = {"train": cli.train_main, "tools": cli.main}[case.door]
    status = exit_status(door, [str(run) if word == "RUN" else word for word in case.arguments])
    captured = capsys.readouterr()
    assert status == 2, captured
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    program, error, sentence = captured.err.partition(": error: ")
    assert error, captured.err
    assert program.split(" ")[0] in ("train_VAE.py", "python")
    assert listing(here) == before
    assert listing(run.parent) == before_run
    return sentence.strip().replace(str(run), "RUN").replace(str(here), ".").replace(f"{ROOT}/", "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_sentence_and_nothing_written(case, small_run, tmp_path, monkeypatch, capsys):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    sentence = re.sub(r" has \d+", " has fewer", answer(case, small_run, here, capsys))  # the machine's memory
    assert 10 < len(sentence) < 400, sentence
    assert "Traceback" not in sentence
    pytest.FAULT_TABLE.append(("input", case.name, sentence))


def test_there_are_enough_cases_and_none_twice():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 120


def test_the_catalogue_in_the_handbook_is_complete():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    listed = re.findall(r"^\| `(.+)` \| .{10,} \|$", page, re.MULTILINE)
    assert sorted(listed) == sorted([case.name for case in CASES] + list(DAMAGES)), "make catalogue writes it"
