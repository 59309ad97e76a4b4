"""Sliders for Jupyter over the latent space of a model. Decoding and PNG together take a few milliseconds."""

from __future__ import annotations

from collections import deque
from statistics import NormalDist
from typing import Any

import ipywidgets as widgets
import numpy as np

from vae_lib import figures, latent, pictures, svg
from vae_lib.arrays import as_codes, as_images
from vae_lib.backend import tf
from vae_lib.data.loading import ImageData, as_image_data
from vae_lib.errors import UserError
from vae_lib.evaluation import kl_per_dimension
from vae_lib.model import VAE, Encodings, check_encodings, check_model

TAIL = 0.005  # of the prior's probability beyond each end of a slider
TILES = 20  # along a side of the map of a two-dimensional run
SIDE = 280  # of the decoded image and of the map, in pixels on the screen
MOST_ALIVE = 20  # explorers of a kernel that react; the oldest one then stops
_ALIVE: dict[type, deque[widgets.Widget]] = {}


def png(image: np.ndarray) -> bytes:
    """An image (H, W, C) in [0, 1] or uint8 as PNG, in its own size: the browser enlarges it."""
    return figures.encoded(image, ".png", compress_level=1)


class Explorer(widgets.VBox):
    """A slider for each latent dimension, largest KL first, and the image that they decode to.

    ``z`` is the code (D,); setting it moves all sliders and decodes once. A slider reaches as far as the encoded
    images do; a code that lies beyond it is kept and decoded as it is. ``images``, uint8 (N, H, W, C) in the order
    of the encodings, are shown beside the decoded one when a test image is started from.
    """

    def __init__(self, model: VAE, images: np.ndarray | None = None, encodings: Encodings | None = None) -> None:
        if encodings is not None:
            encodings = check_encodings(encodings, check_model(model).config.latent_dim)
        if images is not None:
            images = as_images(images, model.config.image_shape)
            if encodings is not None and len(encodings.z_mean) != len(images):
                raise UserError(
                    f"the {len(images):,} images are not those of the {len(encodings.z_mean):,} encodings: leave the "
                    "encodings out, and the images are encoded here."
                )
        self.model, self.images, self.encodings = model, images, encodings
        self._decode = model.decode_graph()
        self._rng = np.random.default_rng(model.config.seed)
        self._held = False
        dim = model.config.latent_dim
        codes = encodings
        kl = np.zeros(dim) if codes is None else kl_per_dimension(codes.z_mean, codes.z_log_var)
        self.order = np.argsort(-kl, kind="stable")
        ends = np.full(dim, NormalDist().inv_cdf(1 - TAIL))
        if codes is not None:
            ends = np.maximum(ends, np.abs(codes.z_mean).max(axis=0))
        ends = np.round(ends + 0.005, 2)
        self._z = np.zeros(dim, np.float32)
        self.sliders = [
            widgets.FloatSlider(
                value=0.0, min=-ends[i], max=ends[i], step=0.01, description=f"z_{i + 1}", readout_format=".2f",
                tooltip=f"dimension {i + 1}, {kl[i]:.2f} nats", continuous_update=True,
                layout=widgets.Layout(width=f"{1.5 * SIDE:.0f}px"),
            )
            for i in self.order
        ]  # fmt: skip
        for slider in self.sliders:
            slider.observe(self._moved, "value")
        size = widgets.Layout(width=f"{SIDE}px", height=f"{SIDE}px")
        self.image = widgets.Image(format="png", layout=size)  # its view in the browser cannot have a tooltip
        self.reset = widgets.Button(description="Reset", tooltip="all sliders to 0")
        self.random = widgets.Button(description="Random draw", tooltip="a code drawn from the prior")
        self.reset.on_click(lambda _: self._set(np.zeros(dim)))
        self.random.on_click(lambda _: self._set(self._rng.standard_normal(dim)))
        controls: list[widgets.Widget] = [*self.sliders, widgets.HBox([self.reset, self.random])]
        if codes is not None:
            self.index = widgets.BoundedIntText(0, 0, len(codes.z_mean) - 1, description="test image")
            self.start = widgets.Button(description="Start from it", tooltip="move the sliders to its code")
            self.start.on_click(lambda _: self._start())
            controls.append(widgets.HBox([self.index, self.start]))
        self.original = widgets.Image(format="png", layout=widgets.Layout(display="none"))
        shown: list[widgets.Widget] = [self.image, self.original]
        if dim == 2:
            self.map = PlaneMap(SIDE, TILES, png(pictures.manifold(model, latent.axis_values(TILES))))
            shown.append(self.map)
        super().__init__([widgets.HBox(shown), widgets.VBox(controls)])
        self._update()
        forget_oldest(self, MOST_ALIVE)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The sliders, and what is decoded now for whoever reads without a kernel."""
        shown = [("decoded at the code of the sliders", self.image.value)]
        if len(self._z) == 2:
            shown.append(("the latent plane", self.map.picture))
        return super()._repr_mimebundle_(**options) | {"text/html": svg.still_pictures(shown, SIDE)}

    def __repr__(self) -> str:
        return f"Explorer({len(self.order)} latent dimensions)"

    @property
    def z(self) -> np.ndarray:
        """The code that is decoded, (D,)."""
        return self._z.copy()

    @z.setter
    def z(self, code: np.ndarray) -> None:
        self._set(as_codes(np.asarray(code)[None], len(self._z), what="a code")[0])

    def _set(self, code: np.ndarray) -> None:
        self._z = np.array(code, np.float32)
        self._held = True  # decode once, however many sliders move
        try:
            for slider, value in zip(self.sliders, self._z[self.order], strict=True):
                slider.value = float(np.clip(value, slider.min, slider.max))
        finally:
            self._held = False
        self._update()

    def _moved(self, change: Any) -> None:
        if not self._held:
            self._z[self.order[self.sliders.index(change.owner)]] = change.new
            self._update()

    def _start(self) -> None:
        codes = self.encodings
        assert codes is not None, "the button exists only with encodings"
        self._set(codes.z_mean[self.index.value])
        if self.images is not None:
            self.original.value = png(self.images[self.index.value])
            self.original.layout = widgets.Layout(width=f"{SIDE}px", height=f"{SIDE}px")

    def _update(self) -> None:
        z = self.z
        self.image.value = png(self._decode(tf.constant(z[None]))[0].numpy())
        if len(z) == 2:
            self.map.move(*z)


class PlaneMap(widgets.GridBox):
    """A picture of the plane, ``side`` pixels wide, with a ring at one of its points; only the ring moves.

    The picture has ``tiles`` along a side, whose middles lie at equal steps of the prior's probability.
    """

    def __init__(self, side: int, tiles: int, picture: bytes = b"") -> None:
        self._side, self._tiles = side, tiles
        same = {"grid_area": "1 / 1 / 2 / 2"}
        size = {"width": f"{side}px", "height": f"{side}px"}
        self._plane = widgets.Image(value=picture, format="png", layout=widgets.Layout(**size, **same))
        ring = '<div style="width:12px;height:12px;border:2px solid #e53935;border-radius:50%"></div>'
        self._ring = widgets.HTML(ring, layout=widgets.Layout(width="16px", height="16px", **same))
        super().__init__([self._plane, self._ring], layout=widgets.Layout(margin="0 0 0 12px", **size))

    @property
    def picture(self) -> bytes:
        """The picture as PNG, which can be replaced."""
        return bytes(self._plane.value)

    @picture.setter
    def picture(self, png: bytes) -> None:
        self._plane.value = png

    def move(self, z_1: float, z_2: float) -> None:
        """The ring to a point, or to the edge nearest to it."""
        low, high = latent.DEFAULT_QUANTILES
        shares = (NormalDist().cdf(float(value)) for value in (z_1, z_2))
        steps = (min(max((share - low) / (high - low), 0.0), 1.0) * (self._tiles - 1) for share in shares)
        x, y = ((step + 0.5) * self._side / self._tiles for step in steps)
        self._ring.layout.margin = f"{self._side - y - 8:.0f}px 0 0 {x - 8:.0f}px"


def forget_oldest(new: widgets.Widget, most: int) -> None:
    """Close the oldest widgets of a kind, which ipywidgets would keep for as long as the kernel lives."""
    alive = _ALIVE.setdefault(type(new), deque())
    alive.append(new)
    while len(alive) > most:
        oldest = alive.popleft()
        oldest.close()
        left: list[widgets.Widget] = [oldest]
        while left:
            widget = left.pop()
            left += [*getattr(widget, "children", ())]
            for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
                if part is not None:
                    part.close()


def explore(model: VAE, data: ImageData | np.ndarray | None = None, *, encodings: Encodings | None = None) -> Explorer:
    """Sliders over a model's latent space with the decoded image, for a notebook cell to show.

    ``data``, an `ImageData` whose test images are taken or images (N, H, W, C), gives images to start from, and
    ``encodings`` their codes where they are known already. A kernel keeps the last 20 alive. Raises `UserError`.

        >>> from vae_lib import VAE, explore
        >>> explore(VAE(latent_dim=3, num_filters=4))
        Explorer(3 latent dimensions)
    """
    check_model(model)
    if isinstance(data, ImageData):
        data = as_image_data(data, model.config.image_shape)
    images = data.test_images if isinstance(data, ImageData) else data
    if images is not None and encodings is None:
        codes = model.encode_arrays(images)
        labels = data.test_labels if isinstance(data, ImageData) else np.zeros(len(codes.z_mean), np.int64)
        encodings = Encodings(*codes, labels)
    return Explorer(model, images, encodings)
