"""Folders of images of your own."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from vae_lib.data.decoding import decode, in_order
from vae_lib.data.sources import Example, Images, in_test_set
from vae_lib.errors import UserError, notice

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
NAMED = 5  # files that cannot be used are named before they are only counted


class Listing(NamedTuple):
    """The images below a folder, sorted by their paths, and how many files of each other kind there are."""

    folder: Path
    files: list[Path]
    left_out: Counter[str]

    @property
    def key(self) -> str:
        """Hex digits for the folder, a dot, and hex digits that change with the path, size or time of any file.

        Raises `UserError` where a file is gone.
        """
        place = hashlib.blake2b(os.fsencode(os.path.realpath(self.folder)), digest_size=8)
        files = place.copy()
        for file in self.files:
            try:
                found = file.stat()
            except OSError as error:
                raise UserError(f"{file} cannot be read ({error.strerror}).") from None
            files.update(os.fsencode(file) + f" {found.st_size} {found.st_mtime_ns}\n".encode())
        return f"{place.hexdigest()}.{files.hexdigest()}"

    def describe(self, images: int, classes: int) -> str:
        """What was found, for people: so many ``images`` could be used."""
        found = f"{images:,} images in " + ("1 class" if classes == 1 else f"{classes:,} classes")
        kinds = dict(self.left_out)
        if images < len(self.files):
            kinds["that cannot be used"] = len(self.files) - images
        others = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        return f"{self.folder}: {found}" + (f"; left out: {others}." if others else ".")


def list_folder(folder: Path) -> Listing:
    """Every image below ``folder``; links are followed. Hidden files and folders are left out, as is what is no image.

    Raises `UserError`.
    """
    files, left_out = _image_files(folder)
    if len(files) < 2:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{folder} holds too few images ({kinds}): {len(files)} of at least 2.")
    return Listing(folder, files, left_out)


def read_folder(listing: Listing, im_dim: int, channels: int | None = None, *, skip_broken: bool = False) -> Images:
    """The images of a folder, all grey or all RGB; each one's sub-folder is its label.

    About one file in ten, chosen by its name, is held out (at least one on either side). Images are turned upright as
    their cameras noted, resized to a square, and converted to so many ``channels`` where they are given. The first file
    that cannot be used raises a `UserError` that names it; with ``skip_broken`` such files are named and left out.
    """
    folder, files, _ = listing
    names = [file.relative_to(folder).as_posix() for file in files]
    held_out = np.array([in_test_set(name) for name in names])
    if held_out.all() or not held_out.any():  # too few files for chance: hold the last one out
        held_out = np.arange(len(names)) == len(names) - 1

    def attempt(file: Path) -> np.ndarray | UserError:
        try:
            return decode(file, im_dim, channels)
        except UserError as error:
            return error

    def examples() -> Iterator[Example]:
        broken, first = 0, None
        waiting: Example | None = None
        sides: set[bool] = set()
        for i, found in enumerate(in_order(attempt, files)):
            if isinstance(found, UserError):
                if not skip_broken:
                    raise UserError(f"{str(found).rstrip('.')}; skip_broken (--skip-broken) leaves such files out.")
                broken += 1
                if broken <= NAMED:
                    notice(f"left out: {found}")
                continue
            first = first or (files[i].name, found.shape)
            if found.shape != first[1]:
                kinds = ["grey" if shape[-1] == 1 else "RGB" for shape in (first[1], found.shape)]
                raise UserError(
                    f"{folder} mixes kinds of images, {kinds[0]} ({first[0]}) and {kinds[1]} ({files[i].name}): "
                    "channels (--channels) of 1 or 3 converts them all to grey or to RGB."
                )
            if waiting is not None:
                yield waiting
                sides.add(waiting.held_out)
            waiting = Example(found, str(Path(names[i]).parent), bool(held_out[i]))
        if broken > NAMED:
            notice(f"left out: {broken - NAMED:,} more files that cannot be used.")
        if len(files) - broken < 2 or waiting is None:
            raise UserError(f"{folder} holds {len(files) - broken} images that can be used; it needs 2.")
        # Where broken files were all that one side had, it gets the last image.
        yield waiting if len(sides) == 2 else waiting._replace(held_out=sides == {False})

    return Images(len(files), examples, None)


def _image_files(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The images below a folder, and how many files of each other kind there are; a linked folder is entered once."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder.")

    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): make it readable, or move it away.")

    def is_file(path: Path) -> bool:
        try:
            return path.is_file()
        except OSError as error:  # in a folder whose names can be read, but not what they name
            return refuse(error)

    found: list[Path] = []
    others: Counter[str] = Counter()
    entered = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        hidden = [name for name in (*folders, *files) if name.startswith(".")]
        others["hidden"] += len(hidden)
        inside = [Path(place, name) for name in folders if name not in hidden]
        folders.clear()
        for inner in sorted(inside, key=lambda path: (path.is_symlink(), path)):  # a link gives way to the folder
            if (real := os.path.realpath(inner)) not in entered:
                entered.add(real)
                folders.append(inner.name)
        for path in (Path(place, name) for name in files if name not in hidden):
            if path.suffix.lower() in IMAGE_SUFFIXES and is_file(path):
                found.append(path)
            else:
                others[path.suffix.lower() or "without an ending"] += 1
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix()), +others
