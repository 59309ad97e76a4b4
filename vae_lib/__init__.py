"""Variational auto-encoders in TensorFlow: data, model, training, evaluation and pictures of the latent space.

The public names below are loaded on first use, so that ``import vae_lib`` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "VAEConfig": "config",
    "UserError": "errors",
    "load_data": "data",
    "ImageData": "data",
    "VAE": "model",
    "Elbo": "model",
    "Run": "runs.store",
    "save_run": "runs.store",
    "load_run": "runs.store",
    "list_runs": "runs.store",
    "Trainer": "trainer",
    "fit": "training",
    "train_run": "runs.lifecycle",
    "resume_run": "runs.lifecycle",
    "evaluate": "evaluation",
    "evaluate_elbo": "evaluation",
    "explore": "sliders",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module = importlib.import_module(f"vae_lib.{_HOME[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'vae_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
