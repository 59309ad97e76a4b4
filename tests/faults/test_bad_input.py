"""Every bad input gets one sentence and exit status 2, and nothing is written."""

import pytest

from tests.faults import catalogue
from tests.faults.files import DAMAGES
from tests.faults.inputs import cases

CASES = list(cases())


def listing(folder):
    return sorted((str(p.relative_to(folder)), p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_sentence_and_nothing_written(case, small_run, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    case.prepare(here)
    before, before_run = listing(here), listing(small_run.parent)
    answer = catalogue.typed(case, small_run, here)
    assert answer.status == 2, answer
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.split(":")[0].split(" ")[0] in ("train_VAE.py", "vae")
    assert "Traceback" not in answer.err
    assert listing(here) == before
    assert listing(small_run.parent) == before_run
    sentence = catalogue.sentence_of(answer, small_run, here)
    assert 10 < len(sentence) < 400, sentence
    assert catalogue.same(catalogue.row(sentence), catalogue.listed()[case.name]), "make catalogue writes the page"


def test_no_case_stands_twice_and_the_page_lists_just_these():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert sorted(catalogue.listed()) == sorted([*names, *DAMAGES])
