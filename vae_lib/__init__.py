"""Variational auto-encoders in TensorFlow: data, model, training, evaluation and pictures of the latent space.

The public names below are loaded on first use, so that ``import vae_lib`` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vae_lib.config import DataConfig as DataConfig
    from vae_lib.config import ModelConfig as ModelConfig
    from vae_lib.config import RunConfig as RunConfig
    from vae_lib.config import TrainingConfig as TrainingConfig
    from vae_lib.data.loading import ImageData as ImageData
    from vae_lib.data.loading import load_data as load_data
    from vae_lib.data.loading import prepare_sample as prepare_sample
    from vae_lib.dissection import dissect as dissect
    from vae_lib.errors import UserError as UserError
    from vae_lib.evaluation import evaluate as evaluate
    from vae_lib.evaluation import evaluate_elbo as evaluate_elbo
    from vae_lib.live import watch as watch
    from vae_lib.marginal import refine as refine
    from vae_lib.model import VAE as VAE
    from vae_lib.model import Elbo as Elbo
    from vae_lib.model import Encodings as Encodings
    from vae_lib.page.export import explorer_page as explorer_page
    from vae_lib.pictures import manifold as manifold
    from vae_lib.pictures import reconstructions as reconstructions
    from vae_lib.pictures import samples as samples
    from vae_lib.pictures import spiral_frames as spiral_frames
    from vae_lib.priors import match_prior as match_prior
    from vae_lib.runs.lifecycle import resume_run as resume_run
    from vae_lib.runs.lifecycle import train_run as train_run
    from vae_lib.runs.places import list_runs as list_runs
    from vae_lib.runs.store import Run as Run
    from vae_lib.runs.store import load_run as load_run
    from vae_lib.runs.store import save_run as save_run
    from vae_lib.sliders import explore as explore
    from vae_lib.trainer import Trainer as Trainer
    from vae_lib.training import train as train

_HOME = {
    "config": ("DataConfig", "ModelConfig", "RunConfig", "TrainingConfig"),
    "data.loading": ("ImageData", "load_data", "prepare_sample"),
    "dissection": ("dissect",),
    "errors": ("UserError",),
    "evaluation": ("evaluate", "evaluate_elbo"),
    "live": ("watch",),
    "marginal": ("refine",),
    "model": ("VAE", "Elbo", "Encodings"),
    "page.export": ("explorer_page",),
    "pictures": ("manifold", "reconstructions", "samples", "spiral_frames"),
    "priors": ("match_prior",),
    "runs.lifecycle": ("resume_run", "train_run"),
    "runs.places": ("list_runs",),
    "runs.store": ("Run", "load_run", "save_run"),
    "sliders": ("explore",),
    "trainer": ("Trainer",),
    "training": ("train",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"vae_lib.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'vae_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
