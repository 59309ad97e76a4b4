"""Training from the first epoch to the last: validation, early stopping, and where a training stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_lib import evaluation
from vae_lib.backend import tf
from vae_lib.config import VAEConfig
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


def fit(
    model: VAE,
    data: ImageData,
    *,
    report: Report | None = None,
    after_epoch: AfterEpoch | None = None,
    strategy: tf.distribute.Strategy | None = None,
    state: State | None = None,
    save: Callable[[State], object] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[Row]:
    """Train ``model`` for its config's epochs; returns the history, one row an epoch in nats per image.

    ``report`` hears of each chunk of steps, ``after_epoch`` of each row. ``state`` is where to go on from; ``save``
    is called with the state at every checkpoint, and once more when ``stopping`` says so, which also ends the
    training. With the config's ``patience`` the model ends with the weights of its best validation epoch.
    """
    config = model.config
    images, validation = split_validation(data.train_images, config)
    trainer = Trainer(model, images, strategy=strategy)
    state = state or State()
    if state.n_images not in (0, len(images)):
        raise UserError(f"the run was trained on {state.n_images} images, but there are {len(images)} now.")
    state.n_images = len(images)
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
                return state.history
        row = {"epoch": float(epoch + 1), **trainer.epoch_row(state.losses)}
        if validation is not None:
            row["validation_elbo"] = evaluation.evaluate_elbo(model, validation)["elbo"]
            if row["validation_elbo"] > max([r["validation_elbo"] for r in state.history], default=-np.inf):
                state.best_epoch, state.best = epoch + 1, [v.numpy() for v in model.trainable_variables]
        test = evaluation.evaluate_elbo(model, data.test_images)
        row |= {f"test_{name}": test[name] for name in ("nll", "kl", "elbo")}
        state.history, state.losses = [*state.history, row], np.empty([0, 2], np.float32)
        checkpoint()
        if after_epoch is not None:
            after_epoch(row)
    if state.best:
        _assign([v.value for v in model.trainable_variables], state.best)
    return state.history


def split_validation(images: np.ndarray, config: VAEConfig) -> tuple[np.ndarray, np.ndarray | None]:
    """The images to learn from and, with ``patience``, a tenth of them for validation, chosen by the seed."""
    if not config.patience:
        return images, None
    order = np.random.default_rng([config.seed, 2**31]).permutation(len(images))
    n = max(1, len(images) // VALIDATION_SHARE)
    if n >= len(images):
        raise UserError("early stopping needs at least 2 training images.")
    return images[np.sort(order[n:])], images[np.sort(order[:n])]


def _out_of_patience(state: State, config: VAEConfig) -> bool:
    return bool(config.patience) and len(state.history) - state.best_epoch >= config.patience


def _assign(variables: list[tf.Variable], values: Any) -> None:
    if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
        raise UserError("the checkpoint belongs to another architecture.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
