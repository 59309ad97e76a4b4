"""What a run is made of, in three frozen parts: the model, its training and its data, each checked when made."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from dataclasses import dataclass, field
from typing import Any

from vae_lib.errors import UserError, one_of

DATASETS = ("mnist", "fashion_mnist", "faces")
TFDS = "tfds:"  # what the name of any other data set of TensorFlow Datasets begins with
LIKELIHOODS = ("bernoulli", "discretized_logistic", "continuous_bernoulli", "gaussian")
BINARIZATIONS = ("none", "threshold", "dynamic")
MODES = ("eager", "graph", "xla")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("float32", "bfloat16")
INFERENCES = ("encoder", "grid")
OBJECTIVES = ("elbo", "marginal")

# What each data set uses unless told otherwise; pickles/README.md holds the measurements behind it.
DEFAULT_LIKELIHOOD = {"mnist": "bernoulli"}  # others: GREY_LIKELIHOOD
GREY_LIKELIHOOD = "discretized_logistic"
GREY_BETA_START = 20.0  # times beta
MAX_SEED = 2**31 - 1
EVALUATION_SEED = 20  # of the noise with which images are encoded and measured
SMALLEST = 1e-12  # of a rate or a weight: their ratios must be numbers in single precision


def is_dataset(name: str) -> bool:
    """Whether a name is that of a data set, and not a folder's."""
    return name in DATASETS or name.startswith(TFDS)


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Raise `UserError` unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise UserError(f"{name} must be from {low} to {high}, not {value}.")


@dataclass(frozen=True)
class ModelConfig:
    """The settings that make a `VAE` what it is.

    ``image_shape`` is (H, W, C) with H = W. ``binarize`` left at None is 'threshold' for the Bernoulli likelihood and
    'none' for the grey ones. ``encoder_layers`` counts the dense layers of the encoder before its head. ``inference``
    says where the posterior of an image comes from: from the encoder network, or, in two dimensions, from the decoder
    alone, evaluated on a grid. Raises `UserError` for a value that makes no sense.
    """

    latent_dim: int
    image_shape: tuple[int, int, int] = (28, 28, 1)
    likelihood: str = "bernoulli"
    binarize: str | None = None
    num_filters: int = 32
    hidden_units: int = 256
    precision: str = "float32"
    seed: int = 0
    encoder_layers: int = 1
    inference: str = "encoder"

    def __post_init__(self) -> None:
        _check_types(self)
        shape = self.image_shape
        whole = isinstance(shape, list | tuple) and all(isinstance(n, numbers.Integral) for n in shape)
        if not (whole and len(shape) == 3 and 8 <= shape[0] == shape[1] <= 1024 and shape[2] in (1, 3)):
            raise UserError(
                "image_shape must be (side, side, channels) with a side from 8 to 1024 and 1 or 3 channels, "
                f"not {shape!r}."
            )
        object.__setattr__(self, "image_shape", tuple(int(n) for n in shape))
        check_range("latent_dim", self.latent_dim, 1, 4096)
        check_range("num_filters", self.num_filters, 1, 4096)
        check_range("hidden_units", self.hidden_units, 1, 65536)
        check_range("encoder_layers", self.encoder_layers, 1, 8)
        check_range("seed", self.seed, 0, MAX_SEED)
        if self.binarize is None:
            object.__setattr__(self, "binarize", "threshold" if self.likelihood == "bernoulli" else "none")
        one_of("likelihood", self.likelihood, LIKELIHOODS)
        one_of("binarize", self.binarize, BINARIZATIONS)
        one_of("precision", self.precision, PRECISIONS)
        one_of("inference", self.inference, INFERENCES)
        if self.inference == "grid":
            if self.latent_dim != 2:
                raise UserError(f"the grid covers a plane, so it takes 2 latent dimensions, not {self.latent_dim}.")
            if self.likelihood == "discretized_logistic":
                raise UserError(
                    "the grid takes a likelihood of one number a pixel: bernoulli, continuous_bernoulli or gaussian, "
                    "not discretized_logistic."
                )
        if (self.likelihood == "bernoulli") != (self.binarize != "none"):
            raise UserError(
                f"likelihood {self.likelihood!r} with binarize {self.binarize!r} is no likelihood: "
                "use 'bernoulli' with 'threshold' or 'dynamic', and a grey likelihood with 'none'."
            )

    @property
    def im_dim(self) -> int:
        """The side of an image in pixels."""
        return self.image_shape[0]

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return self.image_shape[2]

    @property
    def logits_shape(self) -> tuple[int, int, int]:
        """What the decoder gives for a code, (H, W, C), or (H, W, 2 C) where each pixel has a mean and a scale."""
        side, _, channels = self.image_shape
        return (side, side, channels * (2 if self.likelihood == "discretized_logistic" else 1))

    @property
    def needs_pixel_noise(self) -> bool:
        """Whether `VAE.prepare` draws: dynamic bits, and grey values that a density describes."""
        return self.binarize == "dynamic" or self.likelihood in ("continuous_bernoulli", "gaussian")


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    ``beta`` weighs the KL term in the training loss only; reported numbers always use 1. Over the first half of
    training the weight moves from ``beta_start`` to ``beta``. A grey likelihood weighs thousands of nats against a
    few; starting with a heavier KL keeps the codes where the prior is while the decoder is still coarse, and so
    ``beta_start`` is 20 times ``beta`` for it unless given.

    ``objective`` is the ELBO or, for two latent dimensions, 'marginal': log p(x) itself, a sum over a grid of
    ``grid_side`` by ``grid_side`` codes that is shifted at random at each step. With ``importance_samples`` K above 1
    the ELBO gives way to the importance-weighted bound of K samples. ``match_prior`` moves and stretches each
    dimension at the end, so that the codes of all images together have the prior's mean and variance. Raises
    `UserError` for a value that makes no sense.
    """

    epochs: int = 5
    batch_size: int = 50
    learning_rate: float = 0.001
    schedule: str = "cosine"
    weight_decay: float = 0.0  # of all but biases, as a share of the learning rate
    beta: float = 1.0
    beta_start: float | None = None
    mode: str = "graph"
    seed: int = 0
    checkpoint_every: int = 0  # steps; 0: after each epoch only
    patience: int = 0  # epochs without a better validation ELBO before training stops; 0: never
    mirror: bool = False  # show each image or its mirror image, at random
    augment_encoder: bool = False  # let the encoder, not the decoder, learn from altered copies too
    objective: str = "elbo"
    importance_samples: int = 1
    grid_side: int = 56
    match_prior: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        check_range("epochs", self.epochs, 0, 1_000_000)
        check_range("batch_size", self.batch_size, 1, 1_000_000)
        check_range("seed", self.seed, 0, MAX_SEED)
        check_range("checkpoint_every", self.checkpoint_every, 0, MAX_SEED)
        check_range("patience", self.patience, 0, 1_000_000)
        check_range("importance_samples", self.importance_samples, 1, 1000)
        check_range("grid_side", self.grid_side, 2, 512)
        for name in ("learning_rate", "weight_decay", "beta", "beta_start"):
            value = getattr(self, name)
            if value is None:
                continue
            if 0 < value < SMALLEST:
                raise UserError(f"{name} of {value} is as good as 0: give 0, or {SMALLEST} or more.")
            if not (math.isfinite(value) and 0 <= value <= 1e6) or (name == "learning_rate" and value == 0):
                low = "above 0 and at most" if name == "learning_rate" else "from 0 to"
                raise UserError(f"{name} must be {low} 1,000,000, not {value}.")
        one_of("mode", self.mode, MODES)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("objective", self.objective, OBJECTIVES)
        if self.objective != "marginal" and self.grid_side != type(self).grid_side:
            raise UserError("grid_side is a setting of objective 'marginal'.")
        if self.objective == "marginal":
            for name in ("importance_samples", "augment_encoder", "match_prior"):
                if getattr(self, name) != getattr(type(self), name):
                    raise UserError(f"{name} is a setting of the encoder, and objective 'marginal' trains none.")
        if (self.objective == "marginal" or self.importance_samples > 1) and (
            self.beta != 1.0 or self.beta_start not in (None, 1.0)
        ):
            raise UserError("beta and beta_start weigh a KL term, which only the ELBO of one sample has.")

    @property
    def inference(self) -> str:
        """Where the posteriors come from of a model that is trained so, one of `INFERENCES`."""
        return "grid" if self.objective == "marginal" else "encoder"

    def first_beta(self, likelihood: str) -> float:
        """The weight of the KL term at the first step of a model with that likelihood."""
        if self.beta_start is not None:
            return self.beta_start
        if self.objective == "marginal" or self.importance_samples > 1:
            return 1.0
        return self.beta * (1.0 if likelihood == "bernoulli" else GREY_BETA_START)


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from: a data set's name or a folder, what was asked for and what was found.

    A model that was trained on images from elsewhere has an empty ``name``.
    """

    name: str = "mnist"
    source: str = "auto"
    found: str = ""  # the `ImageData.source` that training used
    hold_out_sample: bool = False
    skip_broken: bool = False
    fingerprint: str = ""  # of all images and labels, so that others are noticed; empty in old runs

    def __post_init__(self) -> None:
        _check_types(self)


# The names that some settings have in a flat list, as on the command line.
FLAT_NAMES = {"data": "name", "data_source": "found"}
# The format of runs in which a setting came; runs of an older one have its default.
SINCE = {
    "encoder_layers": 3, "inference": 3, "objective": 3, "importance_samples": 3, "grid_side": 3, "match_prior": 3,
    "mirror": 4, "weight_decay": 5, "skip_broken": 6,
}  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run."""

    model: ModelConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: DataConfig = field(default_factory=DataConfig)

    @classmethod
    def from_flat(cls, latent_dim: int, **settings: Any) -> RunConfig:
        """A config from one list of settings, as the command line has them.

        ``im_dim`` and ``channels`` make the image's shape, ``seed`` serves the model and its training, ``data`` names
        the images, and without a ``likelihood`` the data decides. Raises `UserError`.
        """
        data = settings.get("data", "mnist")
        im_dim, channels = settings.pop("im_dim", 28), settings.pop("channels", None)
        channels = 1 if channels is None else channels
        for name, value, low, high in (("im_dim", im_dim, 8, 1024), ("channels", channels, 1, 3)):
            if not isinstance(value, numbers.Integral) or isinstance(value, bool):
                raise UserError(f"{name} must be of type int, not {value!r}.")
            check_range(name, int(value), low, high)
        if settings.get("likelihood") is None and isinstance(data, str):
            settings["likelihood"] = DEFAULT_LIKELIHOOD.get(data, GREY_LIKELIHOOD)
        named = {FLAT_NAMES.get(name, name): value for name, value in settings.items()}
        parts: list[dict[str, Any]] = []
        for part in (ModelConfig, TrainingConfig, DataConfig):
            known = {f.name for f in dataclasses.fields(part)}
            parts.append({name: value for name, value in named.items() if name in known})
        if unknown := sorted(set(named) - set().union(*parts)):
            raise UserError(f"the config has unknown keys: {', '.join(unknown)}.")
        model, training, data_ = parts
        shape = (int(im_dim), int(im_dim), int(channels))
        return cls(ModelConfig(latent_dim, shape, **model), TrainingConfig(**training), DataConfig(**data_))

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The config as JSON values that `from_dict` turns back into an equal config."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Any, *, run_format: int = max(SINCE.values())) -> RunConfig:
        """A config from `to_dict`; raises `UserError` for unknown and missing keys.

        ``run_format`` is the format of the run that it belongs to, in which settings that came later are missing.
        """
        parts = {"model": ModelConfig, "training": TrainingConfig, "data": DataConfig}
        _check_keys(values, set(parts), "the config")
        made: dict[str, Any] = {}
        later = {setting for setting, since in SINCE.items() if run_format < since}
        for name, part in parts.items():
            names = {f.name for f in dataclasses.fields(part)} - later
            _check_keys(values[name], names, f"the config's {name!r}")
            made[name] = part(**values[name])
        return cls(**made)

    @classmethod
    def from_first_format(cls, values: Any) -> RunConfig:
        """A config from the flat list of settings that a run of format 1 holds; raises `UserError`."""
        names = {f.name for part in (ModelConfig, TrainingConfig, DataConfig) for f in dataclasses.fields(part)}
        names = names - set(SINCE) - {"image_shape", "name", "found", "fingerprint"}
        names |= {"im_dim", "channels", "data", "data_source"}
        _check_keys(values, names, "the config")
        return cls.from_flat(**values)


def _check_keys(values: Any, names: set[str], what: str) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{what} is not a JSON object.")
    if unknown := sorted(set(values) - names):
        raise UserError(f"{what} has unknown keys: {', '.join(unknown)}.")
    if missing := sorted(names - set(values)):
        raise UserError(f"{what} lacks the keys: {', '.join(missing)}.")


def _check_types(config: Any) -> None:
    """Turn NumPy's numbers into Python's; raise `UserError` for values of another type than their field's."""
    kinds: dict[str, tuple[type, ...]] = {
        "int": (numbers.Integral,), "float": (numbers.Real,), "bool": (bool,), "str": (str,),
    }  # fmt: skip
    for item in dataclasses.fields(config):
        value, (kind, *optional) = getattr(config, item.name), str(item.type).split(" | ")
        if kind not in kinds or (optional and value is None):
            continue
        if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "bool"):
            raise UserError(f"{item.name} must be of type {item.type}, not {value!r}.")
        convert: Any = {"int": int, "float": float}.get(kind)
        if convert is not None:
            object.__setattr__(config, item.name, convert(value))


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's pairs as a dict; raises `UserError` where a key comes twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise UserError("the config names a key twice.")
    return values
