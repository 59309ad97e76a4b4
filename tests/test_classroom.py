"""Answers of a class: right, wrong, crashing, endless and greedy ones, each graded by itself."""

import csv
import io
import json

import pytest

from tests.conftest import ROOT, exit_status, run_python
from vae_lib import classroom
from vae_lib.cli import main
from vae_lib.errors import UserError

RIGHT = """
import numpy as np
from vae_lib import check
def kl(z_mean, z_log_var):
    return 0.5 * np.sum(np.square(z_mean) + np.exp(z_log_var) - 1 - z_log_var, axis=1)
def scale(images):
    return np.asarray(images) / 255.0
check.kl(kl)
check.scale(scale)
"""
ANSWERS = {
    "right.py": RIGHT,
    "graph.py": RIGHT
    + """
import tensorflow as tf
@tf.function
def total(n):
    found = 0
    for i in tf.range(n):
        found += i
    return found
assert total(tf.constant(4)) == 6
print("%d of %d"
      % (1, 2))
""",
    "silent.py": RIGHT.replace("check.kl(kl)\ncheck.scale(scale)\n", ""),
    "wrong.py": RIGHT.replace("np.sum", "np.mean").replace("255.0", "256.0"),
    "half.py": RIGHT.replace("check.scale(scale)", "1 / 0\ncheck.scale(scale)"),
    "cheat.py": RIGHT.replace("np.sum", "np.mean").replace(
        "check.kl(kl)", "check.kl(lambda m, v: None); print('passed')"
    ),
    "endless.py": "from vae_lib import check\nwhile True: pass\ncheck.kl(None)\n",
    "greedy.py": "import numpy as np\nx = np.ones(10**11)\n",
    "crash.py": RIGHT + "\nimport os\nos.abort()\n",
    "leaves.py": RIGHT + "\nimport os\nos._exit(3)\n",
    "syntax.py": "def kl(:\n",
    "broken.ipynb": "{",
}
EXPECTED = {  # the exercises passed, those not passed, and what the remark says
    "right.py": (["kl", "scale"], [], ""),
    "graph.py": (["kl", "scale"], [], ""),
    "silent.py": (["kl", "scale"], [], ""),
    "wrong.py": ([], ["kl", "scale"], ""),
    "half.py": (["kl", "scale"], [], "ZeroDivisionError"),
    "cheat.py": (["scale"], ["kl"], ""),
    "endless.py": ([], ["kl"], "stopped after"),
    "greedy.py": ([], [], "MemoryError|ArrayMemoryError"),
    "crash.py": (["kl", "scale"], [], "SIGABRT"),
    "leaves.py": (["kl", "scale"], [], "status 3"),
    "syntax.py": ([], [], "SyntaxError"),
    "broken.ipynb": ([], [], "cannot be read"),
}


def check_grades(grades, pattern=lambda name: name):
    for found in grades:
        passed, failed, remark = EXPECTED[pattern(found.name)]
        assert (sorted(found.passed), sorted(found.failed)) == (passed, failed), found
        assert bool(found.remark) == bool(remark), found
        assert any(part in found.remark for part in remark.split("|")), found


@pytest.mark.slow
def test_each_kind_of_answer(tmp_path):
    folder, endless = tmp_path / "others", tmp_path / "endless"
    folder.mkdir()
    endless.mkdir()
    for name, text in ANSWERS.items():
        ((endless if name == "endless.py" else folder) / name).write_text(text)
    told = []
    grades = classroom.grade(folder, seconds=200, jobs=2, tell=told.append)
    assert told == grades
    grades = sorted(grades + classroom.grade(endless, seconds=5))
    assert [found.name for found in grades] == sorted(ANSWERS)
    check_grades(grades)
    text = classroom.table(grades)
    assert len(text.splitlines()) == len(ANSWERS) + 2
    assert len({len(line) for line in text.splitlines()}) == 1
    rows = list(csv.DictReader(io.StringIO(classroom.as_csv(grades))))
    said = {(row["file"], row["exercise"]): row["message"] for row in rows}
    assert "averaged over the latent dimensions" in said["wrong.py", "kl"]
    assert said["endless.py", "kl"] == "not reached"


def test_a_students_notebook(tmp_path):
    """A handout with one exercise solved: the others are not yet, and what fails on the way stops nothing."""
    book = json.loads((ROOT / "notebooks" / "02_building_a_vae.ipynb").read_text())
    book["cells"] = [cell for cell in book["cells"] if "solution" not in cell["metadata"].get("tags", [])]
    exercises = [cell for cell in book["cells"] if "exercise" in cell["metadata"].get("tags", [])]
    asked = set(classroom.asked_in(["".join(cell["source"]) for cell in exercises]))
    for cell in book["cells"]:
        if cell["cell_type"] == "code" and cell not in exercises:
            first = "install" in cell["metadata"].get("tags", [])
            cell["source"] = cell["source"] if first else ["%matplotlib inline\n", "!ls\n"]
    first = next(cell for cell in exercises if "check.kl(" in "".join(cell["source"]))
    first["source"] = [RIGHT.partition("check.kl(kl)")[0] + "check.kl(kl)\n"]
    for cell in exercises:
        cell["source"] = ["from vae_lib import check\n", *cell["source"]]
    (tmp_path / "02.ipynb").write_text(json.dumps(book))
    (found,) = classroom.grade(tmp_path / "02.ipynb", seconds=300)
    assert "kl" in found.passed
    assert "NameError" in found.remark  # of what the cells that are left out define; magics alone are no error
    assert set(found.failed) == asked - set(found.passed)


def test_the_command(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    (folder / "ada.py").write_text(RIGHT)
    (folder / ".hidden.py").write_text("")
    (folder / "bob").mkdir()
    (folder / "bob" / "answer.py").write_text("")
    result = run_python("-m", "vae_lib", "check", str(folder), "--csv", str(tmp_path / "grades.csv"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[2].startswith("| ada.py        | 2 of 2 |")
    assert result.stdout.splitlines()[3].startswith("| bob/answer.py | 0 of 0 |")
    assert result.stderr.startswith("ada.py: 2 of 2")
    assert (tmp_path / "grades.csv").read_text().splitlines()[1] == "ada.py,kl,1,,"


BY_NAME = RIGHT.replace("from vae_lib import check", "from vae_lib.check import kl as judge, scale as scale_check")
BY_NAME = BY_NAME.replace("check.kl(", "judge(").replace("check.scale(", "scale_check(")
STRANGE = {
    "by_name.py": (BY_NAME, ["kl", "scale"], {}, ""),
    "same_name.py": (
        RIGHT.replace("from vae_lib import check\n", "from vae_lib.check import kl, scale\n")
        .replace("def kl", "def mine").replace("def scale", "def halve")
        .replace("check.kl(kl)", "kl(mine)").replace("check.scale(scale)", "scale(halve)"),
        ["kl", "scale"], {}, "",
    ),
    "helpers.py": (
        RIGHT + "def kl(history): ...\nfrom random import sample\ndef loss(): ...\n", ["kl", "scale"], {}, "",
    ),
    "comment.py": (RIGHT + "# check.iwae(iwae) comes next week\n", ["kl", "scale"], {}, ""),
    "given.py": (
        "from vae_lib import check, losses\ncheck.kl(losses.gaussian_kl)\n", ["kl"], {},
        "kl was given a function of vae_lib",
    ),
    "beside.py": ("import by_name\n" + RIGHT, ["kl", "scale"], {}, ""),
    "shell.py": ("get_ipython().run_line_magic('matplotlib', 'inline')\n" + RIGHT, ["kl", "scale"], {}, ""),
    "nothing.PY": ("", [], {}, "holds no exercise"),
}  # fmt: skip


@pytest.mark.slow
def test_strange_answers(tmp_path):
    for name, (text, *_) in STRANGE.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "overwritten.ipynb").write_text(json.dumps({"cells": [
        {"cell_type": "code", "source": "from vae_lib import check\nimport numpy as np"},
        {"cell_type": "code", "source": "check = 3"},
        {"cell_type": "code", "source": RIGHT[RIGHT.index("def kl") :]},
    ]}))  # fmt: skip
    grades = {found.name: found for found in classroom.grade(tmp_path, seconds=200, jobs=2)}
    for name, (_, passed, failed, remark) in STRANGE.items():
        assert (sorted(grades[name].passed), grades[name].failed, grades[name].remark) == (passed, failed, remark), name
    found = grades["overwritten.ipynb"]
    assert sorted(found.passed) == ["kl", "scale"]
    assert found.remark == "cell 2: it gives the name check to something else"


def test_the_exercises_of_a_notebook_count(tmp_path):
    """However many a file keeps of them."""
    (tmp_path / "asked.py").write_text(RIGHT + "check.iwae(None)\n")
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "few.py").write_text(RIGHT.replace("check.scale(scale)", "check.axis(None)"))
    (tmp_path / "answers" / "none.ipynb").write_text("{")
    few, none = classroom.grade(tmp_path / "answers", against=tmp_path / "asked.py")
    assert (few.passed, few.failed) == (("kl", "scale"), {"iwae": "not reached"})
    assert (none.passed, sorted(none.failed)) == ((), ["iwae", "kl", "scale"])
    for name, reason in (("answers", "is no file"), ("nothing.py", "holds no exercise")):
        (tmp_path / "nothing.py").write_text("")
        with pytest.raises(UserError, match=reason):
            classroom.grade(tmp_path / "answers", against=tmp_path / name)


@pytest.mark.parametrize(
    ("csv", "reason"),
    [("answers/one.py", "looks like an answer"), ("answers", "is a folder"), ("none/g.csv", "is no folder"),
     ("/proc/g.csv", "cannot be written")],
)  # fmt: skip
def test_where_grades_cannot_go_is_said_before_the_grading(tmp_path, monkeypatch, capsys, csv, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "one.py").write_text("while True: pass\n")
    assert exit_status(main, ["check", "answers", "--csv", csv]) == 2
    assert reason in capsys.readouterr().err
    assert (tmp_path / "answers" / "one.py").read_text() == "while True: pass\n"


def test_what_is_left_out_is_said(tmp_path):
    for name in ("one.py", "late.zip", ".hidden"):
        (tmp_path / name).write_text("")
    assert classroom.left_out(tmp_path) == ["late.zip"]


@pytest.mark.parametrize(("make", "reason"), [(lambda p: p / "none", "is no folder"), (lambda p: p, "holds no file")])
def test_what_is_no_folder_of_answers(tmp_path, make, reason):
    with pytest.raises(UserError, match=reason):
        classroom.find_answers(make(tmp_path))


def test_what_an_answer_is_run_with(tmp_path, monkeypatch):
    """The same in this process: cells in order, magics that do nothing, other languages left out."""
    monkeypatch.setattr(classroom, "_limit_memory", lambda gigabytes: None)
    later = "def kl(z_mean, z_log_var): ...  # which takes nothing away"
    cells = ["%%bash\nexit 1", "%matplotlib inline\ncheck?\n" + RIGHT, "1 / 0", later]
    book = {"cells": [{"cell_type": "code", "source": [cell]} for cell in cells]}
    (tmp_path / "answer.ipynb").write_text(json.dumps(book))
    classroom.run_answer(tmp_path / "answer.ipynb", tmp_path / "results", 4.0)
    verdicts, errors = classroom._read(tmp_path / "results")
    assert {name: passed for name, (passed, _) in verdicts.items()} == {"kl": True, "scale": True}
    assert errors == ["cell 3: it fails with ZeroDivisionError: division by zero"]
