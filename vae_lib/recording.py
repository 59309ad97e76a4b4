"""Moments of a training that are kept: the model at each of them, for `watch`, and its plane, for an animation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vae_lib import latent, pictures
from vae_lib.model import VAE

MOMENTS = 48  # of a training
SIDE = 448  # of a picture of the plane, in pixels at most


class Moment(NamedTuple):
    """Where a training stands: steps and images so far, nll and kl of late, in nats per image (NaN at the start)."""

    step: int
    images: int
    nll: float
    kl: float


Keep = Callable[[Moment], object]


class Frame(NamedTuple):
    """A model at a moment of its training; ``weights`` are all of its own, in half precision where they fit."""

    step: int
    images: int
    nll: float
    kl: float
    weights: list[np.ndarray]


def moments(total_steps: int, count: int = MOMENTS) -> list[int]:
    """The steps after which a training is looked at, from 0 to the last: close together at the start.

    That is when the plane changes fastest.

        >>> moments(1000, 8)
        [0, 1, 3, 10, 32, 100, 316, 1000]
    """
    return [0, *np.unique(np.geomspace(1, total_steps, count - 1).round().astype(int)).tolist()] if total_steps else [0]


class Recording:
    """The frames of one training."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def keep(self, model: VAE, moment: Moment) -> None:
        """Add the model as it is at a moment."""
        self.frames.append(frame(model, moment))


def frame(model: VAE, moment: Moment) -> Frame:
    """The model as it is now, as that of ``moment``."""
    return Frame(*moment, [_compact(w.numpy()) for w in model.weights])


def _compact(array: np.ndarray) -> np.ndarray:
    """An array in half precision, unless that would make one of its numbers infinite."""
    return array.astype(np.float16) if np.abs(array).max(initial=0.0) < np.finfo(np.float16).max else array


def moment(step: int, images: int, losses: np.ndarray) -> Moment:
    """A moment with the mean of the ``losses`` (steps, 2) of late."""
    nll, kl = losses.mean(axis=0).tolist() if len(losses) else (math.nan, math.nan)
    return Moment(step, images, nll, kl)


def small_plane(model: VAE) -> np.ndarray:
    """The decoded plane in at most `SIDE` pixels, but with four tiles along a side at least, (H, W, C) uint8."""
    tiles = max(4, min(16, SIDE // model.config.im_dim))
    return pictures.manifold(model, latent.axis_values(tiles), plane="diagonal")
