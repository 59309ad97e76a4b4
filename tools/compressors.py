"""What file compressors make of the test images: ``python -m tools.compressors FILE``; needs the full data sets.

Digits are thresholded at 0.5 and their bits packed; grey images are taken as bytes. One solid file holds all images one
after the other; single images are files of their own, headers included.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import math
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from vae_lib.data.loading import load_data
from vae_lib.files import write_atomically

SIDES = {"mnist": 28, "fashion_mnist": 28, "faces": 64}
SOLID: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda data: zlib.compress(data, 9),
    "bz2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}
SINGLE: dict[str, dict[str, object]] = {
    "PNG": {"format": "png", "optimize": True},
    "WebP": {"format": "webp", "lossless": True, "quality": 100, "method": 6},
}


def sizes(images: np.ndarray, *, bits: bool) -> dict[str, float]:
    """Nats per image (``bits``: thresholded pixels) or bits per pixel, by compressor, for images (N, H, W, C) uint8."""
    thresholded = (images >= 128).astype(np.uint8)
    solid = np.packbits(thresholded.reshape(len(images), -1), axis=1).tobytes() if bits else images.tobytes()
    found = {f"{name}, one solid file": float(len(compress(solid))) for name, compress in SOLID.items()}
    for name, options in SINGLE.items():
        found[f"{name}, single images"] = float(sum(_file_size(image, bits, options) for image in images[..., 0]))
    unit = math.log(2) / len(images) if bits else 1 / images.size
    return {name: round(8 * size * unit, 4) for name, size in found.items()}


def _file_size(image: np.ndarray, bits: bool, options: dict[str, object]) -> int:
    picture, file = Image.fromarray(image), io.BytesIO()
    if bits:
        picture = picture.point(lambda level: 255 * (level >= 128)).convert("1")
    picture.save(file, **options)
    return len(file.getvalue())


def measure(name: str, source: str = "auto") -> dict[str, float]:
    """`sizes` of the test images of a data set."""
    return sizes(load_data(name, SIDES[name], source=source).test_images, bits=name == "mnist")


def main() -> None:
    found = {
        part: {name: measure(name, source) for name in SIDES}
        for part, source in (("test", "auto"), ("sample", "sample"))
    }
    write_atomically(Path(sys.argv[1]), (json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
