"""Bad input, one case a row: what is typed, after what preparation of the empty folder it is typed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

Prepare = Callable[[Path], None]


def nothing(folder: Path) -> None:
    """An empty folder."""


class Case(NamedTuple):
    """A command line for 'train' (train_VAE.py) or 'tools' (vae); RUN stands for a small run."""

    door: str
    arguments: list[str]
    prepare: Prepare = nothing

    @property
    def name(self) -> str:
        program = {"train": "train_VAE.py", "tools": "vae"}[self.door]
        what = "" if self.prepare is nothing else f" ({self.prepare.__doc__})"
        words = (
            argument if len(argument) < 60 else f"{argument[:9]}... ({len(argument)})" for argument in self.arguments
        )
        return " ".join([program, *(word or "''" for word in words)]) + what


def picture(mode: str = "L", size: tuple[int, int] = (12, 12)) -> Image.Image:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,), "LA": (2,)}.get(mode, ())
    return Image.fromarray(np.zeros([*size, *channels], np.uint8), mode) if mode != "LA" else Image.new("LA", size)


def images(folder: Path, count: int = 3) -> Path:
    (folder / "own").mkdir()
    for i in range(count):
        picture().save(folder / "own" / f"{i}.png")
    return folder / "own"


def no_images(folder: Path) -> None:
    """an empty folder"""
    images(folder, 0)


def one_image(folder: Path) -> None:
    """a single image"""
    images(folder, 1)


def other_files(folder: Path) -> None:
    """a folder of other files"""
    (images(folder, 0) / "notes.txt").write_text("no image")


def colour_among_grey(folder: Path) -> None:
    """grey images and a colour one"""
    picture("RGB").save(images(folder) / "colour.png")


def sixteen_bits(folder: Path) -> None:
    """a 16-bit image"""
    Image.fromarray(np.zeros([12, 12], np.uint16)).save(images(folder) / "deep.png")


def transparent(folder: Path) -> None:
    """an RGBA image"""
    picture("RGBA").save(images(folder) / "alpha.png")


def grey_and_alpha(folder: Path) -> None:
    """a grey image with transparency"""
    picture("LA").save(images(folder) / "alpha.png")


def for_print(folder: Path) -> None:
    """a CMYK image"""
    picture("CMYK").save(images(folder) / "print.tif")


def truncated_image(folder: Path) -> None:
    """a truncated image"""
    path = images(folder) / "cut.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:200])


def empty_image(folder: Path) -> None:
    """an image file without a byte"""
    (images(folder) / "empty.png").touch()


def text_as_image(folder: Path) -> None:
    """a text with the name of an image"""
    (images(folder) / "text.jpg").write_text("not an image")


def loop_as_image(folder: Path) -> None:
    """a link to itself with the name of an image"""
    (images(folder, 1) / "loop.png").symlink_to("loop.png")


def enormous_image(folder: Path) -> None:
    """an image of 40,000 x 40,000 pixels"""
    Image.new("1", (40_000, 40_000)).save(images(folder) / "enormous.png")


def plain_file(folder: Path) -> None:
    """a file where a folder is meant"""
    (folder / "own").write_text("a file")


def existing_run(folder: Path) -> None:
    """a folder of that name exists"""
    (folder / "own").mkdir()


def animation(folder: Path) -> None:
    """an animated image"""
    picture().save(images(folder) / "moving.gif", save_all=True, append_images=[Image.new("L", (12, 12), 255)])


def half_prepared(folder: Path) -> None:
    """a half prepared data set"""
    inside = folder / "own" / "mnist" / "3.0.1"
    inside.mkdir(parents=True)
    (inside / "dataset_info.json").write_text('{"name": "mnist"')


FOLDERS = (
    no_images, one_image, other_files, colour_among_grey, sixteen_bits, transparent, grey_and_alpha, for_print,
    truncated_image, empty_image, text_as_image, loop_as_image, enormous_image, plain_file,
)  # fmt: skip


def cases() -> Iterator[Case]:
    """Every case; a test counts them."""
    yield from _training()
    yield from _tools()


def _training() -> Iterator[Case]:
    def train(*arguments: str, prepare: Prepare = nothing) -> Case:
        return Case("train", ["-l", "2", *arguments], prepare)

    yield Case("train", [])
    for value in ("0", "-1", "two", "1.5", "", "5000", "1e3", "nan", "99999999999999999999"):
        yield Case("train", ["-l", value])
    zero_is_bad = ("--batch-size", "--im-dim", "--num-filters", "--hidden-units")
    for flag in (*zero_is_bad, "--epochs", "--seed", "--patience", "--checkpoint-every"):
        for value in ("-1", "x", "2.5", "99999999999999999999", *(("0",) if flag in zero_is_bad else ())):
            yield train(flag, value)
    for flag in ("--learning-rate", "--beta", "--beta-start"):
        for value in ("-1", "nan", "inf", "fast", "1e9"):
            yield train(flag, value)
    yield train("--learning-rate", "0")
    for flag, near, far in (
        ("--data", "mnits", "x"), ("--likelihood", "gausian", "poisson"), ("--binarize", "treshold", "x"),
        ("--mode", "grph", "x"), ("--schedule", "cosin", "x"), ("--precision", "float31", "x"),
        ("--source", "sampl", "x"), ("--strategy", "mirored", "x"),
    ):  # fmt: skip
        yield train(flag, near)
        yield train(flag, far)
        yield train(flag)
    yield train("--likelihood", "gaussian", "--binarize", "dynamic")
    yield train("--likelihood", "bernoulli", "--binarize", "none")
    yield train("--strategy", "multi-worker")
    yield train("--no-such-flag")
    yield train("--epochs", "1", "surplus")
    yield train("--source", "sample", "--im-dim", "1024", "--batch-size", "1000000", "--num-filters", "4096")
    yield train("--source", "sample", "--hidden-units", "65536", "--num-filters", "4096")
    yield train("--source", "own", prepare=half_prepared)
    for prepare in FOLDERS:
        yield train("--data", "own", prepare=prepare)
    yield train("--source", "sample", "--epochs", "0", "--out", "own", prepare=existing_run)
    yield train("--source", "sample", "--epochs", "0", "--out", "own/run", prepare=plain_file)
    yield train("--source", "sample", "--epochs", "0", "--out", "x" * 300)
    for name in ("", ".", "..", "/", "own.partial"):
        yield train("--source", "sample", "--epochs", "0", "--out", name)
    yield train("--data", "")
    yield train("--data", "own", "--source", "sample", prepare=animation)
    yield train("--data", "own", prepare=animation)
    yield Case("train", ["--resume", "no_such_run"])
    yield Case("train", ["--resume", "RUN"])
    for name in ("", ".", "/", "/nowhere/small"):
        yield Case("train", ["--resume", name])
    yield Case("train", ["--resume"])
    yield Case("train", ["--resume", "RUN", "--epochs", "7"])


def _tools() -> Iterator[Case]:
    yield Case("tools", [])
    yield Case("tools", ["manifld", "RUN"])
    yield Case("tools", ["list", "surplus"])
    commands = ("manifold", "animate", "evaluate", "samples", "reconstruct", "export")
    for command in commands:
        yield Case("tools", [command])
        yield Case("tools", [command, "no_such_run"])
        yield Case("tools", [command, "own"], no_images)
        yield Case("tools", [command, "RUN", "--no-such-flag"])
        if command != "evaluate":
            sample = ["--source", "sample"] if command == "reconstruct" else []
            yield Case("tools", [command, "RUN", *sample, "--out", "own/picture.png"], plain_file)
            yield Case("tools", [command, "RUN", *sample, "--out", "own"], existing_run)
    for command in ("manifold", "animate"):
        for flag, value in (
            ("--tiles", "0"), ("--tiles", "-3"), ("--tiles", "x"), ("--tiles", "100000"), ("--range", "0"),
            ("--range", "nan"), ("--range", "inf"), ("--range", "1e39"), ("--plane", "diagnal"), ("--scale", "-1"),
            ("--scale", "x"), ("--scale", "100000"),
        ):  # fmt: skip
            yield Case("tools", [command, "RUN", flag, value])
        for low, high in (("0", "1"), ("0.9", "0.1"), ("nan", "0.5"), ("0.5", "0.5")):
            yield Case("tools", [command, "RUN", "--quantiles", low, high])
        yield Case("tools", [command, "RUN", "--range", "2", "--quantiles", "0.1", "0.9"])
    for value in ("0", "5", "25", "1000000", "x"):
        yield Case("tools", ["animate", "RUN", "--frame-ms", value])
    for command in ("samples", "reconstruct"):
        for value in ("0", "-1", "x", "100000000000"):
            yield Case("tools", [command, "RUN", "--count", value])
    for value in ("x", "-1", "99999999999999999999"):
        yield Case("tools", ["samples", "RUN", "--seed", value])
    yield Case("tools", ["samples", "RUN", "--count", "100000", "--scale", "4"])
    yield Case("tools", ["samples", "RUN", "--count", "6000", "--scale", "1", "--out", "long.webp"])
    yield Case("tools", ["animate", "RUN", "--tiles", "2", "--out", "movie.mp4"])
    yield Case("tools", ["evaluate", "--samples", "1", "50", "RUN"])
    yield Case("tools", ["evaluate", "RUN", "--data-dir", "own"], animation)
    yield Case("tools", ["export", "RUN", "--out", "."])
    yield Case("tools", ["export", "RUN", "--out", ""])
    yield Case("tools", ["export", "faces_2", "--source", "sample"])
    yield Case("tools", ["samples", "RUN", "--out", "picture.nonsense"])
    yield Case("tools", ["reconstruct", "RUN", "--source", "nowhere"])
    for value in ("0", "-1", "x"):
        yield Case("tools", ["evaluate", "RUN", "--images", value])
        yield Case("tools", ["evaluate", "RUN", "--samples", value])
    yield Case("tools", ["evaluate", "RUN", "--source", "nowhere"])
    yield Case("tools", ["train"])
    yield Case("tools", ["train", "-l", "0"])
    yield Case("tools", ["resume"])
    yield Case("tools", ["resume", "no_such_run"])
    yield Case("tools", ["resume", "RUN"])
    for value in ("0", "-1", "x"):
        yield Case("tools", ["export", "RUN", "--examples", value])
