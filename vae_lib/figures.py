"""Arrays in, pictures out: matplotlib axes, and PNG and GIF files of image grids. No model is called here."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from vae_lib.errors import Fault, UserError
from vae_lib.files import output_path, write_atomically

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MAX_PIXELS = 2**28  # of a picture, or of all frames of an animation
MIN_FRAME_MS, MAX_FRAME_MS = 20, 655_350  # viewers show anything shorter much slower; a GIF holds nothing longer
GIF_LEVELS = (128, 64, 32)  # of grey; 128 in place of 256 takes a quarter off the file and cannot be seen
GIF_BYTES = 8_000_000  # fewer levels are used for what would be larger, because pages refuse to show it


def use_style() -> None:
    """One look for all figures of a notebook; sets the figure size, so that its printed size is stable."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 4.0),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
            "font.size": 10,
        }
    )


def show(figure: Any, alt: str) -> None:
    """Show a figure, or a picture (H, W, C) or (H, W), in a notebook, with a text that says what there is to see.

    The text is the picture's alternative text for readers who cannot see it. Raises `UserError` for an empty one.
    """
    from IPython.display import publish_display_data

    if not (isinstance(alt, str) and alt.strip()):
        raise UserError("a figure needs a text that says what there is to see.")
    if isinstance(figure, Axes):
        figure = figure.figure
    if isinstance(figure, np.ndarray):
        picture = figure[..., None] if figure.ndim == 2 else figure
        if picture.ndim != 3 or picture.shape[2] not in (1, 3) or not picture.size:
            raise UserError(f"a picture has the shape (H, W), (H, W, 1) or (H, W, 3), not {figure.shape}.")
        content = encoded(to_bytes(picture), ".png")
    elif not isinstance(figure, Figure):
        raise UserError(f"give a matplotlib figure or a picture as an array, not {type(figure).__name__}.")
    else:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        content = _smaller(buffer)
        plt.close(figure)  # or the notebook would show it again at the end of the cell
    data = {"image/png": base64.b64encode(content).decode(), "text/plain": alt}
    publish_display_data(data, {"image/png": {"alt": alt}})  # type: ignore[no-untyped-call]


def _smaller(png: io.BytesIO) -> bytes:
    """A figure's PNG with a palette of 256 colours: half the bytes, and hardly to be told apart."""
    buffer = io.BytesIO()
    Image.open(png).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Images (...) in [0, 1] as 0..255, of the same shape, uint8; uint8 images as they are. Raises `UserError`."""
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating) or not np.isfinite(images).all():
        raise UserError(
            f"a picture is made of uint8 or of finite floats from 0 to 1, not of {images.dtype} like these."
        )
    return np.round(np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """One picture of many, row by row, (N, H, W, C) -> (rows * H, columns * W, C); spare tiles are black."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    padded = np.zeros((rows * columns, height, width, channels), images.dtype)
    padded[:n] = images
    grid = padded.reshape(rows, columns, height, width, channels)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def check_pixels(count: int) -> None:
    """Raise `UserError` for a picture or an animation of more pixels than anybody can look at."""
    if count > MAX_PIXELS:
        raise UserError(f"that makes {count:,} pixels, and the most is {MAX_PIXELS:,}: use fewer or smaller tiles.")


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """An image (H, W, C) uint8 scaled up by a whole factor with smooth (bicubic) interpolation. Raises `UserError`."""
    if factor < 1:
        raise UserError(f"the scale must be at least 1, not {factor}.")
    if factor == 1:
        return image
    height, width = image.shape[0] * factor, image.shape[1] * factor
    check_pixels(height * width)
    picture = Image.fromarray(_squeeze(image)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(height, width, image.shape[2])


def _squeeze(image: np.ndarray) -> np.ndarray:
    return image[..., 0] if image.shape[-1] == 1 else image


def encoded(image: np.ndarray, suffix: str, **options: Any) -> bytes:
    """An image (H, W, C) in [0, 1] or uint8 as the bytes of a picture file, such as '.png' or '.jpg'.

    Raises `UserError`.
    """
    try:
        content: Any = iio.imwrite("<bytes>", _squeeze(to_bytes(image)), extension=suffix, plugin="pillow", **options)
    except (OSError, ValueError, OverflowError) as error:  # a side that the format has no number for, for example
        if isinstance(error, UserError):
            raise
        size = " x ".join(map(str, image.shape))
        raise UserError(f"a picture of {size} cannot be kept as {suffix}: {error}; use .png.") from None
    return bytes(content)


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> Path:
    """Write an image (H, W, C) in [0, 1] or uint8, complete or not at all; the suffix names the format.

    Raises `UserError`.
    """
    target = output_path(path, "a picture's file")
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"cannot write {target}: the name must end in one of {', '.join(SUFFIXES)}.")
    return _write(target, encoded(image, suffix))


def write_gif(path: str | os.PathLike[str], frames: np.ndarray, *, frame_ms: int = 40, loop: bool = True) -> Path:
    """Write frames (T, H, W, C) in [0, 1] or uint8 as a GIF, ``frame_ms`` milliseconds each; returns the path.

    Raises `UserError` for a time that is no multiple of 10 ms, or under 20 ms, which viewers replace by a much longer
    one, and where the file cannot be written.
    """
    if not MIN_FRAME_MS <= frame_ms <= MAX_FRAME_MS or frame_ms % 10:
        raise UserError(f"a frame takes a multiple of 10 ms, from {MIN_FRAME_MS} to {MAX_FRAME_MS:,}, not {frame_ms}.")
    if not len(frames):
        raise UserError("an animation needs at least one frame.")
    target = output_path(path, "a picture's file")
    if target.suffix.lower() != ".gif":
        raise UserError(f"cannot write {target}: the name of an animation must end in .gif.")
    for levels in GIF_LEVELS:
        steps = np.round(to_bytes(frames) * ((levels - 1) / 255))
        images = np.round(steps * (255 / (levels - 1))).astype(np.uint8)
        content = encoded(images, ".gif", duration=frame_ms, loop=0 if loop else 1)
        if len(content) <= GIF_BYTES:
            break
    return _write(target, content)


def _write(target: Path, content: bytes) -> Path:
    try:
        write_atomically(target, content)
    except OSError as error:
        raise Fault(f"cannot write {target}: {error.strerror or error}.") from None
    return target


# ---- matplotlib --------------------------------------------------------------------------------------------


def show_images(
    images: np.ndarray,
    columns: int = 10,
    ax: Axes | None = None,
    *,
    rows: Sequence[str] | None = None,
    tops: Sequence[str] | None = None,
) -> Axes:
    """Images (N, H, W, C) as one tiled picture; ``rows`` and ``tops`` are labels to its left and above it.

    Raises `UserError` where there are not as many labels as rows or columns.
    """
    ax = ax or plt.gca()
    picture = tile(to_bytes(images), columns)
    ax.imshow(_squeeze(picture), cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()
    if rows is not None:
        height = images.shape[1]
        if len(rows) * height != len(picture):
            raise UserError(f"give a label for each of the {len(picture) // height} rows, not {len(rows)}.")
        for i, label in enumerate(rows):
            ax.text(-0.3 * height, (i + 0.5) * height - 0.5, label, ha="right", va="center")
    if tops is not None:
        width = images.shape[2]
        if len(tops) * width != picture.shape[1]:
            raise UserError(f"give a label for each of the {picture.shape[1] // width} columns, not {len(tops)}.")
        for i, label in enumerate(tops):
            ax.text((i + 0.5) * width - 0.5, -0.15 * width, label, ha="center", va="bottom", fontsize="small")
    return ax


def show_manifold(picture: np.ndarray, values: Sequence[float], ax: Axes | None = None) -> Axes:
    """A tiled manifold (n * H, n * W, C) whose axes are labelled with the latent coordinates ``values`` (n,)."""
    ax = ax or plt.gca()
    height, n = picture.shape[0], len(values)
    ax.imshow(_squeeze(to_bytes(picture)), cmap="gray", vmin=0, vmax=255)
    half = np.unique(np.linspace(0, (n - 1) // 2, 3).astype(int))
    shown = np.union1d(half[: None if n % 2 else 2], n - 1 - half[: None if n % 2 else 2])  # the same on both sides
    centres = (shown + 0.5) * height / n - 0.5
    ax.set_xticks(centres, [f"{values[i]:.1f}" for i in shown])
    ax.set_yticks(height - 1 - centres, [f"{values[i]:.1f}" for i in shown])
    ax.set_xlabel("$z_1$")
    ax.set_ylabel("$z_2$")
    return ax


def show_codes(z_mean: np.ndarray, labels: np.ndarray, names: Sequence[str], ax: Axes | None = None) -> Axes:
    """The aggregate posterior: a dot for each encoded image (N, 2), coloured by class.

    Label ``i`` is called ``names[i]`` and has the same colour whichever classes are shown.
    """
    ax = ax or plt.gca()
    colours = plt.get_cmap("tab10" if len(names) <= 10 else "tab20")
    ax.scatter(z_mean[:, 0], z_mean[:, 1], c=colours(labels % colours.N), s=2, rasterized=True)
    handles = [
        Line2D([], [], linestyle="", marker="o", color=colours(label % colours.N), label=names[label])
        for label in np.unique(labels)
    ]
    ax.legend(handles=handles, title="class", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return ax


def show_history(history: Sequence[dict[str, float]], ax: Axes | None = None) -> Axes:
    """The negative ELBO on training and test images after each epoch."""
    ax = ax or plt.gca()
    for part in ("train", "test"):
        ax.plot([row["epoch"] for row in history], [-row[f"{part}_elbo"] for row in history], label=part)
    ax.set(xlabel="epoch", ylabel="-ELBO (nats per image)")
    ax.legend(frameon=False)
    return ax
