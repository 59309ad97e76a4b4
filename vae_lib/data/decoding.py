"""Image files to squares of bytes: one file, and many at once in bounded memory."""

from __future__ import annotations

import collections
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageChops, ImageOps

from vae_lib.errors import UserError

# Of files that Pillow can read all the same. For all threads: `warnings.catch_warnings` is not made for several.
warnings.filterwarnings("ignore", module=r"PIL\.")
AHEAD = 4  # images that each core may be ahead of whoever takes them
MODES = {1: "L", 3: "RGB"}  # Pillow's names of a picture's channels
In = TypeVar("In")
Out = TypeVar("Out")


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """``function`` of each item, in the order of the items, by a thread for each core.

    Only a few results wait at a time, so that the memory they take does not grow with the number of items.
    """
    with ThreadPoolExecutor(cores()) as pool:
        waiting: collections.deque[Future[Out]] = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= AHEAD * cores():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def resize(image: Image.Image, im_dim: int) -> np.ndarray:
    """A Pillow image scaled to im_dim x im_dim with anti-aliasing, (im_dim, im_dim, C) uint8."""
    if image.size != (im_dim, im_dim):
        image = image.resize((im_dim, im_dim), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def resize_array(pixels: np.ndarray, im_dim: int, channels: int | None = None) -> np.ndarray:
    """`resize` for pixels (H, W, 1 or 3) uint8, converted to so many ``channels`` where they are given."""
    if pixels.shape[:2] == (im_dim, im_dim) and channels in (None, pixels.shape[2]):
        return np.ascontiguousarray(pixels)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return resize(image if channels is None else image.convert(MODES[channels]), im_dim)


def decode(file: Path | bytes, im_dim: int, channels: int | None = None, *, name: str = "") -> np.ndarray:
    """An image file, or the bytes of one, as (im_dim, im_dim, C) uint8.

    ``channels`` 1 or 3 converts to grey or to RGB; without, C is what the file has. Raises `UserError`, which names
    the file, or ``name``.
    """
    # At once, and not all files first: a photo takes a thousand times the memory of the square.
    image = open_image(file, im_dim, name=name or str(file))
    return resize(image if channels is None else image.convert(MODES[channels]), im_dim)


def open_image(file: Path | bytes, im_dim: int, *, name: str) -> Image.Image:
    """An image as grey or RGB, upright; a large JPEG is decoded to about twice ``im_dim``, which is much faster."""
    try:
        opened = io.BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(opened) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # which phones write: a photo and its preview
                raise UserError(f"{name} is an animation of {frames} frames: keep one of them.")
            image.draft(None, (2 * im_dim, 2 * im_dim))
            image.load()
            upright = ImageOps.exif_transpose(image)
            if "transparency" in upright.info:
                raise UserError(f"{name} has transparent pixels: flatten it.")
            if upright.mode == "P":
                upright = upright.convert("RGB")
                red, *others = upright.split()
                if all(ImageChops.difference(red, other).getextrema() == (0, 0) for other in others):
                    upright = red  # a palette of greys
            mode = "L" if upright.mode == "1" else upright.mode
            if mode not in ("L", "RGB"):
                raise UserError(f"{name} has the pixel format {mode}: convert it to 8-bit grey or RGB.")
            return upright.convert(mode)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds for what a file can hold
        raise UserError(f"{name} cannot be read as an image: {error}.") from None
