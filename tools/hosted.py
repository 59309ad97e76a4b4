"""Write the project's address into the notebooks: ``python -m tools.hosted``.

Each notebook begins with a cell that installs the package where it is missing, as on Colab and Kaggle, and with badges
that open it there. Their address is ``[project.urls]`` of pyproject.toml, so that a fork changes one line.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nbformat

from vae_lib.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
BADGES = re.compile(r"\n*<!-- badges -->.*<!-- /badges -->", re.S)
TAG = "install"
PLACEHOLDER = "github.com/example/"


def address() -> str:
    """Where the project lies."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"])


def install_cell(repository: str) -> str:
    """The first cell of a notebook."""
    return (
        "# Where vae_lib is missing, as on Colab and Kaggle, this installs it; elsewhere it does nothing.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("vae_lib") is None:\n'
        f'    %pip install --quiet "vae-lib @ git+{repository}"'
    )


def badges(repository: str, path: str) -> str:
    """Links that open a notebook on a host."""
    owner_and_name = repository.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/{path}"
    kaggle = f"https://kaggle.com/kernels/welcome?src={repository}/blob/main/{path}"
    later = " The links, and the cell below, need [a public address](../docs/hosting.md)." * (PLACEHOLDER in repository)
    return f"<!-- badges -->\nRun it on [Colab]({colab}) or on [Kaggle]({kaggle}).{later}\n<!-- /badges -->"


def hosted(book: nbformat.NotebookNode, repository: str, path: str) -> nbformat.NotebookNode:
    """The notebook with its first cell and its badges, whatever it had of them."""
    cells = [cell for cell in book.cells if TAG not in cell.metadata.get("tags", [])]
    cells[0].source = BADGES.sub("", cells[0].source) + "\n\n" + badges(repository, path)
    first = nbformat.v4.new_code_cell(install_cell(repository), metadata={"tags": [TAG]}, execution_count=0)
    book.cells = [cells[0], first, *cells[1:]]
    count = 0
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number:02d}"
        if cell.metadata.get("jupyter", {}).get("source_hidden"):  # as Colab and Kaggle write it
            cell.metadata |= {"cellView": "form", "_kg_hide-input": True}
        if cell.cell_type == "code" and cell.execution_count is not None:
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    return book


def main() -> None:
    repository = address()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        name = path.relative_to(ROOT).as_posix()
        book = hosted(nbformat.read(path, as_version=4), repository, name)
        write_atomically(path, (nbformat.writes(book, indent=1) + "\n").encode())
        print(name)


if __name__ == "__main__":
    main()
