"""The numbers of runs in tables: beside figures of others, and beside what file compressors make of the same pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vae_lib.config import RunConfig
from vae_lib.evaluation import Report
from vae_lib.report import PIXELS

# Figures of others, each with its protocol; nats per image, lower is better.
PUBLISHED = (
    ("threshold", "2-D", "TensorFlow's CVAE tutorial, two convolutions", "-ELBO", "155.9"),
    ("threshold", "10-D", "MLP 3 x 500, Zhang, Hayes and Barber 2022", "-ELBO, a bits-back code length", "100.8"),
    ("threshold", "10-D", "the same, encoder refitted on model samples", "-ELBO, a bits-back code length", "97.2"),
    ("dynamic", "2-D", "MLP 256-128, Davidson et al. 2018", "-log p(x), IWAE-500", "135.7"),
    ("dynamic", "20-D", "MLP 256-128, Davidson et al. 2018", "-log p(x), IWAE-500", "88.9"),
    ("dynamic", "40-D", "gated MLP, Norouzi et al. 2020", "-log p(x), IWAE-5000", "84.45"),
    ("dynamic", "40-D", "the same with a VampPrior", "-log p(x), IWAE-5000", "82.43"),
    ("dynamic", "50-D", "MLP VAE, Burda et al. 2016", "-log p(x), IWAE-5000", "86.76"),
    ("dynamic", "50-D", "MLP trained with IWAE-50, Burda et al. 2016", "-log p(x), IWAE-5000", "84.78"),
)
Runs = Mapping[str, tuple[RunConfig, Mapping[str, Any]]]  # config and metrics by name
Compressed = Mapping[str, Mapping[str, float]]  # task, then compressor: nats per image or bits per pixel
COMPRESSORS = Path(__file__).with_name("compressors.json")  # written by tools/compressors.py


def compressor_sizes(part: str = "test") -> Compressed:
    """What file compressors need for the test images ('test') or the bundled sample ('sample'), by data set.

    Nats per image for 'mnist', whose pixels are thresholded, and bits per pixel for 'fashion_mnist' and 'faces'.
    """
    sizes: dict[str, Compressed] = json.loads(COMPRESSORS.read_text())
    return sizes[part]


def scoreboard(runs: Runs, compressed: Compressed | None = None) -> str:
    """Markdown tables of runs: one for bits and one for grey pixels, whose rows are comparable within a task.

    ``compressed`` holds what file compressors need for the same test images, as `compressor_sizes` gives it.
    """
    grey = list(_rows_of_grey(runs, compressed or {}))
    if not any(refined for *_, refined in grey):
        grey = [row[:-1] for row in grey]
    heads = ("grey images", "latent", "model", "-ELBO, nats", "bits per pixel", "refined")[
        : len(grey[0]) if grey else 5
    ]
    lines = [
        "| pixels | latent | model | -ELBO | refined | -log p(x) | measured as |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *_rows_of_bits(runs, compressed or {}),
        "",
        *(f"| {' | '.join(row)} |".replace("  ", " ") for row in (heads, ["---"] * len(heads), *grey)),
    ]
    return "\n".join(lines) + "\n"


def _rows_of_bits(runs: Runs, compressed: Compressed) -> Iterator[str]:
    for pixels in ("threshold", "dynamic"):
        for name, (config, metrics) in runs.items():
            if config.model.binarize == pixels:
                test = metrics["test"]
                kind, best = _best_estimate(test) or ("", float("nan"))
                refined = f"{-test['refined_elbo']:.2f}" if "refined_elbo" in test else ""
                yield (
                    f"| {PIXELS[pixels]} | {config.model.latent_dim}-D | **`{name}`** | **{-test['elbo']:.2f}** "
                    f"+- {test['elbo_error']:.2f} | {refined} | **{-best:.2f}** | {kind} |"
                )
        for task, latent, model, quantity, value in PUBLISHED:
            if task == pixels:
                what = quantity.partition(", ")[2]
                cells = f"{value} | | | {what} " if quantity.startswith("-ELBO") else f"| | {value} | {what} "
                yield f"| {PIXELS[pixels]} | {latent} | {model} | {cells}|"
        for compressor, nats in compressed.get("mnist" if pixels == "threshold" else "", {}).items():
            yield f"| {PIXELS[pixels]} | | {compressor} | | | {nats:.2f} | size of the file |"


def _rows_of_grey(runs: Runs, compressed: Compressed) -> Iterator[tuple[str, ...]]:
    """The cells of each row; the last is empty where nothing was refined."""
    grey = {name: run for name, run in runs.items() if run[0].model.binarize == "none"}
    for data in sorted({config.data.name for config, _ in grey.values()}):
        for name, (config, metrics) in grey.items():
            if config.data.name == data:
                test, side = metrics["test"], config.model.im_dim
                refined = f"{test['refined_bits_per_pixel']:.3f}" if "refined_bits_per_pixel" in test else ""
                elbo = f"**{-test['elbo']:.1f}** +- {test['elbo_error']:.1f}"
                bits, latent = f"**{test['bits_per_pixel']:.3f}**", f"{config.model.latent_dim}-D"
                yield (f"{data}, {side} x {side}", latent, f"**`{name}`**", elbo, bits, refined)
        for compressor, bits_of_file in compressed.get(data, {}).items():
            yield (data, "", compressor, "", f"{bits_of_file:.3f}", "")


def _best_estimate(test: Report) -> tuple[str, float] | None:
    """The tightest recorded estimate of log p(x), and what it is."""
    if "log_px" in test:
        return "exact", test["log_px"]
    bounds = [int(key[5:]) for key in test if key.startswith("iwae_") and not key.endswith("_error")]
    return (f"IWAE-{max(bounds)}", test[f"iwae_{max(bounds)}"]) if bounds else None
