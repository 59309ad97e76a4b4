"""The notebook template; what the cells print and draw is compared by nbval and the hook in the root conftest.py."""

import base64
import io
import json
import re
import shutil

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

from tests import figures
from tests.conftest import ROOT, run_python

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_keeps_to_the_template(path):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name)
    assert path.stat().st_size <= 1_500_000
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in code]
    prose = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert prose.startswith(f"# {path.name[:2]} - ")
    for heading in ("This notebook shows:", "## Exercises", "<details>", "## What to remember", "## References"):
        assert heading in prose, heading
    ignored = [source for source in sources if "NBVAL_IGNORE_OUTPUT" in source]
    assert len(ignored) + len(tagged(path, "nbval-ignore-output")) <= len(code) / 5
    assert all(re.match(r"# NBVAL_IGNORE_OUTPUT\n# \w", source) for source in ignored)
    for source in sources:
        assert not source.rstrip().endswith(";")
        assert "clear_output" not in source
    everything = re.sub(r'"image/\w+": "[^"]*"', "", path.read_text())
    assert not re.search(r"/(home|root|Users|work|tmp)/", everything)
    assert "image/svg" not in path.read_text()
    errors = [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert not errors


def tagged(path, tag):
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if tag in cell["metadata"].get("tags", [])]


def printed(cell):
    return "".join("".join(output.get("data", {}).get("text/plain", "")) for output in cell["outputs"])


WITH_CHECKS = [path for path in NOTEBOOKS if tagged(path, "exercise")]


def test_some_notebooks_have_exercises_that_grade_themselves():
    assert WITH_CHECKS


def test_the_page_for_teachers_says_what_each_notebook_has():
    """The minutes are those that the notebook itself promises."""
    page = (ROOT / "docs" / "teaching.md").read_text()
    rows = dict(re.findall(r"^\| (\d\d) \|.* \| (\d+ \| \d+) \|$", page, re.MULTILINE))
    minutes = {"a minute": 1, "two minutes": 2, "three minutes": 3}
    for path in NOTEBOOKS:
        opening = "".join(json.loads(path.read_text())["cells"][0]["source"])
        promised = minutes[re.search(r"takes about (\w+ minutes?)", opening)[1]]
        assert rows.pop(path.name[:2]) == f"{promised} | {len(tagged(path, 'exercise'))}", path.name
    assert not rows


@pytest.mark.parametrize("path", WITH_CHECKS, ids=lambda p: p.stem)
def test_each_exercise_waits_for_an_answer_and_its_solution_passes(path):
    exercises, solutions = tagged(path, "exercise"), tagged(path, "solution")
    assert len(exercises) == len(solutions) >= 3
    for exercise, solution in zip(exercises, solutions, strict=True):
        called = [
            re.findall(r"^check\.(\w+)\(", "".join(cell["source"]), re.MULTILINE) for cell in (exercise, solution)
        ]
        assert called[0] == called[1]
        assert len(called[0]) == 1
        assert printed(exercise).startswith(f"not yet: {called[0][0]}. ")
        assert printed(solution).startswith(f"passed: {called[0][0]}. ")
        assert solution["metadata"]["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
        assert solution["metadata"]["cellView"] == "form"  # hides it on Colab


@pytest.mark.parametrize("path", WITH_CHECKS, ids=lambda p: p.stem)
def test_each_figure_has_a_text_for_those_who_cannot_see_it(path):
    cells = json.loads(path.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert outputs
    for output in outputs:
        assert len(output["metadata"]["image/png"]["alt"]) > 40


@pytest.mark.parametrize("path", WITH_CHECKS, ids=lambda p: p.stem)
def test_handouts_for_students_have_no_solution_and_those_for_teachers_show_them(path, tmp_path):
    result = run_python("-m", "tools.handouts", str(tmp_path), str(path), cwd=ROOT)
    assert result.returncode == 0, result.stderr
    student, teacher = tmp_path / "student" / path.name, tmp_path / "teacher" / path.name
    number = len(tagged(path, "exercise"))
    assert (len(tagged(student, "solution")), len(tagged(student, "exercise"))) == (0, number)
    for cell in tagged(path, "solution"):
        assert "".join(cell["source"]) not in student.read_text()
    assert all(cell["outputs"] == [] for cell in tagged(student, "exercise"))
    assert len(tagged(teacher, "solution")) == number
    assert all(set(cell["metadata"]) == {"tags"} for cell in tagged(teacher, "solution"))
    told = " ".join("".join(cell.source for cell in nbformat.read(student, as_version=4).cells).split())
    assert not re.search("<summary>Solution|solution follows|solution is folded|run the solution", told)
    for written in (student, teacher):
        book = nbformat.read(written, as_version=4)
        nbformat.validate(book)
        text = "".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)\)", text):
            assert (written.parent / target).exists() or (ROOT / "notebooks" / target).exists(), target
            assert not target.startswith("..")


def test_what_notebooks_link_is_there():
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                for target in re.findall(r"\]\((?!https?:)([^)#\s]+)\)", "".join(cell["source"])):
                    assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_series_is_complete_and_linked():
    names = [path.name for path in NOTEBOOKS]
    assert [name[:2] for name in names] == [f"{i:02d}" for i in range(11)]
    readme = (ROOT / "README.md").read_text()
    for name in names:
        assert f"(notebooks/{name})" in readme
        assert f'src="img/notebook_{name[:2]}.png"' in readme
        assert (ROOT / "img" / f"notebook_{name[:2]}.png").stat().st_size > 1000


# ---- Figures are compared when the notebooks are executed again --------------------------------------------------


def picture_of(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return {"output_type": "display_data", "data": {"image/png": base64.b64encode(content.getvalue()).decode()}}


def test_a_figure_that_shows_something_else_is_noticed():
    curve = np.full((300, 400), 255, np.uint8)
    curve[140:150, 20:380] = 0
    moved, blank = np.roll(curve, 40, axis=0), np.full_like(curve, 255)
    noise = np.random.default_rng(0).integers(0, 4, curve.shape, dtype=np.uint8)
    same = picture_of(np.where(curve > 128, curve - noise, curve + noise))
    assert figures.different_figures([same], [picture_of(curve)]) == []
    for other in (moved, blank, np.zeros_like(curve), curve[:200]):
        assert len(figures.different_figures([picture_of(other)], [picture_of(curve)])) == 1
    assert figures.different_figures([], [same]) == ["0 figures were drawn, 1 are stored"]


@pytest.mark.slow
def test_nbval_fails_where_a_stored_figure_is_another(tmp_path):
    """A copy of a notebook whose stored figure is black, run as `make test` runs the originals."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    source = "import matplotlib.pyplot as plt\nline = plt.plot([0, 1], [1, 0], linewidth=9)"
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    # pyzmq may miss that a reply has come, and then looks again when the time is up.
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    shutil.copy(ROOT / "conftest.py", tmp_path)
    results = []
    for name in ("true", "black"):
        if name == "black":
            figure = next(output for output in notebook.cells[0].outputs if "image/png" in output.get("data", {}))
            with Image.open(io.BytesIO(base64.b64decode(figure.data["image/png"]))) as drawn:
                figure.data["image/png"] = picture_of(np.zeros(drawn.size[::-1], np.uint8))["data"]["image/png"]
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        results.append(run_python("-m", "pytest", "--nbval", f"{name}.ipynb", cwd=tmp_path))
    assert results[0].returncode == 0, results[0].stdout
    assert results[1].returncode == 1
    assert "grey levels" in results[1].stdout
