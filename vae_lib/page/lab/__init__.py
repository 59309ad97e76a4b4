"""The lab: one HTML file that trains a VAE in the page, on the bundled samples, packed."""

from __future__ import annotations

import base64
import html
import json
import string
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vae_lib.data.loading import load_data
from vae_lib.page.export import COLOURS, CREDITS

PAGE = Path(__file__).parent
SHARED = ("simd.js", "arrays.js")  # with the explorer
ENGINE = ("engine.js", "learner.js", "lesson.js")  # what a worker runs, after those
GARMENTS_EVERY = 2  # of the sample's training images, for the size of the page
HELD_OUT_EVERY = 5


def _packed(images: np.ndarray, bits: int) -> dict[str, Any]:
    """Images (N, H, W, 1) uint8 with so many bits a pixel, 1 or 4, deflated and in base64."""
    levels = (images >> 8 - bits).reshape(-1, 8 // bits)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    packed = (levels << shifts).sum(axis=1, dtype=np.uint8).tobytes()
    return {"packed": base64.b64encode(zlib.compress(packed, 9)).decode(), "bits": bits}


def _sets() -> dict[str, Any]:
    sets = {}
    for name, data, bits, every in (("digits", "mnist", 1, 1), ("garments", "fashion_mnist", 4, GARMENTS_EVERY)):
        sample = load_data(data, source="sample")
        sets[name] = {
            "train": _packed(sample.train_images[::every], bits),
            "test": _packed(sample.test_images[::HELD_OUT_EVERY], bits),
            "labels": sample.test_labels[::HELD_OUT_EVERY].tolist(),
            "names": [_initials(label) for label in sample.label_names],
        }
    return sets


def _initials(name: str) -> str:
    """What marks a class on the plane: a digit itself, or the first letters of a garment."""
    return name if name.isdigit() else "".join(filter(str.isalpha, name))[:2].lower()


def lab_page() -> str:
    """The page, whose scripts and images are all inside."""
    asset = {path.name: path.read_text("utf-8") for path in PAGE.iterdir() if path.suffix in (".js", ".html", ".css")}
    style = (PAGE.parent / "style.css").read_text("utf-8") + asset["lab.css"]
    shared = {name: (PAGE.parent / name).read_text("utf-8") for name in (*SHARED, "pad.js")}
    engine = "".join([*(shared[name] for name in SHARED), *(asset[name] for name in ENGINE)])
    content = json.dumps({"sets": _sets(), "colours": COLOURS})
    parts = {"style": style, "engine": engine, "content": content, "script": shared["pad.js"] + asset["lab.js"]}
    parts["credits"] = html.escape("; ".join(CREDITS[name] for name in ("mnist", "fashion_mnist")))
    return string.Template(asset["lab.html"]).substitute(parts)
