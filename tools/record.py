"""Measure a run and keep the numbers in its ``metrics.json``: ``python -m tools.record RUN --samples 50``."""

from __future__ import annotations

import argparse
from pathlib import Path

from vae_lib import evaluate, load_data, load_run
from vae_lib.runs.store import record_numbers


def record(
    name: str, samples: list[int], exact: bool, images: int | None, source: str, refine: int = 0
) -> tuple[str, Path]:
    """Measure a run on test images; returns the section of the numbers and the file that holds them."""
    run = load_run(name)
    data = load_data(run.config.data.name, run.config.model.im_dim, source=source)
    exact = exact and run.config.model.latent_dim == 2
    numbers = evaluate(run.model, data.test_images[:images], samples=samples, exact=exact, refine=refine, progress=True)
    section = "sample" if data.source == "sample" else "test"
    if images is not None:
        section += f"_{len(data.test_images[:images])}"
    return section, record_numbers(run.path, section, numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--samples", type=int, nargs="*", default=[50])
    parser.add_argument("--images", type=int)
    parser.add_argument("--no-exact", action="store_true")
    parser.add_argument("--source", default="auto")
    parser.add_argument("--refine", type=int, default=0, metavar="STEPS")
    args = parser.parse_args()
    print(*record(args.run, args.samples, not args.no_exact, args.images, args.source, args.refine))


if __name__ == "__main__":
    main()
