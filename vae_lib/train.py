"""A training run from start to end: epochs, validation, checkpoints, interruption and resumption."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vae_lib import checkpoints, evaluation, limits, runs
from vae_lib.backend import keras, tf
from vae_lib.checkpoints import State
from vae_lib.config import DATASETS, Fault, UserError, VAEConfig, WorkerLost
from vae_lib.data import ImageData
from vae_lib.folders import locked
from vae_lib.model import VAE
from vae_lib.runs import Row
from vae_lib.trainer import Trainer
from vae_lib.trust import Encodings

VALIDATION_SHARE = 10  # with early stopping, one training image in ten is kept for validation
Report = Callable[[int, int, int, float], None]  # epoch, steps done, steps in all, running mean of nll + kl
AfterEpoch = Callable[[Row], None]


class Interrupted(KeyboardInterrupt):
    """Training was interrupted and saved; ``folder`` can be resumed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


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


@contextlib.contextmanager
def _deferred_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a question that the loop asks between two graphs.

    An exception at an arbitrary moment could fall between the steps and the count of them. A second signal
    interrupts at once. Outside of the main thread nothing is changed.
    """
    asked: list[int] = []

    def handle(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_run(
    config: VAEConfig,
    data: ImageData,
    out: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    command: str = "",
    **options: Any,
) -> Path:
    """Train a new model and save it as a run with its numbers; returns the run's folder.

    The place is reserved before training, so what cannot be saved is not trained. ``options`` are `fit`'s
    ``report``, ``after_epoch`` and ``strategy``. Raises `UserError`, and `Interrupted` after a signal.
    """
    config = config.replace(data_source=data.source, channels=data.train_images.shape[-1])
    if config.data not in DATASETS:
        config = config.replace(data=str(Path(config.data).resolve()))  # resumed, perhaps, from another folder
    limits.check(config, len(data.train_images))
    if is_chief(options.get("strategy")):
        partial = runs.start_run(config, out, overwrite=overwrite)
    else:  # the chief writes; this worker only needs to know where
        partial = runs.partial_path(config, out)
    state = State(command=command)
    if not is_chief(options.get("strategy")):
        return _complete(partial, config, data, state, options)
    with locked(partial):
        with _saved_as_far_as_possible(partial):
            checkpoints.save(partial, state)  # a run that is killed early still knows its command
        return _complete(partial, config, data, state, options)


def resume_run(folder: Path, data: ImageData, **options: Any) -> Path:
    """Go on with an unfinished run from its newest checkpoint, or from the start where it has none.

    The result is the same, bit for bit, as that of a run that was never interrupted. Raises as `train_run`.
    """
    config, _ = runs.read_config(folder)
    if config.data_source != data.source:
        raise UserError(f"the run was trained on {config.data_source} images, but now {data.source} ones were found.")
    with locked(folder) if is_chief(options.get("strategy")) else contextlib.nullcontext():
        state = checkpoints.load(folder) or State()
        return _complete(folder, config, data, state, options)


@contextlib.contextmanager
def _saved_as_far_as_possible(partial: Path) -> Iterator[None]:
    """Turn a failure of the disk into a sentence that says how to go on."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise Fault(
            f"cannot write to {partial} ({reason}); when that is mended, "
            f"go on from the last checkpoint with: train_VAE.py --resume {runs.display_name(partial)}"
        ) from None


def _complete(partial: Path, config: VAEConfig, data: ImageData, state: State, options: dict[str, Any]) -> Path:
    strategy = options.get("strategy")
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = VAE(config)
    save = (lambda s: checkpoints.save(partial, s)) if is_chief(strategy) else None
    try:
        with _saved_as_far_as_possible(partial), _deferred_signals() as stopping:
            history = fit(model, data, state=state, save=save, stopping=stopping, **options)
            interrupted = stopping()
    except tf.errors.OpError as error:
        if getattr(strategy, "cluster_resolver", None) is None:
            raise
        raise WorkerLost(
            f"another worker is gone ({type(error).__name__}), so this one stops too; "
            f"start all workers again with: python3 train_VAE.py --resume {runs.display_name(partial)}"
        ) from None
    if interrupted:
        raise Interrupted(partial)
    if not is_chief(strategy):
        return runs.final_path(partial)
    codes = model.encode_arrays(data.test_images, seed=evaluation.EVALUATION_SEED)
    encodings = Encodings(*codes, data.test_labels)
    metrics = evaluation.describe(model, data) | {"made_by": provenance(state.command, state.seconds)}
    with _saved_as_far_as_possible(partial):
        return runs.finish_run(partial, model, history, metrics, encodings)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process writes the files: the first of several workers, or the only one."""
    resolver = getattr(strategy, "cluster_resolver", None)
    return resolver is None or not resolver.task_id


def provenance(command: str, seconds: float) -> dict[str, Any]:
    """How a run was made: the command that started it, the versions and the time of training in seconds."""
    return {
        "command": command,
        "training_seconds": round(seconds, 1),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
