"""Write the pages in docs/, one for each run, the lab, and their index: ``python -m tools.build_site RUN ...``."""

from __future__ import annotations

import sys
from pathlib import Path

from vae_lib import load_data, load_run
from vae_lib.page import export
from vae_lib.page.lab import lab_page

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    names = sys.argv[1:]
    for name in names:
        run = load_run(name)
        images = run.config.data.name
        data = None if images == "faces" else load_data(images, run.config.model.im_dim, source="sample")
        export.write_page(DOCS / f"{name}.html", export.run_page(run, data, home=True))
    export.write_page(DOCS / "lab.html", lab_page())
    export.write_page(DOCS / "index.html", export.index_page({f"{name}.html": load_run(name) for name in names}))


if __name__ == "__main__":
    main()
