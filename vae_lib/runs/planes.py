"""``planes.npz``: the decoded plane at moments of a run's training, which `vae animate --training` shows."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from vae_lib.errors import UserError
from vae_lib.files import write_atomically
from vae_lib.model import VAE
from vae_lib.recording import MOMENTS, Moment, small_plane
from vae_lib.runs.trust import PLANES, arrays_of, own_file


class Planes:
    """Pictures (H, W, C) uint8 of the plane, and how many images the training had seen at each."""

    def __init__(self, pictures: list[np.ndarray], images: list[int]) -> None:
        self.pictures, self.images = pictures, images

    def keep(self, model: VAE, moment: Moment) -> None:
        """Draw the plane as it is now; moments that lie ahead, of a training that was killed later, are dropped."""
        while self.images and self.images[-1] >= moment.images:
            self.pictures.pop()
            self.images.pop()
        self.pictures.append(small_plane(model))
        self.images.append(moment.images)

    def save(self, folder: Path) -> None:
        """Write them into a run's folder."""
        buffer = io.BytesIO()
        pictures = np.stack(self.pictures) if self.pictures else np.empty([0, 1, 1, 1], np.uint8)
        np.savez_compressed(buffer, pictures=pictures, images=np.array(self.images, np.int64))
        write_atomically(folder / PLANES, buffer.getvalue())


def read_planes(folder: Path) -> Planes | None:
    """The planes of a run, None where it has none; raises `UserError` for a file that holds something else."""
    path = own_file(folder, PLANES)
    if not os.path.lexists(path):
        return None
    try:
        with arrays_of(path) as arrays:
            pictures, images = arrays["pictures"], arrays["images"].astype(np.int64, casting="safe")
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for what a file can hold
        raise UserError(f"{path} does not hold pictures of the plane: {error}.") from None
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or images.shape != (len(pictures),):
        raise UserError(f"{path} holds no pictures with a number of images each.")
    if len(pictures) > 2 * MOMENTS or pictures.shape[3] not in (1, 3):
        raise UserError(f"{path} holds no pictures of a training's moments.")
    return Planes(list(pictures), images.tolist())
