"""Numbers put into words: the text of an evaluation and its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from vae_lib.config import ModelConfig, RunConfig
from vae_lib.evaluation import Report

PIXELS = {"threshold": "thresholded at 0.5", "dynamic": "dynamically binarized", "none": "grey"}
COLLAPSED = 0.01  # nats; a dimension that carries less is not used
LITTLE = 0.1  # nats per dimension; with less the decoder hardly listens to z
# How much less the ELBO may be on test images than on training images. A share of it would mean nothing for grey
# pixels, where most of the nats are noise that no model can know.
OVERFITTED_NATS = 5.0  # an image of bits
OVERFITTED_BITS = 0.2  # a grey pixel
# Squared error over variance. Errors much smaller than expected have one cause, larger ones two: a few images that the
# model misjudges altogether count for many.
WELL_CALIBRATED = (0.25, 10.0)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(n) for n in numbers)


def verdict(config: ModelConfig, test: Report, train: Mapping[str, float] | None = None) -> list[str]:
    """What is off with a model, one sentence each, from its test and training numbers; empty where nothing is.

    Collapsed dimensions, a KL that is tiny against the latent size, overfitting, a likelihood that does not fit, more
    bits than the bytes have. A difference within two standard errors is no reason for a sentence, and neither is a
    single image.
    """
    if test.get("elbo_error", 0.0) is None:
        return ["one image is too few to judge the model by."]
    found = []
    if "bits_per_pixel" in test and test["bits_per_pixel"] - 2 * _bits(config, test) > 8.0:
        found.append(
            f"{test['bits_per_pixel']:.2f} bits per pixel are more than the 8 that the bytes themselves have: "
            "these are not images like those that the model was trained on, or it was not trained."
        )
    collapsed = [i for i, kl in enumerate(test["kl_per_dimension"]) if kl < COLLAPSED]
    if collapsed:
        found.append(
            f"{len(collapsed)} of {config.latent_dim} latent dimensions are collapsed (numbers {_listed(collapsed)}): "
            "use fewer, or a smaller beta."
        )
    if test["kl"] + 2 * test.get("kl_error", 0.0) < LITTLE * config.latent_dim:
        found.append(
            f"the KL of {test['kl']:.3f} nats is tiny for {config.latent_dim} dimensions: the code says nothing "
            "about the image (posterior collapse); use a smaller beta."
        )
    grey = config.binarize == "none"
    most = OVERFITTED_BITS * math.prod(config.image_shape) * math.log(2) if grey else OVERFITTED_NATS
    if train is not None and _exceeds(train, test, most):
        limit = f"{OVERFITTED_BITS:g} bits a pixel" if grey else f"{OVERFITTED_NATS:g} nats"
        found.append(
            f"the test ELBO of {test['elbo']:.2f} lies more than {limit} below the training images' "
            f"{train['elbo']:.2f}: the model overfits; use more images, fewer epochs, or patience."
        )
    low, high = WELL_CALIBRATED
    for part in test["pixel_calibration"]:
        if part["share"] >= 0.1 and not low <= part["ratio"] <= high:
            wide = part["ratio"] < low
            found.append(
                f"the {config.likelihood} likelihood is too {'wide' if wide else 'narrow'} for pixels of "
                f"{part['from']:g} to {part['to']:g} ({part['share']:.0%} of them): their squared error is "
                f"{part['ratio']:.2g} times the variance it expects; try another likelihood."
            )
    return found


def _bits(config: ModelConfig, test: Report) -> float:
    """The standard error of an ELBO in bits per pixel."""
    return float(test.get("elbo_error", 0.0)) / math.prod(config.image_shape) / math.log(2)


def _exceeds(train: Mapping[str, Any], test: Report, most: float) -> bool:
    """Whether the test ELBO lies more than ``most`` below the training images', by two standard errors."""
    error = math.hypot(train.get("elbo_error") or 0.0, test.get("elbo_error", 0.0))
    return float(train["elbo"] - test["elbo"]) - 2 * error > most


def describe_task(config: RunConfig, source: str) -> str:
    """The data and what happened to its pixels: numbers with different ones must not be compared."""
    where = ", bundled sample" if source == "sample" else ""
    name, model = config.data.name or "images of your own", config.model
    noise = ", dequantized" if model.binarize == "none" and model.needs_pixel_noise else ""
    return f"{name}{where}, {model.im_dim} x {model.im_dim}, {PIXELS[str(model.binarize)]}{noise}"


def evaluation_lines(config: ModelConfig, report: Report) -> list[str]:
    """An evaluation as lines of text, nats per image."""
    rows = [
        ("reconstruction, -log p(x|z) (distortion)", "nll"),
        ("KL(q(z|x) || p(z)) (rate)", "kl"),
        ("ELBO", "elbo"),
        (f"ELBO after {report.get('refine_steps')} gradient steps an image", "refined_elbo"),
        *((f"importance-weighted bound, k = {key[5:]}", key) for key in report if _is_bound(key)),
        ("log p(x), integrated", "log_px"),
    ]
    known = [(text, key) for text, key in rows if key in report]
    lines = [f"{text:44}{report[key]:10.2f} {plus_minus(report[f'{key}_error'])}" for text, key in known]
    if "bits_per_pixel" in report:
        lines.append(f"{'bits per pixel, from the ELBO':44}{report['bits_per_pixel']:11.3f}")
    if "log_px" in report:
        lines += [
            f"{'estimated error of the integral':44}{report['integration_error']:12.4f}",
            f"{'approximation gap (no Gaussian does better)':44}{report['approximation_gap']:10.2f}",
            f"{'amortization gap (the encoder could)':44}{report['amortization_gap']:10.2f}"
            f"    (first {report['gap_images']} images)",
        ]
    kls = " ".join(f"{kl:.2f}" for kl in report["kl_per_dimension"])
    lines += [
        f"{'KL per dimension':44}{kls:>10}",
        f"{'active units':44}{report['active_units']:7d} of {config.latent_dim}",
        f"{'aggregate posterior to prior, by moments':44}{report['moment_kl']:10.2f}",
    ]
    if "marginal_kl" in report:
        lines.append(f"{'aggregate posterior to prior, as a mixture':44}{report['marginal_kl']:10.2f}")
    return lines


def plus_minus(error: float | None) -> str:
    """A standard error as text."""
    return "+- unknown" if error is None else f"+- {error:.2f}"


def _is_bound(key: str) -> bool:
    return key.startswith("iwae_") and not key.endswith("_error")
