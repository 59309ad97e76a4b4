"""Exercises that grade themselves and name the mistake: ``check.kl(my_kl)``.

    >>> import numpy as np
    >>> from vae_lib import check
    >>> def kl(z_mean, z_log_var):
    ...     return 0.5 * np.mean(np.square(z_mean) + np.exp(z_log_var) - 1 - z_log_var, axis=1)
    >>> check.kl(kl)
    not yet: kl. You averaged over the latent dimensions: your beta is 1/D. Sum over them.

Each check gives a `Verdict`, which shows itself in a notebook and has ``passed`` and ``message``. The answer to most is
a function, called with cases that pin its units; `encoder`, `decoder`, `train_step`, `pipeline` and `follow` judge what
they are given by what it does.
"""

from vae_lib.check.grading import Exercise, Verdict
from vae_lib.check.networks import decoder, encoder, pipeline, train_step
from vae_lib.check.sliders import follow
from vae_lib.check.terms import (
    active_units,
    aggregate,
    axis,
    bernoulli_nll,
    binarize,
    bits_per_pixel,
    code_length,
    cosine_rate,
    crop,
    direction,
    elbo,
    gaps,
    gaussian_nll,
    grid,
    interpolate,
    iwae,
    kl,
    kl_between,
    log_px,
    logistic_mass,
    loss,
    mosaic,
    nearest,
    orthogonal,
    pop,
    posterior,
    push,
    real_beta,
    sample,
    scale,
    steps_per_epoch,
    sweep,
    threshold,
)

__all__ = [
    "Exercise", "Verdict", "active_units", "aggregate", "axis", "bernoulli_nll", "binarize", "bits_per_pixel",
    "code_length", "cosine_rate", "crop", "decoder", "direction", "elbo", "encoder", "follow", "gaps", "gaussian_nll",
    "grid", "interpolate", "iwae", "kl", "kl_between", "log_px", "logistic_mass", "loss", "mosaic", "nearest",
    "orthogonal", "pipeline", "pop", "posterior", "push", "real_beta", "sample", "scale", "steps_per_epoch", "sweep",
    "threshold", "train_step",
]  # fmt: skip
