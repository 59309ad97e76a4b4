"""Training from the first epoch to the last: validation, early stopping, and where a training stands."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_lib import evaluation
from vae_lib.arrays import select
from vae_lib.backend import keras, tf
from vae_lib.config import TrainingConfig
from vae_lib.data.loading import ImageData, as_image_data
from vae_lib.errors import UserError, notice
from vae_lib.model import VAE, check_model
from vae_lib.priors import match_prior
from vae_lib.recording import Keep, Recording, moment, moments
from vae_lib.trainer import Row, Trainer

LATELY = 50  # steps, at most, whose losses a recorded moment has
VALIDATION_SHARE = 10  # with early stopping, one training image in ten is kept for validation
Report = Callable[[int, int, int, float], None]  # epoch, steps done, steps in all, running mean of nll + kl
AfterEpoch = Callable[[Row], None]


@dataclass
class State:
    """Where a training run stands: finished epochs, the losses (steps, 2) of the running one, and arrays.

    ``variables`` are the weights and the optimizer's moments, ``best`` the weights of ``best_epoch`` (0: none).
    """

    n_images: int = 0  # that it learns from; 0: not known yet
    history: list[Row] = field(default_factory=list)
    losses: np.ndarray = field(default_factory=lambda: np.empty([0, 2], np.float32))
    variables: Sequence[np.ndarray] = ()
    best: Sequence[np.ndarray] = ()
    best_epoch: int = 0
    seconds: float = 0.0  # of training, in all processes so far
    command: str = ""  # what the run was started with


def train(
    vae: VAE,
    data: ImageData | np.ndarray,
    *,
    epochs: int = 5,
    callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] = (),
    verbose: bool | int = False,
    record: bool = False,
    strategy: tf.distribute.Strategy | None = None,
    **settings: Any,
) -> list[Row]:
    """Train ``vae`` on images; returns the history, one row an epoch in nats per image.

    ``data`` is an `ImageData`, or images (N, H, W, C) alone, bytes or floats in [0, 1]. ``settings`` are the other
    fields of `TrainingConfig`; without a ``seed`` the model's is used. A second call goes on: it starts a new optimizer
    and a new schedule, and neither noise nor order of the first are repeated. A copy of a model, or one that was saved
    and loaded, does not know of earlier calls: give it another ``seed``. ``verbose`` prints a line an epoch.
    ``record`` keeps the weights of some fifty moments, through which `watch` can go back.

    ``callbacks`` are Keras' own. Their batches are chunks of steps, and their logs hold ``loss``, ``nll``, ``kl`` and
    the same with ``val_`` of the validation images that ``patience`` sets aside, or else of an `ImageData`'s test
    images. Setting ``model.optimizer.learning_rate`` ends the schedule. Ctrl-C stops after the running chunk of steps,
    with the model as it is then. Raises `UserError`.

        >>> from vae_lib import VAE, load_data, train
        >>> digits = load_data("mnist", source="sample").train_images[::20]  # it is sorted by label
        >>> history = train(VAE(latent_dim=2, num_filters=4), digits, epochs=1)
        >>> sorted(history[0])
        ['epoch', 'train_elbo', 'train_kl', 'train_nll']
    """
    check_model(vae)
    callbacks = list(callbacks or ()) if isinstance(callbacks, Sequence | None) else [callbacks]
    if not all(isinstance(callback, keras.callbacks.Callback) for callback in callbacks):
        raise UserError("callbacks must be keras.callbacks.Callback objects: one, or a list of them.")
    try:
        config = TrainingConfig(epochs=epochs, **({"seed": vae.config.seed} | settings))
    except TypeError as error:
        raise UserError(f"train takes no such setting: {str(error).partition('() ')[2]}.") from None
    if config.checkpoint_every:
        raise UserError("train keeps no checkpoints, so it takes no checkpoint_every: use train_run.")
    data = as_image_data(data, vae.config.image_shape)
    if vae.config.binarize != "none" and vae.config.image_shape[-1] > 1:
        notice("each colour is cut to two levels: a VAE with likelihood='discretized_logistic' keeps all of them.")
    trainer, held_out = prepare_training(vae, data, config, strategy)
    vae.recording = Recording() if record else None
    keep = functools.partial(vae.recording.keep, vae) if record else None
    with _Told(callbacks, trainer, verbose=bool(verbose)) as told:
        return run_epochs(
            trainer, data, held_out, before_epoch=told.before_epoch, report=told.report, after_epoch=told.after_epoch,
            stopping=told.stopping, keep=keep,
        )  # fmt: skip


class _Optimizer:
    """What a callback finds as ``model.optimizer`` while `train` runs: a learning rate to read and to set."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self.step = trainer, 0

    @property
    def learning_rate(self) -> tf.Tensor:
        return self._trainer.learning_rate(tf.constant(self.step))

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        if not (math.isfinite(rate) and rate >= 0):
            raise UserError(f"a learning rate must be a finite number from 0, not {rate}.")
        self._trainer.rate_set.assign(rate)


class _Told:
    """Keras callbacks, told of epochs and of chunks of steps, and a line an epoch where wanted."""

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback], trainer: Trainer, *, verbose: bool) -> None:
        self._model, self._verbose, self._epochs = trainer.model, verbose, trainer.config.epochs
        self._steps, self._optimizer, self._before = trainer.steps_per_epoch, _Optimizer(trainer), None
        self._list = keras.callbacks.CallbackList(
            list(callbacks), model=trainer.model, epochs=self._epochs, steps=self._steps, verbose=0
        )

    def __enter__(self) -> _Told:
        self._model.stop_training = False
        self._before, self._model.optimizer = self._model.optimizer, self._optimizer
        try:
            self._list.on_train_begin()
        except BaseException:
            self._model.optimizer = self._before
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            with contextlib.suppress(*([] if kind is None else [Exception])):  # the first error is the one to show
                self._list.on_train_end()
        finally:
            self._model.optimizer = self._before

    def before_epoch(self, epoch: int) -> None:
        self._optimizer.step = epoch * self._steps
        self._list.on_epoch_begin(epoch)

    def report(self, epoch: int, done: int, _steps: int, loss: float) -> None:
        self._optimizer.step = epoch * self._steps + done
        self._list.on_train_batch_begin(done - 1)
        self._list.on_train_batch_end(done - 1, {"loss": loss})

    def after_epoch(self, row: Row) -> None:
        logs = {name: row[f"train_{name}"] for name in ("nll", "kl")} | {"loss": -row["train_elbo"]}
        part = next((part for part in ("validation", "test") if f"{part}_elbo" in row), None)
        if part is not None:
            logs |= {f"val_{name}": row[f"{part}_{name}"] for name in ("nll", "kl")}
            logs["val_loss"] = -row[f"{part}_elbo"]
        if self._verbose:
            print(f"epoch {row['epoch']:.0f}/{self._epochs}: " + in_words(row), flush=True)
        self._list.on_epoch_end(int(row["epoch"]) - 1, logs)

    def stopping(self) -> bool:
        return bool(self._model.stop_training)


def in_words(row: Row) -> str:
    """An epoch's numbers as text."""
    part = "test" if "test_elbo" in row else "train"
    text = f"{part} ELBO {row[f'{part}_elbo']:.2f} nats = "
    text += f"-({row[f'{part}_nll']:.2f} reconstruction + {row[f'{part}_kl']:.2f} KL)"
    return text if part == "train" else f"{text}; train {row['train_elbo']:.2f}"


def prepare_training(
    model: VAE, data: ImageData, config: TrainingConfig, strategy: tf.distribute.Strategy | None = None
) -> tuple[Trainer, np.ndarray]:
    """A `Trainer` for the training images of ``data``, and the rows of those that are kept for validation."""
    rows, held_out = split_validation(len(data.train_images), config)
    return Trainer(model, data.train_images, config, rows=rows, strategy=strategy), held_out


def run_epochs(
    trainer: Trainer,
    data: ImageData,
    held_out: np.ndarray,
    *,
    before_epoch: Callable[[int], object] | None = None,
    report: Report | None = None,
    after_epoch: AfterEpoch | None = None,
    state: State | None = None,
    save: Callable[[State], object] | None = None,
    stopping: Callable[[], bool] = lambda: False,
    keep: Keep | None = None,
) -> list[Row]:
    """Train through the epochs of a trainer's config; returns the history, one row an epoch in nats per image.

    ``held_out`` are the rows of the validation images. ``before_epoch`` is called with the number of each epoch, from
    0, ``report`` after each chunk of steps, ``after_epoch`` with each row. ``state`` is where to go on from; ``save``
    is called with the state at every checkpoint, and once more when ``stopping`` says so, which also ends the
    training. ``keep`` is called at each of the training's `moments`, with the mean losses of the last steps. With
    ``patience`` the model ends with the weights of its best validation epoch.
    Raises `UserError`.
    """
    model, config, n_images = trainer.model, trainer.config, len(trainer.rows)
    validation = select(data.train_images, held_out) if len(held_out) else None
    state = state or State()
    if state.n_images not in (0, n_images):
        raise UserError(f"the run was trained on {state.n_images} images, but there are {n_images} now.")
    state.n_images = n_images
    if state.variables:
        _assign(trainer.variables(), state.variables)

    clock = time.perf_counter()

    def checkpoint() -> None:
        nonlocal clock
        state.seconds, clock = state.seconds + time.perf_counter() - clock, time.perf_counter()
        if save is not None:
            state.variables = [v.numpy() for v in trainer.variables()]
            save(state)

    def finish() -> None:
        if state.best:
            _assign([weight.value for weight in model.weights], state.best)
        if config.match_prior:
            match_prior(model, select(data.train_images, trainer.rows))

    stops = set(moments(trainer.total_steps)) if keep is not None else set()

    def look(epoch: int) -> None:
        """Keep the moment after the steps that this epoch has behind it, if it is one to keep."""
        done = len(state.losses)
        step, images = epoch * trainer.steps_per_epoch + done, min(done * config.batch_size, n_images)
        if keep is not None and step in stops:
            keep(moment(step, epoch * n_images + images, state.losses[-LATELY:]))

    begun = len(state.history) + bool(len(state.losses))
    try:
        while len(state.history) < config.epochs and not _out_of_patience(state, config):
            epoch = len(state.history)
            begun = epoch + 1
            if before_epoch is not None and not len(state.losses):
                before_epoch(epoch)
            if not epoch and not len(state.losses):
                look(0)
            for losses, due in trainer.epoch_losses(
                epoch, state.losses, pause_every=config.checkpoint_every, pause_after=sorted(stops)
            ):
                state.losses = losses
                look(epoch)
                if report is not None:
                    running = float(state.losses.sum(axis=1, dtype=np.float64).mean())
                    report(epoch, len(state.losses), trainer.steps_per_epoch, running)
                stop = stopping()  # asked once: a signal must not fall between saving and leaving
                if stop or (due and len(state.losses) < trainer.steps_per_epoch):
                    checkpoint()
                if stop:
                    if save is None:  # nobody goes on from here
                        finish()
                    return state.history
            row = {"epoch": float(epoch + 1), **trainer.epoch_row(state.losses)}
            if validation is not None:
                row |= _measured(model, "validation", validation)
                if row["validation_elbo"] > max([r["validation_elbo"] for r in state.history], default=-np.inf):
                    state.best_epoch, state.best = epoch + 1, [w.numpy() for w in model.weights]
            if len(data.test_images):
                row |= _measured(model, "test", data.test_images)
            state.history, state.losses = [*state.history, row], np.empty([0, 2], np.float32)
            checkpoint()
            if after_epoch is not None:
                after_epoch(row)
            if stopping():
                break
        if save is None or len(state.history) >= config.epochs or _out_of_patience(state, config):
            finish()
        return state.history
    finally:  # however it ends, the next training repeats neither order nor noise
        model.epochs_trained = trainer.first_epoch + begun
        model.steps_trained = trainer.first_step + begun * trainer.steps_per_epoch
        model.training_record = (config, tuple(state.history))


def _measured(model: VAE, part: str, images: np.ndarray) -> Row:
    numbers = evaluation.evaluate_elbo(model, images)
    return {f"{part}_{name}": numbers[name] for name in ("nll", "kl", "elbo")}


def split_validation(n_images: int, config: TrainingConfig) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the images to learn from and, with ``patience``, of a tenth for validation, chosen by the seed.

    Raises `UserError`.
    """
    if not config.patience:
        return np.arange(n_images), np.zeros(0, np.int64)
    order = np.random.default_rng([config.seed, 2**31]).permutation(n_images)
    n = max(1, n_images // VALIDATION_SHARE)
    if n >= n_images:
        raise UserError("early stopping needs at least 2 training images.")
    return np.sort(order[n:]), np.sort(order[:n])


def _out_of_patience(state: State, config: TrainingConfig) -> bool:
    return bool(config.patience) and len(state.history) - state.best_epoch >= config.patience


def _assign(variables: list[tf.Variable], values: Any) -> None:
    if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
        raise UserError("the checkpoint belongs to another architecture.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
