"""What each command does; ``train_VAE.py`` is ``vae train`` under its documented name.

Only the standard library is imported until a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import shlex
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_lib.cli.flags import main_parser, resuming_parser, training_parser
from vae_lib.cli.streams import forgiving_streams
from vae_lib.config import DATASETS, RunConfig, is_dataset
from vae_lib.errors import Fault, UserError, notice, one_line

INTERRUPTED = 130
EXAMPLES = 20  # test images in an exported page
SPIRAL_MS, FORMING_MS = 40, 150  # a frame of an animation
HELD = 10  # frames that an animation of a training stays at its end
MOST = 100_000  # images that a command takes at once
# What is wrong with a name or its permissions, and not with a disk.
NOT_THE_MACHINE = {
    errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EROFS,
}  # fmt: skip


def _guarded(prog: str, command: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Run a command; a `UserError` becomes one line on stderr."""
    with _without_windows(), forgiving_streams(), warnings.catch_warnings(), _noted_interrupts() as interrupted:
        warnings.simplefilter("ignore", DeprecationWarning)  # a developer's business, and no error here
        try:
            command(args)
        except UserError as error:
            print(f"{prog}: error: {one_line(error)}", file=sys.stderr)
            return error.exit_status
        except KeyboardInterrupt as stop:
            print(f"{prog}: interrupted; {stop}" if str(stop) else f"\n{prog}: interrupted.", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            if error.errno is None or interrupted:
                raise
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            print(f"{prog}: error: {one_line(where)}{error.strerror}.", file=sys.stderr)
            return 2 if error.errno in NOT_THE_MACHINE else 1
        except Exception:
            if interrupted:  # a library that was being imported has made something else of it
                print(f"\n{prog}: interrupted.", file=sys.stderr)
                return INTERRUPTED
            raise
        sys.stdout.flush()
        if getattr(sys.stdout, "lost", False) and command in (_list, _evaluate):  # which print and do nothing else
            print(f"{prog}: error: standard output is on a full disk.", file=sys.stderr)
            return 1
        return 0


@contextlib.contextmanager
def _without_windows() -> Iterator[None]:
    """Let matplotlib draw into files only, while a command runs."""
    before = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "agg"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = before


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """SIGINT raises KeyboardInterrupt as always, and is noted in the list.

    TensorFlow's C++ prints through `sys.excepthook` what an interrupt inside of it has become: not after one is noted.
    """
    noted: list[int] = []

    def handle(number: int, _frame: object) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    excepthook = sys.excepthook
    sys.excepthook = lambda *error: None if noted else excepthook(*error)
    signal.signal(signal.SIGINT, handle)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.excepthook = excepthook


def main(argv: Sequence[str] | None = None, prog: str = "vae") -> int:
    """``vae`` and, with another ``prog``, ``python -m vae_lib``; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = main_parser(COMMANDS, prog).parse_args(argv)
    args.command = shlex.join([*prog.split(), *argv])
    args.next_steps = {"resume": f"{prog} resume", "draw": f"{prog} manifold"}
    return _guarded(args.prog, args.run_command, args)


def train_main(argv: Sequence[str] | None = None) -> int:
    """``train_VAE.py``; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    resuming = any(word.split("=")[0] == "--resume" for word in argv) and not {"-h", "--help"} & set(argv)
    args = (resuming_parser() if resuming else training_parser()).parse_args(argv)
    args.command = shlex.join(["python3", "train_VAE.py", *argv])
    args.next_steps = {"resume": "python3 train_VAE.py --resume", "draw": "python -m vae_lib manifold"}
    return _guarded("train_VAE.py", _resume if resuming else _train, args)


# What a parsed command line holds beside the settings of a run.
NO_SETTINGS = {
    "strategy",
    "tensorboard",
    "out",
    "overwrite",
    "record",
    "command",
    "resume",
    "data_dir",
    "run_command",
    "prog",
    "next_steps",
}


def _train(args: argparse.Namespace) -> None:
    settings = {name: value for name, value in vars(args).items() if name not in NO_SETTINGS}
    config = RunConfig.from_flat(**settings)

    from vae_lib.runs import limits
    from vae_lib.runs.distribution import make_strategy
    from vae_lib.runs.lifecycle import train_run
    from vae_lib.runs.places import partial_path

    partial_path(config, args.out)  # a name that cannot be is refused before anything else
    strategy = make_strategy(args.strategy)  # first: it must come before all else in TensorFlow
    limits.check(config, 1)  # the weights alone, before any image is read
    from vae_lib.data.loading import load_data

    asked = config.data
    data = load_data(
        asked.name,
        config.model.im_dim,
        source=asked.source,
        channels=args.channels,
        hold_out_sample=asked.hold_out_sample,
        skip_broken=asked.skip_broken,
    )
    train = functools.partial(
        train_run,
        config,
        data,
        args.out,
        overwrite=args.overwrite,
        record=args.record,
        command=args.command,
        tensorboard=args.tensorboard,
    )
    _run(train, config, strategy, args.next_steps)


def _resume(args: argparse.Namespace) -> None:
    from vae_lib.runs.distribution import make_strategy
    from vae_lib.runs.lifecycle import resume_run
    from vae_lib.runs.places import find_unfinished
    from vae_lib.runs.store import read_config

    strategy = make_strategy(args.strategy)
    folder = find_unfinished(args.resume)
    config, _ = read_config(folder)
    data = _images_of(config, data_dir=args.data_dir, same=True)
    _run(functools.partial(resume_run, folder, data, tensorboard=args.tensorboard), config, strategy, args.next_steps)


def _images_of(config: RunConfig, source: str | None = None, data_dir: str | None = None, *, same: bool = False) -> Any:
    """The images of a run, from the source it had unless ``source`` names another; a folder may be ``data_dir`` now.

    With ``same`` only those that it was trained with will do; else the bundled sample will, where the full set is not.
    """
    from vae_lib.data.loading import fingerprint, load_data
    from vae_lib.files import user_path

    had, channels = config.data, config.model.channels
    if is_dataset(had.name):
        if data_dir is not None:
            raise UserError(f"--data-dir says where a folder of images lies now; this run was trained on {had.name}.")
        if source is None:
            source = "sample" if had.found == "sample" else had.source
        if same and source == "auto":
            source = "tfds"
        return load_data(
            had.name,
            config.model.im_dim,
            source=source,
            channels=channels,
            hold_out_sample=same and had.hold_out_sample,
        )
    if not had.name and data_dir is None:
        raise UserError("this run does not know where its images are: give the folder that holds them as --data-dir.")
    if source is not None:
        raise UserError("--source is for mnist, fashion_mnist and faces: a folder of images is named by --data-dir.")
    place = Path(had.name) if data_dir is None else user_path(data_dir, "--data-dir")
    if data_dir is None and not os.path.isdir(place):
        raise UserError(f"its images are no longer in {place}: say where they lie now with --data-dir.")
    data = load_data(place, config.model.im_dim, channels=channels, skip_broken=had.skip_broken)
    if data.train_images.shape[1:] != config.model.image_shape:
        raise UserError(f"the run takes images of shape {config.model.image_shape}, not {data.train_images.shape[1:]}.")
    if not same and had.fingerprint not in ("", fingerprint(data)):
        notice("these are not the images that the run was trained with, or they have changed.")
        data = data._replace(label_names=())  # the names of the run's classes may be others
    return data


def _run(train: Callable[..., Any], config: RunConfig, strategy: Any, next_steps: Mapping[str, str]) -> None:
    """Train with a progress bar, and say where the run is and how to go on with it."""
    from vae_lib.cli.progress import EpochBars
    from vae_lib.runs.lifecycle import Interrupted
    from vae_lib.runs.places import display_name

    bars = EpochBars(config.training.epochs)
    try:
        folder = train(report=bars.report, after_epoch=bars.close, strategy=strategy)
    except Interrupted as stop:
        bars.abandon()
        raise KeyboardInterrupt(
            f"saved; go on with: {next_steps['resume']} {_typed(display_name(stop.folder))}"
        ) from None
    print(f"saved {folder}; draw its manifold with: {next_steps['draw']} {_typed(display_name(folder))}")


def _typed(name: str) -> str:
    """A run's name as one types it in a shell."""
    return shlex.quote(f"./{name}" if name.startswith("-") else name)


def _list(args: argparse.Namespace) -> None:
    from vae_lib.runs.places import list_runs, project_dir

    print("\n".join(list_runs()) or f"no runs under {project_dir('pickles')} yet: train one first")


def _manifold(args: argparse.Namespace) -> None:
    from vae_lib import figures, latent, pictures
    from vae_lib.runs.store import load_run

    values = latent.axis_values(args.tiles, extent=args.range, quantiles=args.quantiles)
    run = load_run(args.run)
    picture = pictures.manifold(run.model, values, encodings=run.encodings, plane=args.plane)
    picture = figures.enlarge(picture, 1 if args.scale is None else args.scale)
    print(f"wrote {figures.write_image(_picture_path(run, '.png', args.out), picture)}")


def _animate(args: argparse.Namespace) -> None:
    from vae_lib import figures, latent, pictures
    from vae_lib.runs.store import load_run

    values = latent.axis_values(args.tiles, extent=args.range, quantiles=args.quantiles)
    run = load_run(args.run)
    if args.training:
        frames = _frames_of_training(run, args)
        name, frame_ms = "_training.gif", FORMING_MS
    else:
        scale = _default_scale(run.config.model.im_dim) if args.scale is None else args.scale
        frames = pictures.spiral_frames(run.model, values, encodings=run.encodings, plane=args.plane, scale=scale)
        name, frame_ms = ".gif", SPIRAL_MS
    frame_ms = frame_ms if args.frame_ms is None else args.frame_ms
    print(f"wrote {figures.write_gif(_picture_path(run, name, args.out), frames, frame_ms=frame_ms)}")


def _frames_of_training(run: Any, args: argparse.Namespace) -> Any:
    """The plane at each recorded moment, and at the last one for a while."""
    import numpy as np

    from vae_lib import figures
    from vae_lib.runs.planes import read_planes

    flags = {"--tiles": args.tiles != 40, "--range": args.range, "--quantiles": args.quantiles}
    flags["--plane"] = args.plane != "auto"
    if given := [flag for flag, value in flags.items() if value]:
        raise UserError(f"{given[0]} is not for --training, which shows the pictures that were recorded.")
    planes = read_planes(run.path)
    if planes is None or not planes.pictures:
        raise UserError(f"the training of {run.name} was not recorded: train a run with --record.")
    frames = [figures.enlarge(picture, 1 if args.scale is None else args.scale) for picture in planes.pictures]
    return np.stack([*frames, *frames[-1:] * HELD])


def _default_scale(im_dim: int) -> int:
    """How often an image of that side is enlarged so that people can see it: 28 pixels to 112."""
    return max(1, round(112 / im_dim)) if im_dim < 64 else 1


def _picture_path(run: Any, suffix: str, out: str | None) -> Path:
    """``out``, or the run's name under ``img/``."""
    from vae_lib.runs.places import project_dir

    return Path(out) if out is not None else project_dir("img") / f"{run.name}{suffix}"


def _evaluate(args: argparse.Namespace) -> None:
    from vae_lib import pictures, report
    from vae_lib.evaluation import evaluate
    from vae_lib.runs.store import load_run

    for k in args.samples:
        _count("--samples", k)
    if args.images is not None:
        _count("--images", args.images)
    if args.refine:
        _count("--refine", args.refine)
    run = load_run(args.run)
    config = run.config
    data = _images_of(config, args.source, args.data_dir)
    exact = config.model.latent_dim == 2 and not args.no_exact
    if exact and config.model.likelihood == "discretized_logistic":
        notice("log p(x) of each image is integrated, which takes seconds for each: --no-exact leaves it out.")
    images = data.test_images
    if args.images is not None:  # taking turns through the labels, by which a set may be sorted
        images = images[pictures.spread_indices(data.test_labels, args.images)]
    numbers = evaluate(run.model, images, samples=args.samples, exact=exact, refine=args.refine, progress=True)
    print(f"{args.run}: {len(images)} test images of {report.describe_task(config, data.source)}; nats per image")
    print("\n".join(report.evaluation_lines(config.model, numbers)))
    comparable = data.source == config.data.found and "train" in run.metrics
    for line in report.verdict(config.model, numbers, run.metrics["train"] if comparable else None) or [
        "nothing is off."
    ]:
        print(f"verdict: {line}")


def _samples(args: argparse.Namespace) -> None:
    from vae_lib import figures, pictures
    from vae_lib.runs.store import load_run

    run = load_run(args.run)
    _check_tiles(run, _count("--count", args.count), args)
    picture = pictures.samples(run.model, args.count, seed=args.seed)
    _write_tiles(run, "samples", picture, args, figures)


def _reconstruct(args: argparse.Namespace) -> None:
    from vae_lib import figures, pictures
    from vae_lib.runs.store import load_run

    run = load_run(args.run)
    count = _count("--count", args.count)
    data = _images_of(run.config, args.source, args.data_dir)
    images = data.test_images[pictures.spread_indices(data.test_labels, count)]
    _write_tiles(run, "reconstructions", pictures.reconstructions(run.model, images), args, figures)


def _write_tiles(run: Any, kind: str, picture: Any, args: argparse.Namespace, figures: Any) -> None:
    from vae_lib.runs.places import project_dir

    out = project_dir("img") / f"{kind}_{run.name}.png" if args.out is None else args.out
    print(f"wrote {figures.write_image(out, figures.enlarge(picture, _tile_scale(run, args)))}")


def _tile_scale(run: Any, args: argparse.Namespace) -> int:
    return (2 if run.config.model.im_dim < 64 else 1) if args.scale is None else args.scale


def _check_tiles(run: Any, count: int, args: argparse.Namespace) -> None:
    """Refuse a picture that is too large before its tiles are decoded."""
    from vae_lib import figures

    figures.check_pixels(count * (run.config.model.im_dim * _tile_scale(run, args)) ** 2)


def _export(args: argparse.Namespace) -> None:
    from vae_lib.page import export
    from vae_lib.runs.store import load_run

    run = load_run(args.run)
    if args.keras or args.savedmodel or args.onnx:
        if args.source is not None or args.data_dir is not None or args.examples != EXAMPLES:
            raise UserError("--source, --data-dir and --examples are for the HTML file, which shows images.")
        from vae_lib import exporting

        if args.savedmodel:
            out = f"{run.name}_savedmodel" if args.out is None else args.out
            print(f"wrote {exporting.write_saved_model(run.model, out)}")
        elif args.onnx:
            made = exporting.write_onnx(run.model, f"{run.name}.onnx" if args.out is None else args.out)
            print(f"wrote {' and '.join(map(str, made))}")
        else:
            whole, decoder = exporting.write_keras(run.model, f"{run.name}.keras" if args.out is None else args.out)
            print(f"wrote {whole} and {decoder}")
        return
    # The sample's faces are cropped more widely than those of LFW, and an encoder misreads them.
    config = run.config
    data = None
    if config.data.name == "faces":
        if args.source is not None or args.data_dir is not None:
            raise UserError("the page of a run on faces shows none of them: leave --source and --data-dir off.")
    else:
        source = args.source or ("sample" if config.data.name in DATASETS else None)
        data = _images_of(config, source, args.data_dir) if config.data.name or args.data_dir is not None else None
    page = export.run_page(run, data, examples=_count("--examples", args.examples))
    path = export.write_page(f"{run.name}.html" if args.out is None else args.out, page)
    print(f"wrote {path} ({len(page) / 1e6:.1f} MB)")


def _check(args: argparse.Namespace) -> None:
    from vae_lib import classroom
    from vae_lib.files import user_path, write_atomically

    for flag, value in (("--seconds", args.seconds), ("--gigabytes", args.gigabytes)):
        if not 0 < value < 1e6:
            raise UserError(f"{flag} must be above 0 and below 1,000,000, not {value:g}.")
    out = None if args.csv is None else user_path(args.csv, "--csv")
    folder = user_path(args.folder, "the folder")
    if out is not None:
        if not out.parent.is_dir() or out.is_dir():
            raise UserError(
                f"{out if out.is_dir() else out.parent} is {'a' if out.is_dir() else 'no'} folder: --csv "
                "needs the name of a file in one that is there."
            )
        if out.suffix.lower() in classroom.SUFFIXES:
            raise UserError(f"--csv {out} looks like an answer: give another name.")
        try:
            with tempfile.TemporaryFile(dir=out.parent):
                pass
        except OSError as error:
            raise UserError(f"--csv {out} cannot be written: {error.strerror}.") from None
    if folder.is_dir() and (others := classroom.left_out(folder)):
        shown = ", ".join(map(one_line, others[:10])) + (f" and {len(others) - 10} more" if len(others) > 10 else "")
        print(f"left out: {shown}", file=sys.stderr)

    def tell(found: classroom.Grade) -> None:
        print(f"{found.name}: {len(found.passed)} of {found.total} {found.remark}".rstrip(), file=sys.stderr)

    grades = classroom.grade(
        folder,
        against=None if args.against is None else user_path(args.against, "--against"),
        seconds=args.seconds,
        gigabytes=args.gigabytes,
        jobs=_count("--jobs", args.jobs),
        tell=tell,
    )
    print(classroom.table(grades))
    if out is not None:
        try:
            write_atomically(out, classroom.as_csv(grades).encode())
        except OSError as error:
            raise Fault(f"cannot write {out}: {error.strerror}.") from None


def _count(flag: str, value: int) -> int:
    if not 1 <= value <= MOST:
        raise UserError(f"{flag} must be from 1 to {MOST:,}, not {value:,}.")
    return value


COMMANDS = {
    "train": _train,
    "resume": _resume,
    "list": _list,
    "manifold": _manifold,
    "animate": _animate,
    "evaluate": _evaluate,
    "samples": _samples,
    "reconstruct": _reconstruct,
    "check": _check,
    "export": _export,
}
