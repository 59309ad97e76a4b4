"""Run folders under ``pickles/``: what was trained, the weights, how it went, what it reached.

    config.json         format number, checksum of the weights, and the `RunConfig`
    model.weights.h5    Keras weights
    history.csv         one row an epoch, nats per image
    metrics.json        numbers with their protocol
    encodings.npz       z_mean, z_log_var (half precision where they fit) and label of each test image
    planes.npz          the plane at moments of the training, where it was recorded

The name says what such folders are called in this system; no file in them is a Python pickle. A run is
written into ``NAME.partial`` and renamed when complete, so ``NAME`` is never half a run.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_lib import evaluation
from vae_lib.config import DataConfig, RunConfig, TrainingConfig, is_dataset, no_duplicates
from vae_lib.data.loading import ImageData, as_image_data, fingerprint
from vae_lib.errors import Fault, UserError
from vae_lib.files import real_path, staging_path, user_path, write_atomically
from vae_lib.model import VAE, Encodings, check_encodings, check_model
from vae_lib.runs import trust
from vae_lib.runs.folders import LOCK, check_replaceable, delete_run, locked, own_checkpoints, set_aside
from vae_lib.runs.limits import parameters
from vae_lib.runs.places import PARTIAL, final_path, find_run, is_bare, partial_path, project_dir
from vae_lib.runs.trust import WEIGHTS
from vae_lib.trainer import Row

FORMAT = 6  # 1 held all settings in one flat list, the next knew fewer of them
LARGEST_HALF = 60_000.0  # a code beyond it is not kept in half precision


class Run(NamedTuple):
    """A trained model and its record."""

    path: Path
    config: RunConfig
    model: VAE
    history: list[Row]
    metrics: dict[str, Any]
    encodings: Encodings | None

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return real_path(self.path).name

    def __repr__(self) -> str:
        images = self.config.data.name or "images of your own"
        return f"Run({self.name!r}: {images}, {self.config.model.latent_dim} latent dimensions)"


def start_run(config: RunConfig, out: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> Path:
    """Make the ``.partial`` folder that a run grows in, with its config, and return it.

    ``out`` is the run's folder; without it a fresh name under ``pickles/`` is taken. Raises `UserError` if the
    run exists (and ``overwrite`` is not set), is being written, holds anything but a run, or its place cannot be
    written to.
    """
    wanted = final_path(partial_path(config, out))
    if os.path.lexists(wanted) and out is not None:
        if not overwrite:
            raise UserError(f"{wanted} exists: give the run another name, or overwrite it.")
        check_replaceable(wanted)
    for attempt in range(1, 1000):
        name = wanted.name if attempt == 1 or out is not None else f"{wanted.name}-{attempt}"
        partial = wanted.with_name(name + PARTIAL)
        try:
            if out is None and os.path.lexists(wanted.with_name(name)):
                continue
            partial.mkdir(parents=True)
        except FileExistsError as error:
            if not os.path.lexists(partial):  # a link that leads nowhere stands in the way
                raise UserError(f"cannot write runs under {wanted.parent}: {error.filename} leads nowhere.") from None
            if out is not None:
                if overwrite:
                    check_replaceable(partial)
                    with locked(partial):
                        delete_run(partial)
                    continue
                raise UserError(f"{partial} holds an unfinished run: resume it, or overwrite it.") from None
            continue
        except OSError as error:
            raise UserError(f"cannot write runs under {wanted.parent}: {error.strerror}.") from None
        try:
            write_config(partial, config, overwrite=overwrite)
        except OSError as error:
            delete_run(partial)
            raise UserError(f"cannot write runs under {wanted.parent}: {error.strerror}.") from None
        return partial
    raise UserError(f"no free name for a run like {wanted}.")


def write_config(
    folder: Path, config: RunConfig, weights_sha256: str | None = None, *, overwrite: bool | None = None
) -> None:
    """Write ``config.json``; a run without a checksum of its weights is not finished.

    Until then ``overwrite`` says whether it may replace another run.
    """
    record = {"format": FORMAT, "weights_sha256": weights_sha256, "config": config.to_dict()}
    if overwrite is not None:
        record["overwrite"] = overwrite
    write_atomically(folder / "config.json", _to_json(record))


def check_free(partial: Path) -> None:
    """Raise `UserError` where an unfinished run's name is taken, unless it was started to replace what is there."""
    final = final_path(partial)
    record = json.loads((partial / "config.json").read_text("utf-8"))
    if os.path.lexists(final) and record.get("overwrite") is not True:
        raise UserError(f"{final} is there by now: move it or {partial} away, then resume the run.")


def _to_json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, allow_nan=False, default=_plain) + "\n").encode()


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


def _save_weights(model: VAE, path: Path) -> None:
    """Write the weights as `write_atomically` does; Keras insists on the ending of the name."""
    staging = staging_path(path, ".weights.h5")
    try:
        if model.compiled:  # Keras would add the optimizer's state
            compiled, model = model, VAE.from_model_config(model.config)
            model.set_weights(compiled.get_weights())
        model.save_weights(staging)
        with open(staging, "rb+") as file:
            os.fsync(file.fileno())
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def finish_run(
    partial: Path,
    config: RunConfig,
    model: VAE,
    history: Sequence[Row],
    metrics: Mapping[str, Any],
    encodings: Encodings | None = None,
) -> Path:
    """Write everything into ``partial`` and give the folder its name; returns the finished run's path.

    Raises `Fault` for a model that has diverged: nothing is replaced by what could not be loaded again.
    """
    final = final_path(partial)
    check_free(partial)
    _check_finite(model, metrics, encodings)
    if encodings is not None:
        encodings = check_encodings(encodings, config.model.latent_dim)
    _save_weights(model, partial / WEIGHTS)
    write_atomically(partial / "history.csv", _to_csv(history))
    write_atomically(partial / "metrics.json", _to_json(metrics))
    if encodings is not None:
        buffer = io.BytesIO()
        wide = max(np.abs(array).max(initial=0.0) for array in encodings[:2]) > LARGEST_HALF
        kind = np.float32 if wide else np.float16
        compact = {name: a if name == "labels" else a.astype(kind) for name, a in encodings._asdict().items()}
        np.savez_compressed(buffer, **compact)
        write_atomically(partial / "encodings.npz", buffer.getvalue())
    try:
        _read_record(partial, config.model.latent_dim)  # what could not be loaded again replaces nothing
    except (ValueError, TypeError, csv.Error) as error:
        raise error if isinstance(error, UserError) else UserError(f"the history cannot be kept: {error}.") from None
    write_config(partial, config, _sha256(partial / WEIGHTS))
    with set_aside(final):
        partial.rename(final)
    complete, half_written = own_checkpoints(final)
    for path in [final / LOCK, *complete, *half_written]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (final / "checkpoints").rmdir()
    return final


def _read_record(folder: Path, dim: int) -> tuple[dict[str, Any], list[Row], Encodings | None]:
    """A run's numbers, history and codes of ``dim`` dimensions; raises `UserError` and what reading files raises."""
    history = _from_csv(trust.own_file(folder, "history.csv").read_text("utf-8-sig"))
    return read_metrics(folder), history, trust.read_encodings(trust.own_file(folder, "encodings.npz"), dim)


def _check_finite(model: VAE, metrics: Mapping[str, Any], encodings: Encodings | None) -> None:
    """Raise `Fault` where a weight, a code or a number is not finite."""
    what = ""
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        what = "weights"
    elif isinstance(encodings, Encodings) and not np.isfinite(np.asarray(encodings[:2], np.float64)).all():
        what = "codes"
    else:
        try:
            _to_json(metrics)
        except ValueError:
            what = "numbers"
    if what:
        raise Fault(f"the model has diverged (its {what} are not finite) and is not saved: lower the learning rate.")


def save_run(
    name_or_path: str | os.PathLike[str],
    model: VAE,
    data: ImageData | np.ndarray | None = None,
    *,
    training: TrainingConfig | None = None,
    history: Sequence[Row] | None = None,
    metrics: Mapping[str, Any] | None = None,
    encodings: Encodings | None = None,
    overwrite: bool = False,
) -> Path:
    """Save a model and its record as a run, complete or not at all; returns the run's folder.

    A bare name is kept under ``pickles/``, where `load_run` looks for it, and a path where it says. With ``data`` the
    test set is encoded and measured, unless ``encodings`` and ``metrics`` are given. ``training`` and ``history`` are
    by default those of the last `train` of the model. Raises `UserError` where the run exists and ``overwrite`` is not
    set, and for a model with networks of your own, which ``model.save("x.keras")`` keeps; and `Fault` where the disk is
    full or the numbers are not finite.

        >>> import tempfile
        >>> from vae_lib import VAE, load_run, save_run
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_run(f"{folder}/mine", VAE(latent_dim=3, num_filters=4))
        ...     load_run(path)
        Run('mine': images of your own, 3 latent dimensions)
    """
    if training is not None and not isinstance(training, TrainingConfig):
        raise UserError(f"training must be a TrainingConfig, not {training!r}.")
    if type(check_model(model)) is not VAE or model.own_networks:
        raise UserError('a run holds the networks of this library: keep your own with model.save("mine.keras").')
    path = user_path(name_or_path, "a run")
    if is_bare(name_or_path):
        path = project_dir("pickles") / path
    trained, rows = model.training_record or (TrainingConfig(epochs=0), ())
    history = rows if history is None else history
    training = training or dataclasses.replace(trained, epochs=len(history))
    images = None if data is None else as_image_data(data, model.config.image_shape)
    config = RunConfig(model.config, training, described(images))
    if images is not None and metrics is None and len(images.test_images):
        metrics = evaluation.describe(model, images, images.name)
    if images is not None and encodings is None and len(images.test_images):
        codes = model.encode_arrays(images.test_images)
        encodings = Encodings(*codes, images.test_labels)
    partial = start_run(config, path, overwrite=overwrite)
    try:
        with locked(partial):
            return finish_run(partial, config, model, history, metrics or {}, encodings)
    except OSError as error:
        delete_run(partial)
        raise Fault(f"cannot save the run {path}: {error.strerror or error}.") from None
    except BaseException:
        delete_run(partial)
        raise


def described(data: ImageData | None, asked: DataConfig | None = None) -> DataConfig:
    """What a run says of its images: what was ``asked`` for, what was found, and their fingerprint."""
    if data is None:
        return DataConfig(name="", found="array")
    name = str(real_path(Path(data.name))) if data.source == "folder" else data.name if is_dataset(data.name) else ""
    return dataclasses.replace(asked or DataConfig(), name=name, found=data.source, fingerprint=fingerprint(data))


def read_metrics(folder: Path) -> dict[str, Any]:
    """A run's ``metrics.json``; raises `UserError`."""
    try:
        metrics = dict(json.loads(trust.own_file(folder, "metrics.json").read_text("utf-8-sig")))
    except UserError:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{folder}/metrics.json cannot be read: {error}.") from None
    for part in ("test", "train", "sample", "plain_recipe", "made_by"):
        numbers = metrics.get(part, {})
        if not isinstance(numbers, dict) or not all(_has_its_type(*item) for item in numbers.items()):
            raise UserError(f"{folder}/metrics.json holds something else than numbers under {part!r}.")
        if part in ("test", "train") and part in metrics and "elbo" not in numbers:
            raise UserError(f"{folder}/metrics.json holds no ELBO under {part!r}.")
    return metrics


def _has_its_type(key: str, value: Any) -> bool:
    """Whether a number of a run is one; what is not known to be a number may be anything."""
    if key in ("elbo", "nll", "kl", "log_px", "images", "seed", "bits_per_pixel", "moment_kl", "integration_error"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if key.endswith("_error"):
        return value is None or isinstance(value, int | float)
    if key in ("kl_per_dimension", "aggregate_variance"):
        return isinstance(value, list) and all(isinstance(v, int | float) for v in value)
    return key != "command" or isinstance(value, str)


def record_numbers(folder: Path, section: str, numbers: Mapping[str, Any]) -> Path:
    """Add to, or replace in, a section of a run's ``metrics.json``; returns the file. Raises `UserError`."""
    path, metrics = folder / "metrics.json", read_metrics(folder)
    try:
        metrics[section] = metrics.get(section, {}) | numbers
        write_atomically(path, _to_json(metrics))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot record numbers in {path}: {error}.") from None
    return path


def read_config(folder: Path) -> tuple[RunConfig, str | None]:
    """A run's config and the checksum of its weights (None: not finished); raises `UserError`."""
    try:
        text = trust.own_file(folder, "config.json").read_text("utf-8-sig")
        record = json.loads(text, object_pairs_hook=no_duplicates)
        if record["format"] not in range(1, FORMAT + 1):
            raise UserError(f"{folder} has format {record['format']}; this version reads formats 1 to {FORMAT}.")
        if not isinstance(record["weights_sha256"], str | None):
            raise UserError("the checksum of the weights is no text.")
        if record["format"] == 1:
            return RunConfig.from_first_format(record["config"]), record["weights_sha256"]
        config = RunConfig.from_dict(record["config"], run_format=record["format"])
        return config, record["weights_sha256"]
    except UserError as error:
        raise UserError(f"{folder}/config.json: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else f"{error}"[:200]
        raise UserError(f"{folder}/config.json is not a run's config: {reason}.") from None


def load_run(name_or_path: str | os.PathLike[str]) -> Run:
    """A finished run by name or path, its weights checked against their checksum; raises `UserError`.

    A name is looked for in the current folder, under ``pickles/`` and among the runs that come with the package; one
    that fits two runs is refused. A path, with a separator in it, is taken as it is. See `save_run` for an example.
    """
    folder = find_run(name_or_path)
    config, checksum = read_config(folder)
    if checksum is None:
        raise UserError(f"{folder} is not finished: resume it first (the name of its folder must end in .partial).")
    path = trust.own_file(folder, WEIGHTS)
    try:
        if _sha256(path) != checksum:
            raise UserError(f"the weights in {folder} are damaged: their checksum differs from config.json.")
        trust.check_size(path, parameters(config.model))
        metrics, history, encodings = _read_record(folder, config.model.latent_dim)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise error if isinstance(error, UserError) else UserError(f"{folder} is damaged: {error}.") from None
    model = VAE.from_model_config(config.model)
    trust.load_weights(model, path)
    return Run(folder, config, model, history, metrics, encodings)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_csv(history: Sequence[Row]) -> bytes:
    if not all(isinstance(row, Mapping) for row in history) or len({tuple(row) for row in history}) > 1:
        raise UserError("a history is a list of rows, each with the same names and a number for each.")
    text = io.StringIO()
    if history:
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
    return text.getvalue().encode()


def _from_csv(text: str) -> list[Row]:
    return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(io.StringIO(text), strict=True)]
