"""Write the lab, the page of each run, and their index: ``python -m tools.build_site FOLDER RUN ...``."""

from __future__ import annotations

import sys
from pathlib import Path

from vae_lib import load_data, load_run
from vae_lib.page import export
from vae_lib.page.lab import lab_page


def build(folder: Path, names: list[str]) -> None:
    """Write ``index.html``, ``lab.html``, and for each shipped run the page of its name into ``folder``."""
    runs = {f"{name}.html": load_run(name) for name in names}
    for file, run in runs.items():
        images = run.config.data.name
        data = None if images == "faces" else load_data(images, run.config.model.im_dim, source="sample")
        export.write_page(folder / file, export.run_page(run, data, home=True))
    export.write_page(folder / "lab.html", lab_page())
    export.write_page(folder / "index.html", export.index_page(runs))


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2:])
