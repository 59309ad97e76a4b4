"""``watch``: a model, while it learns, in a notebook."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np

from vae_lib import figures, latent, marginal, pictures, svg
from vae_lib.config import TrainingConfig
from vae_lib.data.loading import ImageData, as_image_data
from vae_lib.errors import UserError
from vae_lib.evaluation import kl_per_dimension
from vae_lib.model import VAE, Encodings, check_model
from vae_lib.recording import Frame
from vae_lib.session import Session
from vae_lib.sliders import PlaneMap, forget_oldest, png

TILES = 15  # along a side of the plane
WATCHED = 100  # held-out images that are encoded and measured
RESTORED = 6  # of them, shown beside their reconstructions
SIDE = 300  # of the plane and of the map of codes, in pixels on the screen
MOST_FRAMES = 48  # that are kept; then every second one goes, and new ones are kept half as often
MOST_POINTS = 400  # of a curve, likewise
LOG_PX_SHARE = 20  # log p(x) takes at most one part in so many of the time
ASK_SECONDS = 2.5
MISSED_SECONDS = 10.0  # without a sign of the browser: nobody is looking
MOST_ALIVE = 4  # of a kernel
NO_BETA = 1e-3  # where the slider ends, which stands for 0


class Point(NamedTuple):
    """The numbers of a moment, in nats per image; the last three are of held-out images, log_px where it was taken."""

    images: int
    train_nll: float
    train_kl: float
    nll: float
    kl: float
    log_px: float


class Look(NamedTuple):
    """What is seen of a model: its plane, the codes (N, 2) of the watched images, their numbers, reconstructions."""

    plane: np.ndarray
    z_mean: np.ndarray
    z_log_var: np.ndarray
    nll: float
    kl: float
    restored: np.ndarray


class Watched:
    """A copy of a model that can be set to any moment of its training, and the images that it is looked at with."""

    def __init__(self, model: VAE, images: np.ndarray, labels: np.ndarray) -> None:
        self.model = VAE.from_config(model.get_config())
        self.model.set_inference(model.config.inference)
        self.images, self.labels = images, labels
        self.x = self.model.prepare_arrays(images)

    def set(self, weights: list[np.ndarray]) -> None:
        """Go to the moment that these weights are of."""
        for variable, value in zip(self.model.weights, weights, strict=True):
            variable.assign(value)

    def look(self) -> Look:
        """What is to be seen now."""
        codes = self.model.encode_arrays(self.images)
        encodings = Encodings(*codes, self.labels)
        order = np.argsort(-kl_per_dimension(*codes), kind="stable")[:2]
        axes = np.sort(order) if len(order) == 2 else [0, 0]
        elbo = self.model.elbo_arrays(self.images)
        values = latent.axis_values(TILES)
        return Look(
            pictures.manifold(self.model, values, encodings=encodings), codes.z_mean[:, axes],
            codes.z_log_var[:, axes], float(elbo.nll.mean()), float(elbo.kl.mean()),
            pictures.reconstructions(self.model, self.images[:RESTORED], columns=RESTORED),
        )  # fmt: skip

    def log_px(self) -> float:
        """The mean log p(x) of the watched images, summed over a grid as fine as their posteriors are wide."""
        width = float(np.exp(0.5 * np.percentile(self.model.encode_arrays(self.images).z_log_var, 10)))
        spacing = min(max(0.8 * width, 0.05), 0.25)
        axis = np.arange(-4.0, 4.0 + spacing, spacing)
        plane = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        joint = marginal.log_joint(self.model, self.x, plane)
        return float(marginal.log_sum_exp(joint).mean()) + 2 * math.log(spacing)

    def decode(self, point: np.ndarray) -> np.ndarray:
        """The image (H, W, C) at a point (2,) of the plane."""
        return self.model.decode_arrays(pictures.on_plane(self.model, point[None]))[0]


class Live(widgets.VBox):
    """A training to watch and to interfere with; `watch` makes one.

    ``session`` is the training itself. ``frames`` are the moments that are kept, and ``points`` the numbers of its
    curves.
    """

    def __init__(self, model: VAE, data: ImageData, config: TrainingConfig) -> None:
        held_out = data.test_images if len(data.test_images) else data.train_images
        labels = data.test_labels if len(data.test_images) else data.train_labels
        chosen = pictures.spread_indices(labels, WATCHED)
        self._watched = Watched(model, held_out[chosen], labels[chosen])
        self._names = data.label_names or [str(i) for i in range(int(labels.max(initial=0)) + 1)]
        recorded: list[Frame] = model.recording.frames if model.recording is not None else []
        self._before = recorded[:-1]  # the last one is the present
        self._points_before = [self._point(frame) for frame in self._before]
        self.frames: list[Frame] = list(self._before)
        self.points: list[Point] = list(self._points_before)
        self._spacing = 0
        self._next_log_px = 0.0
        self._lock = threading.RLock()  # the copy of the model is used by two threads
        self._following = True  # the present, or else `_at`, the moment that the reader has gone to
        self._at: Frame | None = None
        self._mover = 0  # the thread that moves the slider of time itself
        self._closed = False
        self._heard = 0.0  # when the browser last gave a sign; 0: never
        self._unseen = False  # paused because it has not
        self._handle: Any = None
        begun = recorded[-1][:2] if recorded else (0, 0)
        self.session = Session(model, data, config, self._on_frame, self._on_stop, begun)
        self._make_controls()
        super().__init__(self._layout_of_all())
        self._on_frame(self.session.frame())
        forget_oldest(self, MOST_ALIVE)

    # ---- what it consists of ---------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        session, config = self.session, self.session.config
        button, wide = widgets.Layout(width="auto"), widgets.Layout(width="26em")
        style = {"description_width": "9em"}

        def make(words: str, tip: str, act: Callable[[], object]) -> widgets.Button:
            made = widgets.Button(description=words, tooltip=tip, layout=button)
            made.on_click(lambda _: act())
            return made

        self.play = make("Play", "train, or pause", self._toggle)
        self.one_step = make("One step", "a single gradient step", lambda: self._go(steps=1))
        self.one_epoch = make("One epoch", "to the end of the epoch", lambda: self._go(epochs=1))
        self.again = make("Start again", "from the first weights, with the same random numbers", self._start_again)
        self.slow = widgets.ToggleButton(description="Slow motion", layout=button, tooltip="a step, and a rest")
        self.beta = widgets.FloatLogSlider(
            max(session.beta, NO_BETA), base=10, min=math.log10(NO_BETA), max=_reach(session.beta, 3), step=0.05,
            description="beta", layout=wide, style=style, tooltip="the weight of the KL term; at the left end 0",
        )  # fmt: skip
        self.learning_rate = widgets.FloatLogSlider(
            session.learning_rate, base=10, min=-7, max=_reach(session.learning_rate, -1), step=0.05,
            description="learning rate", layout=wide, style=style, readout_format=".1e",
        )  # fmt: skip
        sizes = sorted({10, 25, 50, 100, 200, config.batch_size})
        self.batch_size = widgets.Dropdown(
            options=sizes, value=config.batch_size, description="batch size", layout=wide, style=style
        )
        counts = sorted({1, 5, 20, config.importance_samples})
        self.samples = widgets.Dropdown(
            options=counts, value=config.importance_samples, description="latent samples", layout=wide, style=style
        )
        self.beta.disabled = config.importance_samples > 1 or config.objective == "marginal"
        self.samples.disabled = config.objective == "marginal"
        self.time = widgets.IntSlider(
            0, 0, 0, description="time", layout=widgets.Layout(width="30em"), readout=False,
        )  # fmt: skip
        self.moment = widgets.HTML()
        self.speed = widgets.HTML()
        self.message = widgets.HTML()
        self.plane = PlaneMap(SIDE, TILES)
        self.codes = widgets.HTML(layout=widgets.Layout(margin="0 0 0 12px"))
        self.curves = widgets.HTML()
        self.restored = widgets.Image(format="png", layout=widgets.Layout(width=f"{2 * SIDE}px", object_fit="contain"))
        end = round(NormalDist().inv_cdf(latent.DEFAULT_QUANTILES[1]), 2)
        self.point = [
            widgets.FloatSlider(0.0, min=-end, max=end, step=0.02, description=f"point, {name}", style=style)
            for name in ("right", "up")
        ]
        self.decoded = widgets.Image(format="png", layout=widgets.Layout(width="112px", height="112px"))
        self._pulse = widgets.Play(0, min=0, max=10**9, interval=1000)
        self._pulse.layout.display = "none"
        self._pulse.observe(self._hear, "value")
        self.slow.observe(lambda change: setattr(session, "slow", change.new), "value")
        self.beta.observe(lambda change: setattr(session, "beta", change.new if change.new > NO_BETA else 0.0), "value")
        self.learning_rate.observe(lambda change: setattr(session, "learning_rate", change.new), "value")
        self.batch_size.observe(lambda change: session.change(batch_size=change.new), "value")
        self.samples.observe(self._set_samples, "value")
        self.time.observe(self._travel, "value")
        for slider in self.point:
            slider.observe(lambda _: self._show_point(), "value")

    def _layout_of_all(self) -> list[widgets.Widget]:
        wrap = widgets.Layout(flex_flow="row wrap", align_items="center")
        return [
            widgets.HBox([self.play, self.one_step, self.one_epoch, self.again, self.slow, self.speed], layout=wrap),
            widgets.HBox([self.beta, self.learning_rate, self.batch_size, self.samples], layout=wrap),
            self.message,
            widgets.HBox([self.plane, self.codes, self.curves], layout=widgets.Layout(flex_flow="row wrap")),
            widgets.HBox([self.time, self.moment], layout=wrap),
            widgets.HBox([widgets.VBox(self.point), self.decoded, self.restored], layout=wrap),
            self._pulse,
        ]

    def __repr__(self) -> str:
        return f"Live({self.session.images:,} images seen)"

    # ---- controls --------------------------------------------------------------------------------------------

    def _toggle(self) -> None:
        if self.session.playing and not self.session.leaving:
            self._unseen = False
            self.session.leave()  # it comes to rest by itself, and a click is answered at once
            self.play.description, self.speed.value = "Play", ""
        else:
            self._go()

    def _go(self, **until: int) -> None:
        if self.session.leaving:
            self.session.wait()
        if not self.session.playing and not self._closed:
            self._unseen = False
            self.message.value = ""
            self.play.description = "Pause"
            self._heard = time.monotonic() if self._heard else 0.0
            self.session.play(**until)

    def _start_again(self) -> None:
        playing = self.session.playing and not self.session.leaving
        self.session.restart()
        with self._lock:
            self.frames[:] = self._before
            self.points[:] = self._points_before
            self._spacing = 0
            self._next_log_px = 0.0
            self._following, self._at = True, None
        self._on_frame(self.session.frame())
        if playing:
            self._go()

    def _set_samples(self, change: Any) -> None:
        self.beta.disabled = change.new > 1
        self.session.change(importance_samples=change.new)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the training has come to rest, at most ``timeout`` seconds; returns whether it has."""
        return self.session.wait(timeout)

    def close(self) -> None:
        """End the training and take the widgets away."""
        self._closed = True
        self.session.pause()
        super().close()

    def _hear(self, _: object) -> None:
        self._heard = time.monotonic()
        if self._unseen:
            self._go()

    # ---- what is shown ---------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        """A new moment: kept and, unless the reader looks at an earlier one, measured and shown."""
        with self._lock:
            self._keep(frame)
            if self._following:
                self._watched.set(frame.weights)
                self._look(frame)
            self._move_time()
        self.speed.value = f"{self.session.speed:,.0f} images a second" if self.session.playing else ""
        self._look_for_the_browser()

    def _look(self, frame: Frame) -> None:
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                look = self._watched.look()
                self._measure(frame, look)
                self._show(look)
        except UserError:  # codes that are not finite
            self.message.value = "<b>The numbers are too large to be drawn: lower the learning rate.</b>"

    def _look_for_the_browser(self) -> None:
        """A page that shows the cell counts the seconds of a hidden `Play`, which begins when ``playing`` changes."""
        silence = time.monotonic() - self._heard
        if silence > ASK_SECONDS:
            self._pulse.playing = False
            self._pulse.playing = True
        if self._heard and silence > MISSED_SECONDS and self.session.playing:
            self._unseen = True
            self.session.leave()

    def _on_stop(self) -> None:
        self.play.description = "Play"
        self.speed.value = "paused: nobody was looking" if self._unseen else ""
        self.message.value = f"<b>{self.session.message}</b>" if self.session.message else ""
        if self._handle is not None and not self._heard:  # no browser: leave a picture of what has happened
            self._handle.update(self._in_all_forms(), raw=True)

    def _keep(self, frame: Frame) -> None:
        frames = self.frames
        if len(frames) > 1 and frames[-1] is not self._at and frames[-1].images - frames[-2].images < self._spacing:
            frames.pop()  # it was only the present
        frames.append(frame)
        if len(frames) > MOST_FRAMES:
            frames[:] = [old for i, old in enumerate(frames[:-1]) if i % 2 == 0 or old is self._at] + [frame]
            self._spacing = max(b.images - a.images for a, b in itertools.pairwise(frames))

    def _point(self, frame: Frame) -> Point:
        """The numbers of a moment that was recorded, but for log p(x)."""
        self._watched.set(frame.weights)
        elbo = self._watched.model.elbo_arrays(self._watched.images)
        return Point(frame.images, frame.nll, frame.kl, float(elbo.nll.mean()), float(elbo.kl.mean()), math.nan)

    def _measure(self, frame: Frame, look: Look) -> None:
        log_px, now = math.nan, time.perf_counter()
        if self._watched.model.config.latent_dim == 2 and now >= self._next_log_px:
            log_px = self._watched.log_px()
            spent = time.perf_counter() - now
            self._next_log_px = now + max(LOG_PX_SHARE * spent, 1.0)
        self.points.append(Point(frame.images, frame.nll, frame.kl, look.nll, look.kl, log_px))
        if len(self.points) > MOST_POINTS:
            self.points[:] = [*self.points[:-1:2], self.points[-1]]

    def _show(self, look: Look) -> None:
        self.plane.picture = png(look.plane)
        self.restored.value = png(figures.enlarge(look.restored, 2))
        self.codes.value = svg.codes(look.z_mean, look.z_log_var, self._watched.labels, self._names, side=SIDE)
        points = self.points
        self.curves.value = svg.curves(
            [point.images for point in points],
            {
                "training nll": [point.train_nll for point in points],
                "training KL": [point.train_kl for point in points],
            },
            {
                "held-out -ELBO": [point.nll + point.kl for point in points],
                "held-out -log p(x)": [-point.log_px for point in points],
            },
            width=int(1.3 * SIDE),
            height=SIDE,
        )
        self._show_point()

    def _show_point(self) -> None:
        with self._lock:
            point = np.array([slider.value for slider in self.point])
            self.plane.move(*point)
            self.decoded.value = png(self._watched.decode(point))

    def _move_time(self) -> None:
        """The slider to the moment that is shown, among those that are kept now."""
        last = len(self.frames) - 1
        at = next((i for i, frame in enumerate(self.frames) if frame is self._at), last)
        self._mover = threading.get_ident()
        try:
            self.time.max = last
            self.time.value = at
        finally:
            self._mover = 0
        frame = self.frames[at]
        when = "now" if self._following else "then"
        self.moment.value = f"{when}: {frame.step:,} steps, {frame.images:,} images seen"

    def _travel(self, change: Any) -> None:
        """The reader goes to another moment; the last one is the present."""
        if self._mover == threading.get_ident():
            return
        with self._lock:
            frame = self.frames[min(change.new, len(self.frames) - 1)]
            self._following = frame is self.frames[-1]
            self._at = None if self._following else frame
            self._watched.set(frame.weights)
            with np.errstate(over="ignore", invalid="ignore"), contextlib.suppress(UserError):  # as in _look
                self._show(self._watched.look())
            self._move_time()

    # ---- without a browser -----------------------------------------------------------------------------------

    def strip(self, count: int = 6) -> np.ndarray:
        """The plane at ``count`` of the kept moments, side by side, from the first to the last: (H, W, C) uint8."""
        with self._lock:
            chosen = sorted({round(i) for i in np.linspace(0, len(self.frames) - 1, count)})
            planes = []
            for i in chosen:
                self._watched.set(self.frames[i].weights)
                plane = pictures.manifold(self._watched.model, latent.axis_values(TILES))
                planes.append(np.pad(plane, ((0, 0), (0, 4), (0, 0)), constant_values=255))
            self._watched.set((self._at or self.frames[-1]).weights)
        return figures.tile(np.stack(planes), len(planes))

    def _in_all_forms(self) -> dict[str, Any]:
        bundle = dict(self._repr_mimebundle_())
        words = f"the plane after {self.frames[0].images:,} to {self.frames[-1].images:,} images"
        if self.points:
            words += f"; held-out -ELBO {self.points[-1].nll + self.points[-1].kl:.1f} nats an image"
        bundle["text/html"] = f"{svg.still_pictures([(words, png(self.strip()))])}<br>{words}"
        return bundle

    def _ipython_display_(self) -> None:
        from IPython.display import DisplayHandle

        handle: Any = DisplayHandle
        self._handle = handle()
        self._handle.display(dict(self._repr_mimebundle_()), raw=True)


def _reach(value: float, usual: float) -> float:
    """The power of 10 at the end of a slider that must hold a value."""
    return max(usual, math.log10(value)) if value > 0 else usual


def watch(vae: VAE, data: ImageData | np.ndarray, *, play: bool = True, **settings: Any) -> Live:
    """Train ``vae`` in the background, in view: for the last line of a notebook's cell.

    Several times a second the cell shows the decoded plane, the codes of held-out images, nll and KL of the training
    images, -ELBO and, for two latent dimensions, -log p(x) of held-out ones, and reconstructions. Weight of the KL
    term, learning rate, batch size and latent samples can be changed while it runs; the slider below the plane goes
    back in time. The training stops when it is paused, when the page has been closed, and once after ``epochs``
    (100); the model is then one that `train` can go on with. After ``train(..., record=True)`` one can go back through
    that training too. ``settings`` are the fields of `TrainingConfig`, but for
    schedules, early stopping and `match_prior`; ``play=False`` waits for the button. Raises `UserError`.

        >>> from vae_lib import VAE, load_data, watch
        >>> live = watch(VAE(latent_dim=2, num_filters=4), load_data("mnist", source="sample"), epochs=1)
        >>> live.wait()
        True
        >>> live
        Live(4,000 images seen)
        >>> live.close()
    """
    check_model(vae)
    data = as_image_data(data, vae.config.image_shape)
    epochs = settings.pop("epochs", 100)
    for name in ("schedule", "beta_start", "patience", "match_prior", "checkpoint_every"):
        if name in settings:
            raise UserError(f"watch takes no {name}: rates stay as they are set, and it has no end to prepare.")
    try:
        config = TrainingConfig(epochs=epochs, **({"seed": vae.config.seed} | settings))
    except TypeError as error:
        raise UserError(f"watch takes no such setting: {str(error).partition('() ')[2]}.") from None
    live = Live(vae, data, config)
    if play:
        live._go(epochs=epochs)
    return live
