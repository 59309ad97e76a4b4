"""The same VAE in Flax with optax's Adam: a jitted step, or a jitted epoch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn


def gelu(y):
    return nn.gelu(y, approximate=False)


class Textbook(nn.Module):
    """The networks of the TensorFlow CVAE tutorial's recipe."""

    @nn.compact
    def __call__(self, x, rng):
        h = nn.relu(nn.Conv(32, (3, 3), (2, 2), padding="VALID")(x))
        h = nn.relu(nn.Conv(64, (3, 3), (2, 2), padding="VALID")(h))
        z_mean, z_log_var = jnp.split(nn.Dense(4)(h.reshape(len(h), -1)), 2, axis=-1)
        z = z_mean + jnp.exp(0.5 * z_log_var) * jax.random.normal(rng, z_mean.shape)
        h = nn.relu(nn.Dense(7 * 7 * 32)(z)).reshape(-1, 7, 7, 32)
        h = nn.relu(nn.ConvTranspose(64, (3, 3), (2, 2))(h))
        h = nn.relu(nn.ConvTranspose(32, (3, 3), (2, 2))(h))
        return negative_elbo(x, nn.ConvTranspose(1, (3, 3))(h), z_mean, z_log_var)


def negative_elbo(x, logits, z_mean, z_log_var):
    nll = optax.sigmoid_binary_cross_entropy(logits, x).sum()
    kl = -0.5 * (1 + z_log_var - z_mean**2 - jnp.exp(z_log_var)).sum()
    return (nll + kl) / len(x)


class FlaxVAE(nn.Module):
    """Layer for layer the networks of `vae_lib.networks` for 28 x 28 images."""

    latent_dim: int = 2
    filters: int = 32
    hidden: int = 256

    @nn.compact
    def __call__(self, x, rng):
        h = gelu(nn.Conv(self.filters, (4, 4), (4, 4))(x))
        h = gelu(nn.Conv(2 * self.filters, (3, 3))(h))
        h = gelu(nn.Conv(self.filters, (1, 1))(h))
        h = gelu(nn.Dense(self.hidden)(h.reshape(len(h), -1)))
        z_mean, z_log_var = jnp.split(nn.Dense(2 * self.latent_dim)(h), 2, axis=-1)
        z = z_mean + jnp.exp(0.5 * z_log_var) * jax.random.normal(rng, z_mean.shape)
        h = gelu(nn.Dense(self.hidden)(z))
        h = gelu(nn.Dense(self.hidden)(h))
        h = gelu(nn.Dense(7 * 7 * self.filters)(h)).reshape(-1, 7, 7, self.filters)
        h = gelu(nn.Conv(2 * self.filters, (3, 3))(h))
        h = nn.Conv(16, (3, 3))(h).reshape(-1, 7, 7, 4, 4)
        return negative_elbo(x, h.transpose(0, 1, 3, 2, 4).reshape(-1, 28, 28, 1), z_mean, z_log_var)


def make(images: np.ndarray, batch: int, textbook: bool, *, donate: bool = False, scan: bool = False):
    """``donate`` lets a step write over the weights it was given; with ``scan`` one call takes all steps."""
    model, optimizer = Textbook() if textbook else FlaxVAE(), optax.adam(1e-3)
    data = jnp.asarray(images)
    parameters = model.init(jax.random.key(0), data[:batch], jax.random.key(1))
    state = optimizer.init(parameters)

    def step(parameters, state, x, rng):
        loss, gradients = jax.value_and_grad(model.apply)(parameters, x, rng)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(parameters, updates), state, loss

    def epoch(parameters, state, rows, rng):
        def body(carry, row):
            *carry, loss = step(*carry, data[row[:-1]], jax.random.fold_in(rng, row[-1]))
            return tuple(carry), loss

        (parameters, state), losses = jax.lax.scan(body, (parameters, state), rows)
        return parameters, state, losses[-1]

    step = jax.jit(step, donate_argnums=(0, 1) if donate else ())
    epoch = jax.jit(epoch, donate_argnums=(0, 1) if donate else ())

    def run(steps: int) -> float:
        nonlocal parameters, state
        order = np.random.default_rng().permutation(len(images))[: steps * batch].reshape(steps, batch)
        if scan:
            rows = np.concatenate([order, np.arange(steps)[:, None]], axis=1)
            parameters, state, loss = epoch(parameters, state, rows, jax.random.key(0))
            return float(loss)
        for i in range(steps):
            parameters, state, loss = step(parameters, state, data[order[i]], jax.random.key(i))
        return float(loss)

    run.parameters = sum(p.size for p in jax.tree.leaves(parameters))
    return run
