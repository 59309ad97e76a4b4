"""How good a model is, on a test set, in nats per image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vae_lib.data import ImageData
from vae_lib.model import VAE

EVALUATION_SEED = 20


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of (N,) values and its standard error, accumulated in double precision."""
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def evaluate_elbo(model: VAE, images: np.ndarray, *, seed: int = EVALUATION_SEED) -> dict[str, float]:
    """The ELBO of uint8 images (N, H, W, C) and its terms: means and standard errors in nats per image.

    One sample of z per image, the KL in closed form; the noise is fixed by ``seed``. For grey pixels
    ``bits_per_pixel`` is the negative ELBO of the 8-bit image: with dequantized pixels, the density times the
    width of a grey level, 1/256, bounds its probability from below (Theis et al. 2016).
    """
    terms = model.elbo_arrays(images, seed=seed)
    result: dict[str, float] = {}
    for name, values in terms._asdict().items():
        result[name], result[f"{name}_error"] = mean_and_error(values)
    if model.config.binarize == "none":
        pixels = math.prod(images.shape[1:])
        result["bits_per_pixel"] = -result["elbo"] / pixels / math.log(2) + math.log2(256)
    return result


def describe(model: VAE, data: ImageData, *, seed: int = EVALUATION_SEED) -> dict[str, Any]:
    """What ``metrics.json`` says of a model: its numbers on the test set and the protocol behind them."""
    config = model.config
    return {
        "test": evaluate_elbo(model, data.test_images, seed=seed),
        "protocol": {
            "unit": "nats per image",
            "likelihood": config.likelihood,
            "binarize": config.binarize,
            "data": config.data,
            "source": data.source,
            "train_images": len(data.train_images),
            "test_images": len(data.test_images),
            "noise_samples": 1,
            "seed": seed,
        },
    }
