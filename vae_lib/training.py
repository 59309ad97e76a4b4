"""Training from the first epoch to the last: validation, early stopping, and where a training stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_lib import evaluation
from vae_lib.backend import keras, tf
from vae_lib.config import TrainingConfig
from vae_lib.data.loading import ImageData
from vae_lib.errors import UserError
from vae_lib.model import VAE
from vae_lib.trainer import Row, Trainer

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
    callbacks: Sequence[keras.callbacks.Callback] = (),
    strategy: tf.distribute.Strategy | None = None,
    **settings: Any,
) -> list[Row]:
    """Train ``vae`` on images; returns the history, one row an epoch in nats per image.

    ``data`` is an `ImageData`, or uint8 images (N, H, W, C) alone. ``settings`` are the other fields of
    `TrainingConfig`; without a ``seed`` the model's is used. A second call goes on: it starts a new optimizer and a
    new schedule, and neither noise nor order of the first are repeated. ``callbacks`` are Keras' own. Their batches are
    chunks of steps, and their logs hold ``loss``, ``nll``, ``kl`` and, for an `ImageData`, the same with ``val_``
    of the validation images that ``patience`` sets aside, or else of the test images. Raises `UserError`.

        >>> from vae_lib import VAE, load_data, train
        >>> digits = load_data("mnist", source="sample").train_images[:200]
        >>> history = train(VAE(latent_dim=2, num_filters=4), digits, epochs=1)
        >>> sorted(history[0])
        ['epoch', 'train_elbo', 'train_kl', 'train_nll']
    """
    try:
        config = TrainingConfig(epochs=epochs, **({"seed": vae.config.seed} | settings))
    except TypeError as error:
        raise UserError(f"train takes no such setting: {str(error).partition('() ')[2]}.") from None
    if isinstance(data, np.ndarray):
        none = np.zeros([0, *data.shape[1:]], data.dtype)
        data = ImageData(data, np.zeros(len(data), np.int64), none, np.zeros(0, np.int64), (), "array")
    told = _Callbacks(callbacks, vae, config)
    with told:
        return run_epochs(
            vae, data, config, report=told.report, after_epoch=told.after_epoch, stopping=told.stopping,
            strategy=strategy,
        )  # fmt: skip


class _Callbacks:
    """Keras callbacks, told of chunks of steps and of epochs."""

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback], vae: VAE, config: TrainingConfig) -> None:
        vae.stop_training = False
        self._vae, self._epoch, self._any = vae, -1, bool(callbacks)
        self._list = keras.callbacks.CallbackList(list(callbacks), model=vae, epochs=config.epochs, verbose=0)

    def __enter__(self) -> None:
        self._list.on_train_begin()

    def __exit__(self, *_: object) -> None:
        self._list.on_train_end()

    def report(self, epoch: int, done: int, _steps: int, loss: float) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._list.on_epoch_begin(epoch)
        self._list.on_train_batch_begin(done - 1)
        self._list.on_train_batch_end(done - 1, {"loss": loss})

    def after_epoch(self, row: Row) -> None:
        logs = {name: row[f"train_{name}"] for name in ("nll", "kl")} | {"loss": -row["train_elbo"]}
        part = next((part for part in ("validation", "test") if f"{part}_elbo" in row), None)
        if part is not None:
            logs |= {f"val_{name}": row[f"{part}_{name}"] for name in ("nll", "kl") if f"{part}_{name}" in row}
            logs["val_loss"] = -row[f"{part}_elbo"]
        self._list.on_epoch_end(int(row["epoch"]) - 1, logs)

    def stopping(self) -> bool:
        return bool(self._vae.stop_training)


def run_epochs(
    model: VAE,
    data: ImageData,
    config: TrainingConfig,
    *,
    report: Report | None = None,
    after_epoch: AfterEpoch | None = None,
    strategy: tf.distribute.Strategy | None = None,
    state: State | None = None,
    save: Callable[[State], object] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[Row]:
    """Train ``model`` through the epochs of ``config``; returns the history, one row an epoch in nats per image.

    ``report`` is called after each chunk of steps, ``after_epoch`` with each row. ``state`` is where to go on from;
    ``save`` is called with the state at every checkpoint, and once more when ``stopping`` says so, which also ends
    the training. With ``patience`` the model ends with the weights of its best validation epoch.
    """
    rows, held_out = split_validation(len(data.train_images), config)
    trainer = Trainer(model, data.train_images, config, rows=rows, strategy=strategy)
    validation = data.train_images[held_out] if len(held_out) else None
    state = state or State()
    if state.n_images not in (0, len(rows)):
        raise UserError(f"the run was trained on {state.n_images} images, but there are {len(rows)} now.")
    state.n_images = len(rows)
    if state.variables:
        _assign(trainer.variables(), state.variables)

    clock = time.perf_counter()

    def checkpoint() -> None:
        nonlocal clock
        state.seconds, clock = state.seconds + time.perf_counter() - clock, time.perf_counter()
        if save is not None:
            state.variables = [v.numpy() for v in trainer.variables()]
            save(state)

    while len(state.history) < config.epochs and not _out_of_patience(state, config):
        epoch = len(state.history)
        for losses, due in trainer.epoch_losses(epoch, state.losses, pause_every=config.checkpoint_every):
            state.losses = losses
            if report is not None:
                running = float(state.losses.sum(axis=1, dtype=np.float64).mean())
                report(epoch, len(state.losses), trainer.steps_per_epoch, running)
            stop = stopping()  # asked once: a signal must not fall between saving and leaving
            if stop or (due and len(state.losses) < trainer.steps_per_epoch):
                checkpoint()
            if stop:
                return _counted(model, state, trainer)
        row = {"epoch": float(epoch + 1), **trainer.epoch_row(state.losses)}
        if validation is not None:
            row["validation_elbo"] = evaluation.evaluate_elbo(model, validation)["elbo"]
            if row["validation_elbo"] > max([r["validation_elbo"] for r in state.history], default=-np.inf):
                state.best_epoch, state.best = epoch + 1, [v.numpy() for v in model.trainable_variables]
        if len(data.test_images):
            test = evaluation.evaluate_elbo(model, data.test_images)
            row |= {f"test_{name}": test[name] for name in ("nll", "kl", "elbo")}
        state.history, state.losses = [*state.history, row], np.empty([0, 2], np.float32)
        checkpoint()
        if after_epoch is not None:
            after_epoch(row)
        if stopping():
            break
    if state.best:
        _assign([v.value for v in model.trainable_variables], state.best)
    return _counted(model, state, trainer)


def _counted(model: VAE, state: State, trainer: Trainer) -> list[Row]:
    """Note on the model how far it has been trained; returns the history."""
    model.epochs_trained = trainer.first_epoch + len(state.history) + bool(len(state.losses))
    steps = len(state.history) * trainer.steps_per_epoch + len(state.losses)
    model.steps_trained = trainer.first_step + steps
    return state.history


def split_validation(n_images: int, config: TrainingConfig) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the images to learn from and, with ``patience``, of a tenth for validation, chosen by the seed."""
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
