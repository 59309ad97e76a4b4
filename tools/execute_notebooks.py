"""Execute notebooks in place: ``python -m tools.execute_notebooks [NOTEBOOK ...]``, all of them by default.

Each runs in a fresh kernel in its own folder, with a time limit for each cell. Only what changes from one execution
to the next without meaning is taken out: times of cells, and the version of Python. A notebook with an error stays
as it was. The figure of the cell with the tag ``cover`` is kept as ``img/notebook_NN.png`` for the README.
"""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path

import nbclient
import nbformat

CELL_SECONDS = 600


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    began = time.perf_counter()
    client = nbclient.NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)
    save_cover(notebook, path)
    print(f"{path.name}: {time.perf_counter() - began:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)


def save_cover(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Keep the figure of the cell tagged ``cover``."""
    for cell in notebook.cells:
        if "cover" in cell.metadata.get("tags", []):
            figures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
            target = path.parents[1] / "img" / f"notebook_{path.name[:2]}.png"
            target.write_bytes(base64.b64decode(figures[-1]))


def main() -> None:
    here = Path(__file__).parents[1] / "notebooks"
    for path in [Path(name) for name in sys.argv[1:]] or sorted(here.glob("*.ipynb")):
        execute(path)


if __name__ == "__main__":
    main()
