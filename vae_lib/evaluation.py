"""How good a model is, on a test set, in nats per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vae_lib import marginal
from vae_lib.arrays import as_images, check_count
from vae_lib.backend import tf
from vae_lib.config import EVALUATION_SEED, ModelConfig
from vae_lib.data.loading import ImageData
from vae_lib.errors import UserError
from vae_lib.model import VAE, check_model

ACTIVE_VARIANCE = 0.01  # a dimension whose mean varies less over the images is not used (Burda et al. 2016)
GAP_IMAGES = 500  # images whose best Gaussian is searched for
CALIBRATION_IMAGES = 1000  # whose pixels are compared with what the likelihood gives them
Report = dict[str, Any]


def mean_and_error(values: np.ndarray) -> tuple[float, float | None]:
    """The mean of (N,) values and its standard error, in double precision; that of a single value is unknown, None."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # of a model that has diverged
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        return float(values.mean()), error


def evaluate_elbo(model: VAE, images: np.ndarray, *, seed: int = EVALUATION_SEED) -> Report:
    """The ELBO of images (N, H, W, C) and its terms: means and standard errors in nats per image.

    One sample of z per image, the KL in closed form; the noise is fixed by ``seed``. ``nll`` is also known as the
    distortion and ``kl`` as the rate (Alemi et al. 2018). For grey pixels ``bits_per_pixel`` is the negative ELBO of
    the 8-bit image. The discretized logistic gives its probability as it is; with dequantized pixels, the density times
    the width of a grey level, 1/256, bounds it from below (Theis et al. 2016). Raises `UserError`.
    """
    images = as_images(images, check_model(model).config.image_shape)
    result: Report = {}
    for name, values in model.elbo_arrays(images, seed=seed)._asdict().items():
        result[name], result[f"{name}_error"] = mean_and_error(values)
    if model.config.binarize == "none":
        result["bits_per_pixel"] = bits_per_pixel(result["elbo"], model.config)
    return result


def bits_per_pixel(elbo: float, config: ModelConfig) -> float:
    """An ELBO of grey pixels in nats per image as bits per pixel of the 8-bit image (of colour, per value)."""
    bits = -elbo / math.prod(config.image_shape) / math.log(2)
    return bits if config.likelihood == "discretized_logistic" else bits + math.log2(256)


def kl_per_dimension(z_mean: np.ndarray, z_log_var: np.ndarray) -> np.ndarray:
    """The mean KL of each latent dimension in nats, (N, D), (N, D) -> (D,); their sum is the mean KL."""
    z_mean, z_log_var = z_mean.astype(np.float64), z_log_var.astype(np.float64)
    return 0.5 * (np.square(z_mean) + np.exp(z_log_var) - 1.0 - z_log_var).mean(axis=0)


def describe_codes(z_mean: np.ndarray, z_log_var: np.ndarray, *, seed: int = EVALUATION_SEED) -> Report:
    """What the encoded images (N, D) say: KL per dimension, active units, and the aggregate posterior's fit.

    The aggregate posterior is the mixture of all q(z | x_n). ``moment_kl`` is the KL from the Gaussian with its
    mean and covariance to the prior, 0 for a perfect fit; ``marginal_kl``, in two dimensions, that of the mixture
    itself (Hoffman and Johnson 2016), estimated from one draw of each of 2,000 components. It grows as images get
    fewer, because a mixture of few is no Gaussian: compare it between equally large sets only.
    """
    dim = z_mean.shape[1]
    covariance = np.cov(z_mean, rowvar=False, ddof=0).reshape(dim, dim) + np.diag(np.exp(z_log_var).mean(axis=0))
    centre = z_mean.astype(np.float64).mean(axis=0)
    log_det = np.linalg.slogdet(covariance)[1]
    report: Report = {
        "kl_per_dimension": kl_per_dimension(z_mean, z_log_var).tolist(),
        "active_units": int((z_mean.var(axis=0) > ACTIVE_VARIANCE).sum()),
        "aggregate_variance": np.diag(covariance).tolist(),
        "moment_kl": float(0.5 * (np.trace(covariance) + centre @ centre - dim - log_det)),
    }
    if dim <= 2:
        report["marginal_kl"] = _marginal_kl(z_mean, z_log_var, np.random.default_rng(seed))
    return report


def _marginal_kl(z_mean: np.ndarray, z_log_var: np.ndarray, rng: np.random.Generator) -> float:
    chosen = rng.permutation(len(z_mean))[:2000]
    z = z_mean[chosen] + np.exp(0.5 * z_log_var[chosen]) * rng.standard_normal(z_mean[chosen].shape)
    log_q = np.empty(len(z))
    for i in range(0, len(z), 100):
        squared = np.square(z[i : i + 100, None] - z_mean) * np.exp(-z_log_var) + z_log_var  # (100, N, D)
        log_q[i : i + 100] = marginal.log_sum_exp(-0.5 * squared.sum(axis=-1)) - math.log(len(z_mean))
    return float((log_q + 0.5 * np.square(z).sum(axis=-1)).mean())


def pixel_calibration(model: VAE, x: np.ndarray) -> list[Report]:
    """The squared error of reconstructed pixels over the variance that the likelihood gives them, by brightness.

    Prepared images (N, H, W, C). A ratio far below 1 says that the likelihood is too wide for such pixels, far above
    1 that it is too narrow. The parts are pixels predicted below 0.1, from 0.1 to 0.9, and above.
    """
    squared, variance, predicted = [], [], []
    for i in range(0, len(x), 500):
        batch = tf.constant(x[i : i + 500])
        mean, spread = model.mean_and_variance(model.decode_logits(model.encode(batch).z_mean))
        squared.append(np.square(mean - batch).ravel())
        variance.append(np.ravel(spread))
        predicted.append(np.ravel(mean))
    error, spread, mean = (np.concatenate(parts) for parts in (squared, variance, predicted))
    report = []
    for low, high in ((0.0, 0.1), (0.1, 0.9), (0.9, 1.0)):
        part = (mean >= low) & ((mean < high) | (high == 1.0))
        ratio = float(error[part].sum(dtype=np.float64) / spread[part].sum(dtype=np.float64)) if part.any() else 1.0
        report.append({"from": low, "to": high, "share": float(part.mean()), "ratio": ratio})
    return report


def evaluate(
    model: VAE,
    images: np.ndarray,
    *,
    samples: int | Sequence[int] = (),
    exact: bool = False,
    refine: int = 0,
    seed: int = EVALUATION_SEED,
    progress: bool = False,
) -> Report:
    """Everything that can be said of a model on test images (N, H, W, C), as JSON values in nats per image.

    Always the ELBO, the codes and the calibration of the first 1,000 images' pixels. ``samples`` adds
    importance-weighted bounds with so many samples each. ``exact``, for models with two latent dimensions, adds
    log p(x) by integration, and for the first 500 images the split of its distance from the ELBO; with the discretized
    logistic this takes seconds for each image. ``refine`` adds the ELBO after so many
    gradient steps for each image, the mean of 8 samples. All speak of the same pixels and, but for the sampling, of
    the same noise. Raises `UserError`, also for ``exact`` in other than two dimensions and for weights that are not
    finite.

    The keys: ``images``, ``seed``, ``noise_samples``; ``elbo``, ``nll``, ``kl``, and for grey or colour pixels
    ``bits_per_pixel``; ``kl_per_dimension``, ``active_units``, ``aggregate_variance``, ``moment_kl`` and up to two
    dimensions ``marginal_kl``, as in `describe_codes`; ``pixel_calibration``; ``iwae_K`` for K samples;
    ``refined_elbo``, ``refined_bits_per_pixel``, ``refine_steps``; ``log_px``, ``integration_error``, ``gap_images``,
    ``approximation_gap``, ``amortization_gap``. A mean has its standard error beside it, under its name and ``_error``.

        >>> from vae_lib import VAE, evaluate, load_data
        >>> images = load_data("mnist", source="sample").test_images[:20]
        >>> found = evaluate(VAE(latent_dim=2, num_filters=4), images)
        >>> round(found["elbo"] + found["nll"] + found["kl"], 3)
        0.0
    """
    check_model(model)
    wanted = list(samples or ()) if isinstance(samples, Sequence | np.ndarray | None) else [samples]
    images = as_images(images, model.config.image_shape)
    if refine:
        refine = check_count(refine, "the number of gradient steps")
    if not all(np.isfinite(weight.numpy()).all() for weight in model.weights):
        raise UserError("the model has weights that are not finite: there is nothing to measure.")
    x = model.prepare_arrays(images if wanted or refine or exact else images[:CALIBRATION_IMAGES], seed=seed)
    report: Report = {"images": len(images), "seed": seed, "noise_samples": 1}
    report |= evaluate_elbo(model, images, seed=seed)
    report |= describe_codes(*model.encode_arrays(images, seed=seed), seed=seed)
    report["pixel_calibration"] = pixel_calibration(model, x[:CALIBRATION_IMAGES])
    for k in wanted:
        title = f"IWAE-{k}" if progress else None
        values = marginal.importance_weighted_bound(model, x, k, seed=seed, progress=title)
        report[f"iwae_{k}"], report[f"iwae_{k}_error"] = mean_and_error(values)
    if refine:
        refined = marginal.refine(model, images, steps=refine, seed=seed, progress="refining" if progress else None)
        seeds = [(seed + i) % 2**31 for i in range(8)]
        draws = [marginal.importance_weighted_bound(model, x, 1, seed=s, posterior=refined) for s in seeds]
        report["refined_elbo"], report["refined_elbo_error"] = mean_and_error(np.mean(draws, axis=0))
        report["refine_steps"] = refine
        if model.config.binarize == "none":
            report["refined_bits_per_pixel"] = bits_per_pixel(report["refined_elbo"], model.config)
    if exact:
        found = marginal.exact_log_px(model, x, progress="exact log p(x)" if progress else None)
        report["log_px"], report["log_px_error"] = mean_and_error(found.log_px)
        report["integration_error"] = float(found.error.mean())
        first = slice(0, GAP_IMAGES)
        gaps = marginal.best_gaussian(model, x[first], progress="best Gaussian" if progress else None)
        report["gap_images"] = len(gaps.best)
        report["approximation_gap"] = float((found.log_px[first] - gaps.best).mean())
        report["amortization_gap"] = float((gaps.best - gaps.encoder).mean())
    return report


def describe(model: VAE, data: ImageData, name: str, *, seed: int = EVALUATION_SEED) -> Report:
    """What ``metrics.json`` says of a model that was just trained: its numbers and the protocol behind them.

    ``name`` is that of the data.
    """
    config = model.config
    return {
        "test": evaluate(model, data.test_images, seed=seed),
        "train": evaluate_elbo(model, data.train_images, seed=seed),
        "protocol": {
            "unit": "nats per image",
            "likelihood": config.likelihood,
            "binarize": config.binarize,
            "data": name,
            "source": data.source,
            "train_images": len(data.train_images),
            "test_images": len(data.test_images),
            "noise_samples": 1,
            "seed": seed,
        },
    }
