"""The notebook template; what the cells print is compared by nbval itself."""

import json
import re

import pytest

from tests.conftest import ROOT

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
    assert len(ignored) <= len(code) / 5
    assert all(re.match(r"# NBVAL_IGNORE_OUTPUT\n# \w", source) for source in ignored)
    for source in sources:
        assert not source.rstrip().endswith(";")
        assert "clear_output" not in source
    everything = path.read_text()
    assert not re.search(r"/(home|root|Users|work|tmp)/", everything)
    assert "image/svg" not in everything
    errors = [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert not errors


def test_the_series_is_complete_and_linked():
    names = [path.name for path in NOTEBOOKS]
    assert [name[:2] for name in names] == [f"{i:02d}" for i in range(9)]
    readme = (ROOT / "README.md").read_text()
    for name in names:
        assert f"(notebooks/{name})" in readme
        assert f'src="img/notebook_{name[:2]}.png"' in readme
        assert (ROOT / "img" / f"notebook_{name[:2]}.png").stat().st_size > 1000
