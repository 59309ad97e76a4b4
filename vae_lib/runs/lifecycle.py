"""A training run from start to end: epochs, validation, checkpoints, interruption and resumption."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from vae_lib import evaluation
from vae_lib.backend import CORES, SHARDS, keras, tf
from vae_lib.config import RunConfig
from vae_lib.data.loading import ImageData, fingerprint
from vae_lib.errors import Fault, UserError, WorkerLost
from vae_lib.model import VAE, Encodings
from vae_lib.runs import checkpoints, limits, places, store
from vae_lib.runs.folders import locked
from vae_lib.runs.planes import Planes, read_planes
from vae_lib.trainer import Row, check_replicas
from vae_lib.training import AfterEpoch, Report, State, prepare_training, run_epochs


class Interrupted(KeyboardInterrupt):
    """Training was interrupted and saved; ``folder`` can be resumed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


@contextlib.contextmanager
def _deferred_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a question that the loop asks between two graphs.

    An exception at an arbitrary moment could fall between the steps and the count of them. A second signal
    interrupts at once, as SIGINT would have without this. Outside of the main thread nothing is changed.
    """
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if asked:
            if callable(usual := before.get(signal.SIGINT)):
                usual(signal.SIGINT, frame)
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_run(
    config: RunConfig,
    data: ImageData,
    out: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    record: bool = False,
    command: str = "",
    report: Report | None = None,
    after_epoch: AfterEpoch | None = None,
    tensorboard: str | os.PathLike[str] | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> Path:
    """Train a new model and save it as a run with its numbers; returns the run's folder.

    The place is reserved before training, so what cannot be saved is not trained. ``record`` keeps pictures of the
    plane at some fifty moments of the training, also of one that is resumed. ``tensorboard`` is a folder for what
    TensorBoard shows. ``report``, ``after_epoch`` and ``strategy`` are those of `run_epochs`. Raises `UserError`,
    `Fault` where the machine fails it, `WorkerLost` where another worker does, and `Interrupted` after a signal.
    """
    if not isinstance(config, RunConfig) or not isinstance(data, ImageData):
        found = f"{type(config).__name__} and {type(data).__name__}"
        raise UserError(f"a run is trained from a RunConfig and what load_data returns, not from {found}.")
    if not len(data.train_images) or not len(data.test_images):
        raise UserError("a run needs training and test images.")
    shape, inference = data.train_images.shape[1:], config.training.inference
    model = dataclasses.replace(config.model, image_shape=shape, inference=inference)
    config = RunConfig(model, config.training, store.described(data, config.data))
    limits.check(config, len(data.train_images))
    check_replicas(config.training.batch_size, strategy)
    _check_board(tensorboard, places.partial_path(config, out))
    state = State(command=command)
    if not is_chief(strategy):  # the chief writes; this worker only needs to know where
        return _complete(
            places.partial_path(config, out), config, data, state, report, after_epoch, tensorboard, strategy
        )
    partial = store.start_run(config, out, overwrite=overwrite)
    with locked(partial):
        with _saved_as_far_as_possible(partial):
            checkpoints.save(partial, state)  # a run that is killed early still knows its command
            if record:
                Planes([], []).save(partial)  # and that it is recorded
        return _complete(partial, config, data, state, report, after_epoch, tensorboard, strategy)


def resume_run(
    name_or_path: str | os.PathLike[str],
    data: ImageData,
    *,
    report: Report | None = None,
    after_epoch: AfterEpoch | None = None,
    tensorboard: str | os.PathLike[str] | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> Path:
    """Go on with an unfinished run from its newest checkpoint, or from the start where it has none.

    The result is the same, bit for bit, as that of a run that was never interrupted. Raises what
    `train_run` does.
    """
    folder = places.find_unfinished(name_or_path)
    config, _ = store.read_config(folder)
    store.check_free(folder)
    if config.data.fingerprint not in ("", fingerprint(data)):
        raise UserError(
            f"these are not the images that the run {places.display_name(folder)} began with "
            f"({config.data.name or 'images of your own'}): it can only go on with the same ones."
        )
    check_replicas(config.training.batch_size, strategy)
    _check_board(tensorboard, folder)
    with locked(folder) if is_chief(strategy) else contextlib.nullcontext():
        state = checkpoints.load(folder) or State()
        return _complete(folder, config, data, state, report, after_epoch, tensorboard, strategy)


def _check_board(folder: str | os.PathLike[str] | None, partial: Path) -> None:
    """Refuse a folder for TensorBoard that cannot be, or that would lie in the run's own, before anything is made."""
    if folder is None:
        return
    from vae_lib.tensorboard import board_folder

    path = board_folder(folder).resolve()
    own = [partial.resolve(), places.final_path(partial).resolve()]
    if any(path == one or one in path.parents for one in own):
        raise UserError(f"{folder} is the run's own folder: give TensorBoard another one.")


@contextlib.contextmanager
def _saved_as_far_as_possible(partial: Path) -> Iterator[None]:
    """Turn a failure of the disk into a sentence that says how to go on."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise Fault(
            f"cannot write to {partial} ({reason}); its last checkpoint is kept: resume the run "
            f"{places.display_name(partial)} once there is room."
        ) from None


def _complete(
    partial: Path,
    config: RunConfig,
    data: ImageData,
    state: State,
    report: Report | None,
    after_epoch: AfterEpoch | None,
    tensorboard: str | os.PathLike[str] | None,
    strategy: tf.distribute.Strategy | None,
) -> Path:
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = VAE.from_model_config(config.model)
    chief = is_chief(strategy)
    planes = read_planes(partial) if chief else None
    keep = None if planes is None else functools.partial(planes.keep, model)
    board = None
    if tensorboard is not None and chief:
        from vae_lib.tensorboard import Board

        board = Board(tensorboard, data.test_images)
        board.graph(model)

    def told(row: Row) -> None:
        if board is not None:
            board.row(model, row)
        if after_epoch is not None:
            after_epoch(row)

    def save(state: State) -> None:
        if planes is not None:
            planes.save(partial)
        checkpoints.save(partial, state)

    try:
        with _saved_as_far_as_possible(partial), _deferred_signals() as stopping:
            trainer, held_out = prepare_training(model, data, config.training, strategy)
            history = run_epochs(
                trainer, data, held_out, report=report, after_epoch=told, state=state,
                save=save if chief else None, stopping=stopping, keep=keep,
            )  # fmt: skip
            interrupted = stopping()
    except tf.errors.OpError as error:
        if getattr(strategy, "cluster_resolver", None) is None:
            raise
        raise WorkerLost(
            f"another worker is gone ({type(error).__name__}), so this one stops too: "
            f"resume the run {places.display_name(partial)} on every worker."
        ) from None
    if interrupted:
        raise Interrupted(partial)
    if not chief:
        return places.final_path(partial)
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused as the run is finished
            codes = model.encode_arrays(data.test_images)
            encodings = Encodings(*codes, data.test_labels)
            metrics = evaluation.describe(model, data, config.data.name)
        metrics["made_by"] = provenance(state.command, state.seconds)
        with _saved_as_far_as_possible(partial):
            return store.finish_run(partial, config, model, history, metrics, encodings)
    except KeyboardInterrupt:  # all epochs are in the checkpoint; only the numbers are missing
        raise Interrupted(partial) from None


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process writes the files: the first of several workers, or the only one."""
    resolver = getattr(strategy, "cluster_resolver", None)
    return resolver is None or not resolver.task_id


def provenance(command: str, seconds: float) -> dict[str, Any]:
    """How a run was made: the command that started it, the time of training in seconds, and on what.

    The last digits of a run depend on the number of cores and shards and on the versions.
    """
    return {
        "command": command,
        "training_seconds": round(seconds, 1),
        "cores": CORES,
        "shards": SHARDS,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
