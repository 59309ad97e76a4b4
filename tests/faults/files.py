"""Damaged and hostile run folders, one a row: what is done to a copy of a small finished run."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

WEIGHTS = "model.weights.h5"
Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {}


def damage(name: str) -> Callable[[Damage], Damage]:
    def keep(function: Damage) -> Damage:
        DAMAGES[name] = function
        return function

    return keep


def sign(run: Path) -> None:
    """Make the checksum fit, as somebody who means harm would."""
    digest = hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()
    record = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(record | {"weights_sha256": digest}))


def config(change: Callable[[dict[str, Any]], None]) -> Damage:
    def apply(run: Path) -> None:
        record = json.loads((run / "config.json").read_text())
        change(record)
        (run / "config.json").write_text(json.dumps(record))

    return apply


def text(file: str, change: Callable[[str], str]) -> Damage:
    return lambda run: (run / file).write_text(change((run / file).read_text()))


def content(file: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda run: (run / file).write_bytes(change((run / file).read_bytes()))


def flipped(raw: bytes, at: float = 0.5) -> bytes:
    """The same with one bit changed."""
    data = bytearray(raw)
    data[int(at * len(data))] ^= 16
    return bytes(data)


for file in ("config.json", WEIGHTS, "metrics.json", "history.csv", "encodings.npz"):
    DAMAGES[f"{file} cut off"] = content(file, lambda raw: raw[: 60 if raw[:1] == b"{" else len(raw) // 2])
    if file != "history.csv":  # without a row it is the history of no epoch, which is a history
        DAMAGES[f"{file} without a byte"] = content(file, lambda raw: b"")
    DAMAGES[f"{file} of random bytes"] = content(file, lambda raw: np.random.default_rng(0).bytes(len(raw)))
    DAMAGES[f"{file} a folder"] = lambda run, file=file: [(run / file).unlink(), (run / file).mkdir()]
    DAMAGES[f"{file} a link to elsewhere"] = lambda run, file=file: [
        (run / file).rename(run.parent / "elsewhere"),
        (run / file).symlink_to("../elsewhere"),
    ]
    if file != "encodings.npz":  # a run may lack them
        DAMAGES[f"{file} missing"] = lambda run, file=file: (run / file).unlink()
DAMAGES[f"{WEIGHTS} with one bit changed"] = content(WEIGHTS, flipped)
DAMAGES["encodings.npz with one bit changed"] = content("encodings.npz", flipped)

for title, change in {
    "an unknown key": lambda record: record["config"].update(surplus=1),
    "a missing key": lambda record: record["config"]["training"].pop("beta"),
    "a text for a number": lambda record: record["config"]["model"].update(latent_dim="2"),
    "true for a number": lambda record: record["config"]["model"].update(latent_dim=True),
    "a list for a number": lambda record: record["config"]["training"].update(epochs=[1]),
    "a negative size": lambda record: record["config"]["model"].update(num_filters=-4),
    "an absurd size": lambda record: record["config"]["model"].update(image_shape=[10**9, 10**9, 1]),
    "a size far beyond the weights": lambda record: record["config"]["model"].update(
        image_shape=[1024, 1024, 1], num_filters=4096
    ),
    "another number of dimensions": lambda record: record["config"]["model"].update(latent_dim=3),
    "another number of filters": lambda record: record["config"]["model"].update(num_filters=5),
    "an infinite number": lambda record: record["config"]["training"].update(beta=float("inf")),
    "a likelihood nobody knows": lambda record: record["config"]["model"].update(likelihood="poisson"),
    "another version": lambda record: record.update(format=99),
    "no version": lambda record: record.pop("format"),
    "no config inside": lambda record: record.pop("config"),
    "a list for a config": lambda record: record.update(config=[]),
    "a number for the checksum": lambda record: record.update(weights_sha256=7),
    "another checksum": lambda record: record.update(weights_sha256="0" * 64),
    "no checksum, as of an unfinished run": lambda record: record.update(weights_sha256=None),
}.items():
    DAMAGES[f"config.json with {title}"] = config(change)
DAMAGES["config.json with a key twice"] = text("config.json", lambda t: t.replace('"beta"', '"seed": 1, "beta"', 1))
DAMAGES["config.json that nests a hundred thousand deep"] = text("config.json", lambda t: "[" * 100_000)
DAMAGES["config.json that is a list"] = text("config.json", lambda t: "[]")
DAMAGES["config.json of 50 MB"] = text("config.json", lambda t: t + " " * 50_000_000)
DAMAGES["metrics.json that is a list"] = text("metrics.json", lambda t: "[1]")
DAMAGES["metrics.json with a text for a section"] = text("metrics.json", lambda t: '{"test": "good"}')
DAMAGES["metrics.json with a text for a number"] = text("metrics.json", lambda t: '{"test": {"elbo": "good"}}')
DAMAGES["metrics.json with a number for how it was made"] = text("metrics.json", lambda t: '{"made_by": 7}')
DAMAGES["history.csv with text for numbers"] = text("history.csv", lambda t: t.replace("1.0", "one", 1))
DAMAGES["history.csv with a short row"] = text("history.csv", lambda t: t + "3.0\n")
DAMAGES["history.csv with a long row"] = text("history.csv", lambda t: t + "1," * 40 + "1\n")


def rewritten(change: Callable[[h5py.File], None]) -> Damage:
    def apply(run: Path) -> None:
        with h5py.File(run / WEIGHTS, "a") as file:
            change(file)
        sign(run)

    return apply


def first_array(file: h5py.File) -> h5py.Dataset:
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) and item.size > 1 else None)
    return found[0]


def replaced(file: h5py.File, value: Any) -> None:
    name = first_array(file).name
    del file[name]
    file[name] = value


for title, change in {
    "an array of another shape": lambda file: replaced(file, np.zeros([3, 3], np.float32)),
    "an array of text": lambda file: replaced(file, np.array([b"abc", b"d"])),
    "an array missing": lambda file: file.__delitem__(first_array(file).name),
    "a link that leads nowhere": lambda file: replaced(file, h5py.SoftLink("/nowhere")),
    "not a number among the weights": lambda file: first_array(file).__setitem__(..., np.nan),
}.items():
    DAMAGES[f"{WEIGHTS}, signed, with {title}"] = rewritten(change)


@damage(f"{WEIGHTS}, signed, with an array that lies in another file")
def external_array(run: Path) -> None:
    (run.parent / "outside.bin").write_bytes(bytes(4096))
    with h5py.File(run / WEIGHTS, "a") as file:
        array = first_array(file)
        name, shape = array.name, array.shape
        del file[name]
        file.create_dataset(name, shape, "f4", external=[("../outside.bin", 0, h5py.h5f.UNLIMITED)])
    sign(run)


@damage(f"{WEIGHTS}, signed, with a link into another file")
def external_link(run: Path) -> None:
    """The other file holds just what is missing, so that only the link itself can be what is refused."""
    other = run.parent / "other.h5"
    other.write_bytes((run / WEIGHTS).read_bytes())
    with h5py.File(run / WEIGHTS, "a") as file:
        name = first_array(file).name
        del file[name]
        file[name] = h5py.ExternalLink("../other.h5", name)
    sign(run)


@damage(f"{WEIGHTS}, signed, of another model")
def foreign(run: Path) -> None:
    with h5py.File(run / WEIGHTS, "w") as file:
        file["kernel"] = np.zeros(60_000, np.float32)
    sign(run)


@damage(f"{WEIGHTS}, signed, that is a Python pickle")
def pickled(run: Path) -> None:
    (run / WEIGHTS).write_bytes(pickle.dumps(np.zeros(60_000)))
    sign(run)


def arrays(**changed: np.ndarray) -> Damage:
    def apply(run: Path) -> None:
        with np.load(run / "encodings.npz") as file:
            kept = dict(file) | changed
        np.savez(run / "encodings.npz", **{name: a for name, a in kept.items() if a is not None})

    return apply


DAMAGES["encodings.npz without labels"] = arrays(labels=None)
DAMAGES["encodings.npz with another number of labels"] = arrays(labels=np.zeros(3, np.int64))
DAMAGES["encodings.npz with another number of dimensions"] = arrays(z_mean=np.zeros([100, 7], np.float16))
DAMAGES["encodings.npz with codes that are not numbers"] = arrays(z_mean=np.full([100, 2], np.nan, np.float16))
DAMAGES["encodings.npz with text for codes"] = arrays(z_mean=np.full([100, 2], "x"))


@damage("encodings.npz with a Python pickle inside")
def pickled_codes(run: Path) -> None:
    np.savez(run / "encodings.npz", z_mean=np.array([{"a": 1}], object), z_log_var=np.zeros(1), labels=np.zeros(1))


@damage("encodings.npz that unpacks to 4 GB")
def bomb(run: Path) -> None:
    header = io.BytesIO()
    description = {"descr": "<f2", "fortran_order": False, "shape": (2**30, 2)}
    np.lib.format.write_array_header_1_0(header, description)
    with zipfile.ZipFile(run / "encodings.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("z_mean.npy", "w", force_zip64=True) as file:
            file.write(header.getvalue())
            for _ in range(64):
                file.write(bytes(2**20))
        for name in ("z_log_var", "labels"):
            archive.writestr(f"{name}.npy", b"")
