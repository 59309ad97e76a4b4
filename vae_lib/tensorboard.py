"""A training for TensorBoard to show: losses, the plane of decoded images, reconstructions and the graph.

TensorFlow itself writes the event files; the TensorBoard that shows them is a package of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_lib import pictures
from vae_lib.backend import keras, tf
from vae_lib.data.loading import ImageData
from vae_lib.errors import UserError, notice
from vae_lib.files import user_path
from vae_lib.latent import axis_values
from vae_lib.model import VAE
from vae_lib.trainer import Row

TILES = 20  # along a side of the plane
RESTORED = 20  # images beside their reconstructions


def board_folder(folder: str | os.PathLike[str]) -> Path:
    """The path of a folder for TensorBoard, which may be new. Raises `UserError` where there cannot be one."""
    path = user_path(folder, "TensorBoard's folder")
    place = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
    if not place.is_dir():
        raise UserError(f"{place} is a file, so {path} cannot be TensorBoard's folder.")
    if not os.access(place, os.W_OK):
        raise UserError(f"cannot write to {place}, so {path} cannot be TensorBoard's folder.")
    return path


class Board:
    """An event file in ``folder`` that grows with each epoch of a training.

    ``images`` (N, H, W, C), of which some are shown beside their reconstructions, are test images by habit. Raises
    `UserError` where the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], images: np.ndarray) -> None:
        path = board_folder(folder)
        self._images = np.asarray(images[:RESTORED])
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._writer = tf.summary.create_file_writer(str(path))
        except (OSError, tf.errors.OpError) as error:
            raise UserError(f"cannot write to {path}: {getattr(error, 'strerror', None) or error}.") from None

    def graph(self, model: VAE) -> None:
        """Show the graph of `VAE.elbo`."""
        with self._writer.as_default():
            tf.summary.graph(model.elbo_graph().graph)
        self._flush()

    def _flush(self) -> None:
        """Write what there is; a disk that is full stops no training."""
        try:
            self._writer.flush()
        except tf.errors.OpError as error:
            notice(f"TensorBoard's file cannot be written: {str(error).splitlines()[0]}.")

    def epoch(self, model: VAE, numbers: Mapping[str, float], epoch: int) -> None:
        """Show the numbers of an epoch that has ended, and what the model draws then."""
        step = tf.constant(epoch, tf.int64)
        with self._writer.as_default():
            writer = self._writer._resource  # what TensorFlow's own operations take, which need no other package
            for name, value in numbers.items():
                tf.raw_ops.WriteScalarSummary(writer=writer, step=step, tag=name, value=float(value))
            shown = {"reconstructions": pictures.reconstructions(model, self._images)}
            if model.config.latent_dim > 1:
                shown["plane"] = pictures.manifold(model, axis_values(TILES), plane="diagonal")
            for name, picture in shown.items():
                tf.raw_ops.WriteImageSummary(
                    writer=writer, step=step, tag=name, tensor=picture[None], bad_color=[255, 0, 0, 255]
                )
        self._flush()

    def row(self, model: VAE, row: Row) -> None:
        """`epoch` for a row of a history: 'train/nll', 'test/elbo' and so on."""
        numbers = {name.replace("_", "/", 1): value for name, value in row.items() if name != "epoch"}
        self.epoch(model, numbers, int(row["epoch"]))


class TensorBoard(keras.callbacks.Callback):
    """A callback of `train`, and of Keras' ``fit``, that shows a training in TensorBoard.

    It writes to ``folder``; ``data`` is an `ImageData`, of which test images are shown, or images (N, H, W, C).

        >>> import tempfile
        >>> from vae_lib import VAE, load_data, train
        >>> from vae_lib.tensorboard import TensorBoard
        >>> digits, folder = load_data("mnist", source="sample"), tempfile.mkdtemp()
        >>> vae = VAE(latent_dim=2, num_filters=4)
        >>> history = train(vae, digits.train_images[::20], epochs=1, callbacks=TensorBoard(folder, digits))
        >>> "events.out.tfevents" in os.listdir(folder)[0]
        True
    """

    def __init__(self, folder: str | os.PathLike[str], data: ImageData | np.ndarray) -> None:
        super().__init__()
        images = data.test_images if isinstance(data, ImageData) else data
        self._board = Board(folder, images)

    def on_train_begin(self, logs: Any = None) -> None:
        """Show the graph."""
        self._board.graph(self.model)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Show the epoch's losses and pictures."""
        self._board.epoch(self.model, logs or {}, epoch + 1)
