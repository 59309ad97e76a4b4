"""A training in the background that can be looked at, interfered with and started again; `live` shows it."""

from __future__ import annotations

import dataclasses
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vae_lib import recording
from vae_lib.config import TrainingConfig
from vae_lib.data.loading import ImageData
from vae_lib.errors import UserError
from vae_lib.model import VAE
from vae_lib.recording import Frame
from vae_lib.trainer import Trainer

CHUNK_SECONDS = 0.06  # how long a control waits at most
LOOK_SECONDS = 0.17  # between two frames
SLOW_SECONDS = 0.4  # between two steps in slow motion


class Session:
    """The training of a model on images, in a thread that exists only while it plays.

    ``on_frame`` is called with a `Frame` up to five times a second, in a thread of its own: a slow one misses frames
    and does not hold up the training. ``on_stop`` is called, in the training's thread, when it has come to rest. The
    learning rate stays as it is set, and so does the weight of the KL term. From one seed the same controls at the
    same steps give the same weights. ``begun`` are the steps and the images that counting starts from.

        >>> from vae_lib import VAE, load_data
        >>> session = Session(VAE(latent_dim=2, num_filters=4), load_data("mnist", source="sample"), TrainingConfig())
        >>> session.play(steps=3)
        >>> session.wait()
        True
        >>> session.step, session.images
        (3, 150)
    """

    def __init__(
        self,
        model: VAE,
        data: ImageData,
        config: TrainingConfig,
        on_frame: Callable[[Frame], object] = lambda frame: None,
        on_stop: Callable[[], object] = lambda: None,
        begun: tuple[int, int] = (0, 0),
    ) -> None:
        self.model, self.data, self.on_frame, self.on_stop = model, data, on_frame, on_stop
        self._beta, self._rate = config.beta, config.learning_rate
        self._wanted = dataclasses.replace(config, schedule="constant", beta=1.0, beta_start=1.0)
        self._start = ([w.numpy() for w in model.weights], model.epochs_trained, model.steps_trained)
        self._begun = begun
        self.slow = False
        self.message = ""  # why the training ended by itself
        self._trainer = self._make_trainer()
        self._thread: threading.Thread | None = None
        self._leave = threading.Event()
        self._forget()

    def _make_trainer(self) -> Trainer:
        trainer = Trainer(self.model, self.data.train_images, self._wanted)
        trainer.rate_set.assign(self._rate)
        trainer.beta_set.assign(self._beta)
        return trainer

    def _forget(self) -> None:
        self.step, self.images = self._begun
        self.speed = 0.0  # images a second
        self._epoch = 0  # of the trainer
        self._losses = np.empty([0, 2], np.float32)  # of the running epoch
        self._new: list[np.ndarray] = []  # losses since the last frame
        self._chunks: Iterator[tuple[np.ndarray, bool]] | None = None

    # ---- controls --------------------------------------------------------------------------------------------

    @property
    def playing(self) -> bool:
        """Whether the training's thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def beta(self) -> float:
        """The weight of the KL term."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        TrainingConfig(beta=float(value))  # raises for what is none
        self._beta = float(value)
        self._trainer.beta_set.assign(self._beta)

    @property
    def learning_rate(self) -> float:
        """The step size of the optimizer."""
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        TrainingConfig(learning_rate=float(value))  # raises for what is none
        self._rate = float(value)
        self._trainer.rate_set.assign(self._rate)

    @property
    def config(self) -> TrainingConfig:
        """The settings of the next step, but for learning rate and KL weight."""
        return self._wanted

    def change(self, **settings: Any) -> None:
        """Another ``batch_size`` or ``importance_samples`` from the next chunk of steps on.

        A new epoch begins then, and with it a new order of the images; the optimizer keeps its moments.
        """
        self._wanted = dataclasses.replace(self._wanted, **settings)

    def play(self, *, steps: int | None = None, epochs: int | None = None) -> None:
        """Train until `pause`, for so many steps, or to the end of so many epochs."""
        if self.playing:
            return
        self.message = ""
        self._leave.clear()
        last_step = math.inf if steps is None else self.step + steps
        ends = math.inf if epochs is None else epochs
        self._thread = threading.Thread(target=self._work, args=(last_step, ends), name="vae-training", daemon=True)
        self._thread.start()

    @property
    def leaving(self) -> bool:
        """Whether the training has been asked to come to rest."""
        return self._leave.is_set()

    def leave(self) -> None:
        """Come to rest after the running chunk of steps."""
        self._leave.set()

    def pause(self) -> None:
        """Come to rest after the running chunk of steps, and wait for that."""
        self.leave()
        self.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the training has come to rest, at most ``timeout`` seconds; returns whether it has."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self.playing

    def restart(self) -> None:
        """Come to rest, and forget everything that has been learned since the session began."""
        self.pause()
        weights, self.model.epochs_trained, self.model.steps_trained = self._start
        self.model.set_weights(weights)
        self.message = ""
        if self._trainer.first_epoch != self.model.epochs_trained or self._trainer.config != self._wanted:
            self._trainer = self._make_trainer()
        for moment in self._trainer.optimizer.variables:
            moment.assign(np.zeros(moment.shape, np.float32))
        self._forget()

    # ---- the thread ------------------------------------------------------------------------------------------

    def _work(self, last_step: float, epochs: float) -> None:
        frames: queue.Queue[Frame | None] = queue.Queue(maxsize=1)
        viewer = threading.Thread(target=self._view, args=(frames,), name="vae-viewer", daemon=True)
        viewer.start()
        looked = seen = 0.0
        try:
            while not self._leave.is_set() and self.step < last_step and epochs:
                epochs -= self._train_chunk(one_step=self.slow or last_step < math.inf)
                now = time.perf_counter()
                if now - looked > LOOK_SECONDS and frames.empty():
                    self.speed = (self.images - seen) / (now - looked)
                    looked, seen = now, self.images
                    frames.put(self.frame())
                if self.slow:
                    self._leave.wait(SLOW_SECONDS)
        except UserError as error:  # a loss that is not finite
            self.message, self._chunks = str(error), None
        finally:
            self._settle()
            if self._new and not self.message:  # there is nothing to see of weights that are not finite
                frames.put(self.frame())
            frames.put(None)
            viewer.join()
            self.on_stop()

    def _view(self, frames: queue.Queue[Frame | None]) -> None:
        try:
            while (frame := frames.get()) is not None:
                self.on_frame(frame)
        except BaseException:
            self.leave()
            while frames.get() is not None:  # the training must not wait for a viewer that is gone
                pass
            raise

    def _train_chunk(self, one_step: bool) -> bool:
        """A step or a few more; whether an epoch ended with them."""
        if self._trainer.config != self._wanted:
            self._change_trainer()
        trainer, done = self._trainer, len(self._losses)
        if self._chunks is None or one_step:
            self._chunks = trainer.epoch_losses(
                self._epoch, self._losses, pause_every=int(one_step), chunk_seconds=CHUNK_SECONDS
            )
        self._losses, _ = next(self._chunks)
        if one_step:
            self._chunks = None
        steps, size, n = len(self._losses), trainer.config.batch_size, len(trainer.rows)
        self.step += steps - done
        self.images += min(steps * size, n) - min(done * size, n)
        self._new.append(self._losses[done:])
        if steps < trainer.steps_per_epoch:
            return False
        self._epoch, self._losses, self._chunks = self._epoch + 1, np.empty([0, 2], np.float32), None
        return True

    def _change_trainer(self) -> None:
        self._settle()
        moments = self._trainer.optimizer.variables
        self._trainer = self._make_trainer()
        for new, old in zip(self._trainer.optimizer.variables, moments, strict=True):
            new.assign(old)
        self._epoch, self._losses, self._chunks = 0, np.empty([0, 2], np.float32), None

    def _settle(self) -> None:
        """Leave a model whose next training repeats neither order nor noise."""
        begun = self._epoch + bool(len(self._losses))
        self.model.epochs_trained = self._trainer.first_epoch + begun
        self.model.steps_trained = self._trainer.first_step + begun * self._trainer.steps_per_epoch

    def frame(self) -> Frame:
        """The model as it is now."""
        new, self._new = self._new, []
        losses = np.concatenate(new) if new else np.empty([0, 2], np.float32)
        return recording.frame(self.model, recording.moment(self.step, self.images, losses))
