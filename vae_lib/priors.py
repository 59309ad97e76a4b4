"""Codes that the prior covers: a Gaussian prior fitted to them, and folded into the two networks."""

from __future__ import annotations

import numpy as np

from vae_lib.backend import keras
from vae_lib.errors import UserError
from vae_lib.model import LOG_VAR_BOUND, VAE, check_model


def ends_of_networks(vae: VAE) -> tuple[keras.layers.Dense, keras.layers.Dense]:
    """The encoder's last and the decoder's first layer; raises `UserError` where codes cannot be moved in them."""
    networks = (check_model(vae).encoder, vae.decoder)
    if all(isinstance(network, keras.Sequential) for network in networks):
        head, first = networks[0].layers[-1], networks[1].layers[0]
        if isinstance(head, keras.layers.Dense) and isinstance(first, keras.layers.Dense):
            plain = head.activation is keras.activations.linear
            if plain and head.use_bias and first.use_bias and head.units == 2 * vae.config.latent_dim:
                return head, first
    raise UserError(
        "the prior can be matched in networks that are keras.Sequential, where the encoder ends and the decoder begins "
        "with a dense layer with a bias."
    )


def match_prior(vae: VAE, images: np.ndarray) -> None:
    """Move and stretch each latent dimension so that the aggregate posterior of ``images`` has mean 0 and variance 1.

    A prior N(m, s^2) fitted to the codes costs less than N(0, 1), and z -> (z - m) / s turns it into N(0, 1) again: the
    encoder's last layer gives codes that are moved so, and the decoder's first layer takes them back. What is decoded
    stays the same, and the ELBO rises by what the misfit cost. Correlations between dimensions stay. ``images`` are
    (N, H, W, C), bytes or floats in [0, 1]. Raises `UserError` for networks that do not end and begin with a dense
    layer.

        >>> from vae_lib import VAE, load_data, match_prior
        >>> digits = load_data("mnist", source="sample").test_images[:100]
        >>> vae = VAE(latent_dim=2, num_filters=4)
        >>> match_prior(vae, digits)
        >>> codes, log_var = vae.encode_arrays(digits)
        >>> bool(abs(codes.var(axis=0) + np.exp(log_var).mean(axis=0) - 1).max() < 0.01)
        True
    """
    head, first = ends_of_networks(vae)
    if vae.config.inference == "grid":
        raise UserError("a model without an encoder has no codes to move.")
    dim = vae.config.latent_dim
    z_mean, z_log_var = (array.astype(np.float64) for array in vae.encode_arrays(images))
    shift = z_mean.mean(axis=0)
    scale = np.sqrt(z_mean.var(axis=0) + np.exp(z_log_var).mean(axis=0))

    kernel, bias = (weight.astype(np.float64) for weight in head.get_weights())
    kernel[:, :dim], bias[:dim] = kernel[:, :dim] / scale, (bias[:dim] - shift) / scale
    # Log-variances fall by 2 log(scale). The soft bound on them bends, by little: the fold is exact at their mean.
    before = np.clip(z_log_var.mean(axis=0) / LOG_VAR_BOUND, -0.999, 0.999)
    after = np.clip(before - 2.0 * np.log(scale) / LOG_VAR_BOUND, -0.999, 0.999)
    slope = (1.0 - before**2) / (1.0 - after**2)
    offset = LOG_VAR_BOUND * (np.arctanh(after) - slope * np.arctanh(before))
    kernel[:, dim:], bias[dim:] = kernel[:, dim:] * slope, bias[dim:] * slope + offset
    head.set_weights([kernel, bias])

    kernel, bias = (weight.astype(np.float64) for weight in first.get_weights())
    first.set_weights([scale[:, None] * kernel, bias + shift @ kernel])
