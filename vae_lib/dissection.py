"""``dissect``: the posterior of one image, and what a Gaussian in its place costs."""

from __future__ import annotations

import base64
import math
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np

from vae_lib import figures, marginal, svg
from vae_lib.arrays import as_images
from vae_lib.backend import tf
from vae_lib.errors import UserError
from vae_lib.losses import gaussian_kl
from vae_lib.model import VAE, check_model
from vae_lib.sliders import forget_oldest

ORDER = 16  # of the quadrature along each dimension
CELLS = 81  # along a side of the posterior's picture
SIDE = 320  # of it, in pixels on the screen
WIDE = 620  # the bars
MASS = 1e-4  # of the posterior may lie outside of the picture
LARGEST = 50.0  # mean or log variance that can be set
MOST_ALIVE = 8  # of a kernel


class Terms(NamedTuple):
    """What a Gaussian costs, in nats: nll + kl = log_px_loss + gap, where log_px_loss is -log p(x)."""

    nll: float
    kl: float
    log_px_loss: float

    @property
    def elbo(self) -> float:
        """-nll - kl."""
        return -self.nll - self.kl

    @property
    def gap(self) -> float:
        """log p(x) - ELBO, which is KL(q || p(z | x))."""
        return self.nll + self.kl - self.log_px_loss


class Window(NamedTuple):
    """A square of the plane: its lower left corner, its side, and p(z | x) there, (CELLS, CELLS), upwards."""

    corner: np.ndarray
    side: float
    density: np.ndarray


class Dissection(widgets.VBox):
    """The true posterior of an image over the plane, and a Gaussian to be moved over it; `dissect` makes one.

    ``gaussian`` is its mean and its log variances, two arrays (2,), which can be set. ``terms`` are the `Terms` of it.
    """

    def __init__(self, model: VAE, image: np.ndarray) -> None:
        self.model = model
        self.x = model.prepare_arrays(image)
        nodes, self._weights = marginal.hermite(ORDER)
        self._nodes = tf.constant(nodes)
        self._steps = tf.function(self._ascend)
        self.log_px_loss = -float(marginal.exact_log_px(model, self.x).log_px[0])
        codes = model.encode_arrays(image)
        self.encoders = codes.z_mean[0].astype(float), codes.z_log_var[0].astype(float)
        self._best: tuple[np.ndarray, np.ndarray] | None = None
        self.window = self._find_window()
        self._held = False
        self._make_controls()
        super().__init__(
            [
                widgets.HBox(self.buttons, layout=widgets.Layout(flex_flow="row wrap")),
                widgets.HBox(
                    [self.picture, widgets.VBox([*self.sliders, self.decoded])],
                    layout=widgets.Layout(flex_flow="row wrap"),
                ),
                self.bars,
            ]
        )
        self.gaussian = self.encoders
        forget_oldest(self, MOST_ALIVE)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The widget, and what it shows now for whoever reads without a kernel."""
        shown = "".join([self.picture.value, self.decoded.value, "<br>", self.bars.value])
        return super()._repr_mimebundle_(**options) | {"text/html": shown}

    def __repr__(self) -> str:
        return f"Dissection(log p(x) {-self.log_px_loss:.2f}, ELBO {self.terms.elbo:.2f} nats)"

    # ---- the numbers -----------------------------------------------------------------------------------------

    def _costs(self, mean: tf.Tensor, log_var: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """nll and KL to the prior of one Gaussian, by quadrature."""
        z = mean + tf.exp(0.5 * log_var) * self._nodes
        nll = self.model.nll(tf.repeat(tf.constant(self.x), len(self._nodes), axis=0), self.model.decode_logits(z))
        return tf.reduce_sum(nll * self._weights), gaussian_kl(mean[None], log_var[None])[0]

    def _ascend(self, mean: tf.Tensor, log_var: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A step up the ELBO, as long as it leads upwards, with means in units of their standard deviations."""
        with tf.GradientTape() as tape:
            tape.watch([mean, log_var])
            loss = tf.add_n(self._costs(mean, log_var))
        d_mean, d_log_var = tape.gradient(loss, [mean, log_var])
        best, ends = loss, (mean, log_var)
        for rate in (0.5, 0.25, 0.1, 0.03, 0.01):  # the first of them that is an improvement
            other = mean - rate * tf.exp(log_var) * d_mean, log_var - rate * tf.clip_by_value(d_log_var, -2.0, 2.0)
            reached = tf.add_n(self._costs(*other))
            better = tf.logical_and(best >= loss, reached < loss)
            ends = tuple(tf.where(better, new, old) for new, old in zip(other, ends, strict=True))
            best = tf.where(better, reached, best)
        return ends

    def _find_window(self) -> Window:
        """The smallest square around the posterior's mass and the encoder's Gaussian."""
        for reach in (4.5, 9.0, 16.0):
            axis = np.linspace(-reach, reach, 121)
            plane = np.stack(np.meshgrid(axis, axis), axis=-1)
            joint = marginal.log_joint(self.model, self.x, plane.reshape(-1, 2))[0]
            mass = np.exp(joint - marginal.log_sum_exp(joint)).reshape(len(axis), -1)
            if mass[1:-1, 1:-1].sum() > 1 - MASS:
                break
        mean, width = self.encoders[0], np.exp(0.5 * self.encoders[1])
        low, high = mean - 3 * width, mean + 3 * width
        for i, along in enumerate((mass.sum(axis=0), mass.sum(axis=1))):
            inside = axis[along > MASS]
            low[i], high[i] = min(low[i], inside[0] - 0.1), max(high[i], inside[-1] + 0.1)
        side = float((high - low).max())
        corner = (low + high - side) / 2
        steps = (np.arange(CELLS) + 0.5) * side / CELLS
        cells = corner + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        joint = marginal.log_joint(self.model, self.x, cells)[0] + self.log_px_loss
        return Window(corner, side, np.exp(joint).reshape(CELLS, CELLS))

    # ---- controls --------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        low, high = self.window.corner, self.window.corner + self.window.side
        widest = math.log10(self.window.side)
        style, layout = {"description_width": "8em"}, widgets.Layout(width="24em")
        self.means = [
            widgets.FloatSlider(
                float(np.clip(0.0, low[i], high[i])), min=round(low[i], 3), max=round(high[i], 3), step=0.005,
                description=f"mean of z_{i + 1}", readout_format=".3f", style=style, layout=layout,
            )
            for i in range(2)
        ]  # fmt: skip
        self.widths = [
            widgets.FloatLogSlider(
                10 ** (widest - 1), base=10, min=-3, max=widest, step=0.01, description=f"sigma of z_{i + 1}",
                readout_format=".3f", style=style, layout=layout,
            )
            for i in range(2)
        ]  # fmt: skip
        self.sliders = [*self.means, *self.widths]
        for slider in self.sliders:
            slider.observe(self._moved, "value")
        named = {
            "the encoder's": lambda: self.encoders,
            "the best Gaussian": self.best,
            "one gradient step": self._one_step,
        }
        self.buttons = []
        for words, make in named.items():
            button = widgets.Button(description=words, layout=widgets.Layout(width="auto"))
            button.on_click(lambda _, make=make: setattr(self, "gaussian", make()))
            self.buttons.append(button)
        self.picture = widgets.HTML(layout=widgets.Layout(margin="0 12px 0 0"))
        self.bars = widgets.HTML()
        self.decoded = widgets.HTML()

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """The Gaussian that costs the least, found once."""
        if self._best is None:
            found = marginal.best_gaussian(self.model, self.x).posterior
            self._best = found.z_mean[0].astype(float), found.z_log_var[0].astype(float)
        return self._best

    def _one_step(self) -> tuple[np.ndarray, np.ndarray]:
        mean, log_var = self._steps(*(tf.constant(part, tf.float32) for part in self.gaussian))
        return mean.numpy().astype(float), log_var.numpy().astype(float)

    @property
    def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log variances, two arrays (2,)."""
        return self._mean.copy(), self._log_var.copy()

    @gaussian.setter
    def gaussian(self, mean_and_log_var: tuple[np.ndarray, np.ndarray]) -> None:
        try:
            mean, log_var = (np.asarray(part, float) for part in mean_and_log_var)
            both = np.stack([mean, log_var])
        except (TypeError, ValueError):
            both = np.empty(0)
        if both.shape != (2, 2) or not (np.abs(both) < LARGEST).all():
            raise UserError(
                f"a Gaussian is given by its mean and its log variances: two arrays of shape (2,) below {LARGEST:.0f}."
            )
        self._mean, self._log_var = mean, log_var
        self._held = True  # show once, however many sliders move
        try:
            for slider, value in zip(self.sliders, [*mean, *np.exp(0.5 * log_var)], strict=True):
                least, most = (slider.min, slider.max) if slider in self.means else (10**slider.min, 10**slider.max)
                slider.value = float(np.clip(value, least, most))
        finally:
            self._held = False
        self._show()

    def _moved(self, _: object) -> None:
        if not self._held:
            self._mean = np.array([slider.value for slider in self.means])
            self._log_var = 2 * np.log([slider.value for slider in self.widths])
            self._show()

    # ---- what is shown ---------------------------------------------------------------------------------------

    def _show(self) -> None:
        mean, log_var = (tf.constant(part, tf.float32) for part in (self._mean, self._log_var))
        nll, kl = (float(value) for value in self._costs(mean, log_var))
        self.terms = Terms(nll, kl, self.log_px_loss)
        self.picture.value = self._drawn()
        self.bars.value = bars(self.terms)
        middle = figures.to_bytes(self.model.decode_arrays(self._mean[None].astype(np.float32)))[0]
        pair = figures.tile(np.stack([figures.to_bytes(self.x)[0], middle]), 2)
        self.decoded.value = _image(pair, 2 * 112, 112, "the image, and what the mean decodes to")

    def _drawn(self) -> str:
        window, scale = self.window, SIDE / self.window.side
        shade = np.sqrt(
            window.density[::-1] / max(window.density.max(), 1e-300)
        )  # upwards, and small densities to be seen, too
        encoded = base64.b64encode(
            figures.encoded((255 * (1 - 0.85 * shade)).astype(np.uint8)[..., None], ".png")
        ).decode()
        x, y = (self._mean - window.corner) * scale
        rings = [
            f'<ellipse cx="{x:.1f}" cy="{SIDE - y:.1f}" rx="{k * w[0]:.1f}" ry="{k * w[1]:.1f}" fill="none" '
            f'stroke="{svg.ORANGE}" stroke-width="2"/>'
            for w in [scale * np.exp(0.5 * self._log_var)]
            for k in (1, 2)
        ]
        low, high = window.corner, window.corner + window.side
        parts = [
            f'<image href="data:image/png;base64,{encoded}" width="{SIDE}" height="{SIDE}"/>',
            f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="{svg.GREY}"/>',
            *rings,
            f'<circle cx="{x:.1f}" cy="{SIDE - y:.1f}" r="3" fill="{svg.ORANGE}"/>',
            svg.text(2, SIDE + 14, f"z_1 from {low[0]:.2f}"),
            svg.text(SIDE, SIDE + 14, f"to {high[0]:.2f}", anchor="end"),
            svg.text(2, SIDE + 30, f"z_2 from {low[1]:.2f} to {high[1]:.2f}, upwards"),
        ]
        label = "the true posterior of the image in grey, and the Gaussian's rings of one and two standard deviations"
        return svg.drawing(SIDE, SIDE + 36, label, parts)


def bars(terms: Terms) -> str:
    """Two bars of the same length: nll and KL(q || p(z)) above, -log p(x) and KL(q || p(z | x)) below."""
    total = max(terms.nll + terms.kl, 1e-9)
    rows = (
        (("nll", terms.nll, svg.BLUE), ("KL(q || p(z))", terms.kl, svg.ORANGE)),
        (("-log p(x)", terms.log_px_loss, svg.GREY), ("KL(q || p(z | x))", max(terms.gap, 0.0), svg.GREEN)),
    )
    parts = [svg.text(0, 14, f"-ELBO {total:.2f} nats, in two ways", colour="currentColor")]
    for i, row in enumerate(rows):
        start, top = 0.0, 24 + 48 * i
        for name, value, fill in row:
            wide = WIDE * max(value, 0.0) / total
            parts.append(f'<rect x="{start:.1f}" y="{top}" width="{wide:.1f}" height="20" fill="{fill}"/>')
            anchor = "start" if start == 0 else "end"
            parts.append(svg.text(0 if start == 0 else WIDE, top + 35, f"{name} {value:.2f}", anchor=anchor))
            start += wide
    said = ", ".join(f"{name} {value:.2f}" for row in rows for name, value, _ in row)
    return svg.drawing(WIDE, 112, f"-ELBO {total:.2f}: {said}", parts)


def _image(picture: np.ndarray, width: int, height: int, alt: str) -> str:
    encoded = base64.b64encode(figures.encoded(picture, ".png")).decode()
    style = "image-rendering:pixelated"
    return f'<img alt="{alt}" width="{width}" height="{height}" style="{style}" src="data:image/png;base64,{encoded}">'


def dissect(vae: VAE, image: np.ndarray) -> Dissection:
    """The true posterior of an image over the plane, and a Gaussian to lay over it, for a notebook cell to show.

    ``image`` is (H, W, C), bytes or floats in [0, 1]. Sliders move the Gaussian's mean and widths; bars show what it
    costs, and that the two ways to divide it always add up: nll + KL(q || p(z)) = -log p(x) + KL(q || p(z | x)).
    Buttons go to the encoder's Gaussian, to the best one, and one gradient step up. For two latent dimensions. Raises
    `UserError`.

        >>> from vae_lib import dissect, load_data, load_run
        >>> found = dissect(load_run("mnist_2").model, load_data("mnist", source="sample").test_images[0])
        >>> found.terms.gap > 0
        True
        >>> found.close()
    """
    dimensions = check_model(vae).config.latent_dim
    if dimensions != 2:
        raise UserError(f"a posterior is drawn over 2 latent dimensions; this model has {dimensions}.")
    if not all(np.isfinite(weight.numpy()).all() for weight in vae.weights):
        raise UserError("the model has weights that are not finite: there is nothing to see.")
    one = isinstance(image, np.ndarray) and image.ndim == len(vae.config.image_shape)
    images = as_images(image[None] if one else image, vae.config.image_shape)
    if len(images) != 1:
        raise UserError(f"dissect takes one image, not {len(images):,}.")
    return Dissection(vae, images)
