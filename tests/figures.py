"""Whether two figures show the same, though they were drawn on machines that round differently."""

import base64
import io

import numpy as np
from PIL import Image

TILES = 24  # along each side: figures are compared tile by tile
LARGEST = 32  # grey levels, of 255, by which a tile may differ
MEAN = 2.0  # and all of them on average


def difference(a: bytes, b: bytes) -> tuple[float, float]:
    """The largest and the mean difference of the tiles of two encoded pictures, in grey levels.

    Each is made grey, without its transparency, and averaged over TILES x TILES tiles. Infinite where one is more than
    a tenth wider or higher than the other.
    """
    pictures = [Image.open(io.BytesIO(content)).convert("RGBA") for content in (a, b)]
    sizes = np.array([picture.size for picture in pictures], float)
    if (np.abs(np.log(sizes[0] / sizes[1])) > np.log(1.1)).any():
        return np.inf, np.inf
    tiles = []
    for picture in pictures:
        paper = Image.new("RGBA", picture.size, "white")
        paper.alpha_composite(picture)
        tiles.append(np.asarray(paper.convert("L").resize((TILES, TILES), Image.Resampling.BOX), float))
    apart = np.abs(tiles[0] - tiles[1])
    return float(apart.max()), float(apart.mean())


def _figures(outputs) -> list[str]:
    kinds = ("image/png", "image/jpeg")
    return [output["data"][kind] for output in outputs for kind in kinds if kind in output.get("data", {})]


def different_figures(test, ref) -> list[str]:
    """What is to be said of the figures of a cell's outputs, against those of its stored outputs; nothing if equal."""
    drawn, stored = _figures(test), _figures(ref)
    if len(drawn) != len(stored):
        return [f"{len(drawn)} figures were drawn, {len(stored)} are stored"]
    said = []
    for number, pair in enumerate(zip(drawn, stored, strict=True)):
        largest, mean = difference(*map(base64.b64decode, pair))
        if largest > LARGEST or mean > MEAN:
            said.append(f"figure {number} differs by {largest:.0f} grey levels at most, {mean:.1f} on average")
    return said
