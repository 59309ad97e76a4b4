"""Drawings that change several times a second, as SVG text: the browser draws them, at any size."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

GREY, BLUE, ORANGE, GREEN = "#767676", "#0072b2", "#b35900", "#00735a"


def colours(count: int) -> list[str]:
    """A colour for each of ``count`` classes."""
    palette = colormaps["tab10" if count <= 10 else "tab20"]
    return [to_hex(palette(i % palette.N)) for i in range(count)]


def drawing(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    """An SVG of that size with a text that says what there is to see."""
    style = f'style="max-width:100%;font:12px sans-serif" viewBox="0 0 {width} {height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(label)}" width="{width}" '
        f'height="{height}" {style}>{"".join(parts)}</svg>'
    )


def still_pictures(pictures: Sequence[tuple[str, bytes]], side: int | None = None) -> str:
    """PNG pictures with their words as HTML, ``side`` pixels wide and high if it is given."""
    size = "" if side is None else f' width="{side}" height="{side}" style="image-rendering:pixelated"'
    return " ".join(
        f'<img alt="{html.escape(words)}"{size} src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        for words, picture in pictures
    )


def text(x: float, y: float, words: str, *, colour: str = "currentColor", anchor: str = "start") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{html.escape(words)}</text>'


def codes(
    z_mean: np.ndarray,
    z_log_var: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    side: int,
    reach: float = 3.5,
) -> str:
    """Encoded images in two dimensions, (N, 2), as ellipses of one standard deviation, each class with its name.

    The square reaches from -``reach`` to ``reach``; the circle holds two thirds of the codes that the prior has:
    those within 1.5 standard deviations.
    """
    scale, palette = side / (2 * reach), colours(len(names))
    x, y = side / 2 + scale * z_mean[:, 0], side / 2 - scale * z_mean[:, 1]
    widths = np.clip(scale * np.exp(0.5 * z_log_var), 1.5, side)
    middle = side / 2
    parts = [
        f'<rect width="{side}" height="{side}" fill="none" stroke="{GREY}"/>',
        f'<path d="M{middle} 0V{side}M0 {middle}H{side}" stroke="{GREY}" stroke-opacity="0.3"/>',
        f'<circle cx="{middle}" cy="{middle}" r="{1.5 * scale:.1f}" fill="none" stroke="{GREY}" stroke-dasharray="3"/>',
    ]
    parts += [
        f'<ellipse cx="{a:.1f}" cy="{b:.1f}" rx="{w:.1f}" ry="{h:.1f}" fill="{palette[label]}" fill-opacity="0.35" '
        f'stroke="{palette[label]}"/>'
        for a, b, (w, h), label in zip(x, y, widths, labels, strict=True)
    ]
    for label in np.unique(labels):
        mine = labels == label
        place = np.clip([np.median(x[mine]), np.median(y[mine])], 12, side - 12)
        parts.append(
            f'<text x="{place[0]:.0f}" y="{place[1] + 5:.0f}" text-anchor="middle" font-weight="bold" stroke="white" '
            f'stroke-width="4" paint-order="stroke" fill="#000">{html.escape(names[label])}</text>'
        )
    return drawing(side, side, f"{len(z_mean)} encoded images, coloured by class", parts)


def curves(
    x: Sequence[float],
    stacked: dict[str, Sequence[float]],
    lines: dict[str, Sequence[float]],
    *,
    width: int,
    height: int,
) -> str:
    """Areas on top of each other, and lines, over the same ``x`` (T,); NaN leaves a gap.

    Above them stand their names with their last numbers. The axis is cut off below what happens after the beginning.
    """
    left, top, bottom = 44, 18 + 16 * math.ceil((len(stacked) + len(lines)) / 2), 20
    total = np.nansum([list(values) for values in stacked.values()], axis=0) if stacked else np.zeros(len(x))
    tops = [total[np.isfinite(total)], *(np.array(v)[np.isfinite(v)] for v in lines.values())]
    finite = np.concatenate([part[len(part) // 5 :] for part in tops]) if len(x) else np.zeros(0)  # after the fall
    low, high = (0.9 * float(finite.min()), 1.05 * float(finite.max())) if finite.size else (0.0, 1.0)
    last = max(float(x[-1]) if len(x) else 1.0, 1.0)

    def place(a: float, b: float) -> str:
        down = (height - bottom - top) * (1 - min(max((b - low) / max(high - low, 1e-9), 0.0), 1.0))
        return f"{left + (width - left - 4) * a / last:.1f},{top + down:.1f}"

    parts, below, fills = [], np.zeros(len(x)), (BLUE, ORANGE, GREEN)
    for values, fill in zip(stacked.values(), fills, strict=False):
        above = below + np.array(values)
        keep = np.flatnonzero(np.isfinite(above)).tolist()
        ring = [place(x[i], above[i]) for i in keep] + [place(x[i], below[i]) for i in keep[::-1]]
        parts.append(f'<polygon points="{" ".join(ring)}" fill="{fill}" fill-opacity="0.45"/>')
        below = above
    for values, dash in zip(lines.values(), ("", "5 3", "2 3"), strict=False):
        points = [place(a, b) for a, b in zip(x, values, strict=True) if math.isfinite(b)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="currentColor" stroke-width="1.5" '
            f'stroke-dasharray="{dash}"/>'
        )
    for share in (0.0, 0.5, 1.0):
        value = low + (high - low) * share
        parts.append(text(left - 4, top + (height - bottom - top) * (1 - share) + 4, f"{value:.3g}", anchor="end"))
    parts.append(text(width - 4, height - 4, f"{last:,.0f} images seen", anchor="end"))
    said = []
    marks = [(name, values, fill) for (name, values), fill in zip(stacked.items(), fills, strict=False)]
    marks += [(name, values, "") for name, values in lines.items()]
    for i, (name, values, fill) in enumerate(marks):
        known = [v for v in values if math.isfinite(v)]
        words = f"{name} {known[-1]:.1f}" if known else name
        said.append(words)
        at_x, at_y = left + (i % 2) * (width - left) / 2, 14 + 16 * (i // 2)
        if fill:
            parts.append(
                f'<rect x="{at_x:.0f}" y="{at_y - 9:.0f}" width="16" height="9" fill="{fill}" fill-opacity="0.45"/>'
            )
        else:
            dash = ("", "5 3", "2 3")[i - len(stacked)]
            parts.append(
                f'<path d="M{at_x:.0f} {at_y - 4:.0f}h16" stroke="currentColor" stroke-width="1.5" '
                f'stroke-dasharray="{dash}"/>'
            )
        parts.append(text(at_x + 21, at_y, words))
    return drawing(width, height, "nats per image: " + ", ".join(said), parts)
