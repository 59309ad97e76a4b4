"""One frozen description of a run: what is learned, from what, and how."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from vae_lib.errors import UserError, one_of

DATASETS = ("mnist", "fashion_mnist", "faces")
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian")
BINARIZATIONS = ("none", "threshold", "dynamic")
MODES = ("eager", "graph", "xla")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("float32", "bfloat16")

# What each data set uses unless told otherwise; pickles/README.md holds the measurements behind it.
DEFAULT_LIKELIHOOD = {"mnist": "bernoulli", "fashion_mnist": "continuous_bernoulli"}  # others: gaussian


@dataclass(frozen=True)
class VAEConfig:
    """The settings of one run, checked when made.

    ``likelihood`` and ``binarize`` left at None are resolved from ``data``: thresholded Bernoulli for
    MNIST, a grey likelihood for everything else. ``beta`` weighs the KL term in the training loss only;
    reported numbers always use 1. Over the first half of training the weight moves from ``beta_start`` to
    ``beta``. A grey likelihood weighs thousands of nats against a few; starting with a heavier KL keeps the
    codes where the prior is while the decoder is still coarse, and so ``beta_start`` is 20 for it unless given.

    Raises `UserError` for a value that makes no sense.
    """

    latent_dim: int
    data: str = "mnist"  # a name in DATASETS, or a folder of images
    im_dim: int = 28  # H = W, pixels
    channels: int = 1
    num_filters: int = 32
    hidden_units: int = 256
    likelihood: str | None = None
    binarize: str | None = None
    beta: float = 1.0
    beta_start: float | None = None
    epochs: int = 5
    batch_size: int = 50
    learning_rate: float = 0.001
    schedule: str = "cosine"
    seed: int = 0
    mode: str = "graph"
    precision: str = "float32"
    checkpoint_every: int = 0  # steps; 0: after each epoch only
    patience: int = 0  # epochs without a better validation ELBO before training stops; 0: never
    source: str = "auto"  # what was asked for; `data_source` says what was found
    data_source: str = ""
    hold_out_sample: bool = False
    augment_encoder: bool = False  # let the encoder, not the decoder, learn from altered copies too

    _derived: ClassVar[tuple[str, ...]] = ()  # of each config: the settings that were not given

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check_type(field.name, str(field.type))
        for name, low, high in (
            ("latent_dim", 1, 4096), ("im_dim", 8, 1024), ("channels", 1, 3), ("num_filters", 1, 4096),
            ("hidden_units", 1, 65536), ("epochs", 0, 1_000_000), ("batch_size", 1, 1_000_000),
            ("seed", 0, 2**31 - 1),
            ("checkpoint_every", 0, 2**31 - 1),
            ("patience", 0, 1_000_000),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} must be from {low} to {high}, not {getattr(self, name)}.")
        derived = tuple(name for name in ("likelihood", "binarize", "beta_start") if getattr(self, name) is None)
        object.__setattr__(self, "_derived", derived)
        if self.likelihood is None:
            object.__setattr__(self, "likelihood", DEFAULT_LIKELIHOOD.get(self.data, "gaussian"))
        if self.binarize is None:
            object.__setattr__(self, "binarize", "threshold" if self.likelihood == "bernoulli" else "none")
        if self.beta_start is None:
            start = self.beta * (1.0 if self.likelihood == "bernoulli" else 20.0)
            object.__setattr__(self, "beta_start", start)
        for name in ("learning_rate", "beta", "beta_start"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1e6) or (name == "learning_rate" and value == 0):
                range_ = "above 0 and at most" if name == "learning_rate" else "from 0 to"
                raise UserError(f"{name} must be {range_} 1,000,000, not {value}.")
        one_of("likelihood", self.likelihood, LIKELIHOODS)
        one_of("binarize", self.binarize, BINARIZATIONS)
        one_of("mode", self.mode, MODES)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        if (self.likelihood == "bernoulli") != (self.binarize != "none"):
            raise UserError(
                f"likelihood {self.likelihood!r} with binarize {self.binarize!r} is no likelihood: "
                "use 'bernoulli' with 'threshold' or 'dynamic', and a grey likelihood with 'none'."
            )

    def _check_type(self, name: str, annotation: str) -> None:
        value = getattr(self, name)
        kinds: dict[str, tuple[type, ...]] = {
            "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "str | None": (str, type(None)),
            "float | None": (int, float, type(None)),
        }  # fmt: skip
        wrong = not isinstance(value, kinds[annotation])
        if wrong or (isinstance(value, bool) and annotation != "bool"):
            raise UserError(f"{name} must be of type {annotation}, not {value!r}.")
        if annotation.startswith("float") and value is not None:
            object.__setattr__(self, name, float(value))

    def replace(self, **changes: Any) -> VAEConfig:
        """A copy with ``changes``, checked again; what followed from other settings follows from the new ones."""
        settings: dict[str, Any] = dict.fromkeys(self._derived)
        return dataclasses.replace(self, **(settings | changes))

    def to_json(self) -> str:
        """The config as JSON text that `from_json` turns back into an equal config."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> VAEConfig:
        """A config from JSON text; raises `UserError` for broken JSON, unknown, missing or duplicate keys."""
        try:
            values = json.loads(text, object_pairs_hook=no_duplicates)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"the config is not valid JSON: {error}.") from None
        if not isinstance(values, dict):
            raise UserError("the config is not a JSON object.")
        names = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - names):
            raise UserError(f"the config has unknown keys: {', '.join(unknown)}.")
        if missing := sorted(names - set(values)):
            raise UserError(f"the config lacks the keys: {', '.join(missing)}.")
        return cls(**values)


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's pairs as a dict; raises `UserError` where a key comes twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise UserError("the config names a key twice.")
    return values
