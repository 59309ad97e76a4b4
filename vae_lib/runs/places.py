"""Where runs lie and how they are named: ``pickles/NAME``, and ``NAME.partial`` while it is being made."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from vae_lib.config import RunConfig, is_dataset
from vae_lib.errors import UserError, one_of
from vae_lib.files import real_path, user_path

PARTIAL = ".partial"
SHIPPED = Path(__file__).resolve().parents[1] / "shipped"  # the runs that come with an installed package


def project_dir(name: str) -> Path:
    """The project's folder ``name`` ('pickles', 'img').

    It lies under ``VAE_LIB_HOME`` where that is set, beside the package in a checkout, else in the current folder.
    """
    if home := os.environ.get("VAE_LIB_HOME"):
        return user_path(home) / name
    checkout = Path(__file__).resolve().parents[2]
    return checkout / name if os.path.isfile(checkout / "train_VAE.py") else Path(name)


def default_name(config: RunConfig, now: datetime) -> str:
    """A run's name from the time, the data and the latent dimensions: 20260131-235959_mnist_2."""
    name = config.data.name
    data = re.sub("[:/]", "_", name) if is_dataset(name) else real_path(Path(name)).name or "images"
    return f"{now:%Y%m%d-%H%M%S}_{data}_{config.model.latent_dim}"


def partial_path(config: RunConfig, out: str | os.PathLike[str] | None) -> Path:
    """The folder that a run grows in: ``out`` (or the default name under ``pickles/``) with ``.partial``.

    Raises `UserError`.
    """
    if out is None:
        wanted = project_dir("pickles") / default_name(config, datetime.now())
    else:
        wanted = user_path(out, "the run's folder")
    if wanted.name in ("", "..") or wanted.name.endswith(PARTIAL):
        raise UserError(f"a run cannot be called {str(out)!r}: give it another name, which does not end in {PARTIAL}.")
    return wanted.with_name(wanted.name + PARTIAL)


def final_path(partial: Path) -> Path:
    """The folder that a finished run has."""
    return partial.with_name(partial.name.removesuffix(PARTIAL))


def display_name(folder: Path) -> str:
    """How a user names a run: its name if it lies under ``pickles/``, else its path; without ``.partial``."""
    folder = final_path(folder)
    known = (real_path(project_dir("pickles")), real_path(SHIPPED))
    return folder.name if real_path(folder.parent) in known else str(folder)


def find_unfinished(name_or_path: str | os.PathLike[str]) -> Path:
    """The ``.partial`` folder of a run given by name or path, with or without that ending; raises `UserError`."""
    places = _places(name_or_path)
    found: list[Path] = []
    for place in places:
        folder = place.with_name(place.name.removesuffix(PARTIAL) + PARTIAL)
        if os.path.isfile(folder / "config.json") and real_path(folder) not in map(real_path, found):
            found.append(folder)
    if len(found) > 1:
        raise UserError(f"there are two unfinished runs of that name, {found[0]} and {found[1]}: give a path.")
    if found:
        return found[0]
    if any(os.path.isfile(place / "config.json") for place in places):
        raise UserError(
            f"run {name_or_path} is finished: there is nothing to resume (an unfinished one has a name in {PARTIAL})."
        )
    raise UserError(f"there is no unfinished run {name_or_path}: see what lies under {project_dir('pickles')}.")


def is_bare(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether this is a name alone, ``mine`` or ``mine/``, and not a path such as ``./mine``."""
    name = os.fspath(name_or_path).rstrip("/" + os.sep)
    return name == user_path(name_or_path, "a run").name != ".."


def _places(name_or_path: str | os.PathLike[str]) -> list[Path]:
    """Where a run that was given by name or path can lie: a bare name may be one under ``pickles/``."""
    given = user_path(name_or_path, "a run")
    if given.name in ("", ".."):
        given = real_path(given)
    if not given.name:  # the root of a disk
        return []
    if is_bare(name_or_path):
        return [given, project_dir("pickles") / given, SHIPPED / given]
    return [given]


def find_run(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a run given as a path or as a name under ``pickles/``; raises `UserError`.

    A name that fits a run in the current folder and another one under ``pickles/`` is refused.
    """
    places = _places(name_or_path)
    found = [folder for folder in places if os.path.isfile(folder / "config.json")]
    if found and found[0] == places[0] and real_path(found[-1]) != real_path(found[0]):
        raise UserError(f"there are two runs of that name, .{os.sep}{found[0]} and {found[1]}: give a path.")
    if found:
        return found[0]
    if any(os.path.isfile(folder.with_name(folder.name + PARTIAL) / "config.json") for folder in places):
        raise UserError(f"run {name_or_path} is not finished: vae resume {name_or_path} goes on with it.")
    if not is_bare(name_or_path):
        raise UserError(f"there is no run at {name_or_path}: a run's folder holds a config.json.")
    runs = tuple(list_runs())
    if not runs:
        raise UserError(
            f"run {str(name_or_path)!r} is unknown, and there are no runs under {project_dir('pickles')}: train one, "
            "or set VAE_LIB_HOME to a checkout of the project, which ships some."
        )
    one_of("run", str(name_or_path), runs)
    raise UserError(f"run {name_or_path} has no config.json.")


def list_runs(root: str | os.PathLike[str] | None = None) -> list[str]:
    """The names of the finished runs under ``root``, sorted; by default under ``pickles/``, and of those shipped.

    Raises `UserError` where ``root`` is no path.
    """
    roots = [project_dir("pickles"), SHIPPED] if root is None else [user_path(root, "a folder")]
    found = {path.parent.name for place in roots for path in place.glob("*/config.json")}
    return sorted(name for name in found if not name.endswith(PARTIAL))
