"""Damaged and hostile runs are recognised and named, and nothing in or beside them changes."""

import shutil

import pytest

from tests.conftest import exit_status
from tests.faults import catalogue
from tests.faults.files import DAMAGES
from tests.faults.test_bad_input import listing
from vae_lib import cli
from vae_lib.runs.store import load_run


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_is_refused(name, small_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    sentence = catalogue.refusal(name, run)
    before = listing(tmp_path)
    assert "\n" not in sentence
    assert 10 < len(sentence) < 500
    assert catalogue.same(catalogue.row(sentence), catalogue.listed()[name]), "make catalogue writes the page"
    capsys.readouterr()
    assert exit_status(cli.main, ["manifold", str(run), "--tiles", "2", "--out", str(tmp_path / "picture.png")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert listing(tmp_path) == before


def test_an_undamaged_copy_loads(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    assert load_run(tmp_path / "run").encodings is not None
