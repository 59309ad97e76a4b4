"""Notebooks for a class: ``python -m tools.handouts FOLDER [NOTEBOOK ...]``, by default all.

Writes ``student/`` with the exercises to be solved and no solution, and ``teacher/`` with the solutions open. Both come
from the notebooks of the series, where solutions are code cells tagged 'solution'. Outputs of exercises are left out,
and the pages that a notebook links are copied beside it.
"""

from __future__ import annotations

import argparse
import copy
import re
import shutil
from pathlib import Path

import nbformat

from vae_lib.files import write_atomically

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))


# What is said of solutions, and solutions in a text, which students do not get.
SOLUTIONS = re.compile(
    r" A solution follows each exercise[^.]*\.| A solution\s+is folded\s+away below\..*?skip the exercise\."
    r"|\n\n<details><summary>Solution</summary>.*?</details>",
    re.S,
)


def for_students(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy without solutions, in which no exercise has been tried yet."""
    result = copy.deepcopy(notebook)
    result.cells = [cell for cell in result.cells if "solution" not in tags(cell)]
    for cell in result.cells:
        cell.source = SOLUTIONS.sub("", cell.source)
        if "exercise" in tags(cell):
            cell.outputs, cell.execution_count = [], None
    return result


def for_teachers(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy whose solutions are open."""
    result = copy.deepcopy(notebook)
    for cell in result.cells:
        if "solution" in tags(cell):
            for hidden in ("jupyter", "cellView", "_kg_hide-input"):
                cell.metadata.pop(hidden, None)
            cell.metadata["tags"] = [tag for tag in tags(cell) if tag != "hide-cell"]
    return result


def with_pages(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with links to the copies in ``folder`` of the pages beside the notebooks' own folder."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for name in re.findall(r"\]\(\.\./([^)#\s]+)", cell.source):
                place = folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(NOTEBOOKS.parent / name, place)
            cell.source = cell.source.replace("](../", "](")
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("notebooks", type=Path, nargs="*", default=sorted(NOTEBOOKS.glob("*.ipynb")))
    args = parser.parse_args()
    for path in args.notebooks:
        notebook = nbformat.read(path, as_version=4)
        for kind, make in (("student", for_students), ("teacher", for_teachers)):
            target = args.folder / kind / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, nbformat.writes(with_pages(make(notebook), target.parent)).encode())
            print(target)


if __name__ == "__main__":
    main()
