"""The two doors: ``train_VAE.py`` trains, ``python -m vae_lib`` works with what was trained.

Only the standard library is imported until a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vae_lib.config import UserError, VAEConfig
from vae_lib.flags import resuming_parser, tools_parser, training_parser

INTERRUPTED = 130


def _guarded(prog: str, command: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Run a command; a `UserError` becomes one line on stderr."""
    try:
        command(args)
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt as stop:
        print(f"{prog}: interrupted; {stop}" if str(stop) else f"\n{prog}: interrupted.", file=sys.stderr)
        return INTERRUPTED
    return 0


def train_main(argv: Sequence[str] | None = None) -> int:
    """The door of ``train_VAE.py``; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    resuming = any(word.split("=")[0] == "--resume" for word in argv) and not {"-h", "--help"} & set(argv)
    args = (resuming_parser() if resuming else training_parser()).parse_args(argv)
    args.command = shlex.join(["python3", "train_VAE.py", *argv])
    return _guarded("train_VAE.py", _resume if resuming else _train, args)


def _train(args: argparse.Namespace) -> None:
    options = vars(args) | {}
    strategy_name, out, overwrite, command, _ = (
        options.pop(name) for name in ("strategy", "out", "overwrite", "command", "resume")
    )
    config = VAEConfig(**options)

    from vae_lib.distribution import make_strategy
    from vae_lib.train import train_run

    strategy = make_strategy(strategy_name)  # first: it must come before all else in TensorFlow
    data = _load(config)
    _run(lambda **more: train_run(config, data, out, overwrite=overwrite, command=command, **more), config, strategy)


def _resume(args: argparse.Namespace) -> None:
    from vae_lib.distribution import make_strategy
    from vae_lib.runs import find_unfinished, read_config
    from vae_lib.train import resume_run

    strategy = make_strategy(args.strategy)
    folder = find_unfinished(args.resume)
    config, _ = read_config(folder)
    data = _load(config)
    _run(lambda **more: resume_run(folder, data, command=args.command, **more), config, strategy)


def _load(config: VAEConfig) -> Any:
    from vae_lib.data import load_data

    return load_data(config.data, config.im_dim, source=config.source, hold_out_sample=config.hold_out_sample)


def _run(train: Callable[..., Any], config: VAEConfig, strategy: Any) -> None:
    """Train with a progress bar, and say where the run is and how to go on with it."""
    from vae_lib.progress import EpochBars
    from vae_lib.runs import display_name
    from vae_lib.train import Interrupted

    bars = EpochBars(config.epochs)
    try:
        folder = train(report=bars.report, after_epoch=bars.close, strategy=strategy)
    except Interrupted as stop:
        bars.abandon()
        name = shlex.quote(display_name(stop.folder))
        raise KeyboardInterrupt(f"saved; go on with: python3 train_VAE.py --resume {name}") from None
    name = shlex.quote(display_name(folder))
    print(f"saved {folder}; draw its manifold with: python -m vae_lib manifold {name}")


def main(argv: Sequence[str] | None = None) -> int:
    """The door of ``python -m vae_lib``; returns the exit status."""
    args = tools_parser(COMMANDS).parse_args(argv)
    return _guarded(args.prog, args.run_command, args)


def _list(args: argparse.Namespace) -> None:
    from vae_lib.runs import list_runs

    print("\n".join(list_runs()) or "no runs yet: train one with train_VAE.py")


def _manifold(args: argparse.Namespace) -> None:
    from vae_lib import figures, gallery, latent
    from vae_lib.runs import load_run

    values = latent.axis_values(args.tiles, extent=args.range, quantiles=args.quantiles)
    run = load_run(args.run)
    picture = figures.enlarge(gallery.manifold(run, values, plane=args.plane), args.scale or 1)
    print(f"wrote {figures.write_image(gallery.picture_path(run, '.png', args.out), picture)}")


def _animate(args: argparse.Namespace) -> None:
    from vae_lib import figures, gallery, latent
    from vae_lib.runs import load_run

    values = latent.axis_values(args.tiles, extent=args.range, quantiles=args.quantiles)
    run = load_run(args.run)
    scale = args.scale or gallery.default_scale(run.config.im_dim)
    frames = gallery.spiral_frames(run, values, plane=args.plane, scale=scale)
    path = figures.write_gif(gallery.picture_path(run, ".gif", args.out), frames, frame_ms=args.frame_ms)
    print(f"wrote {path}")


COMMANDS = {"list": _list, "manifold": _manifold, "animate": _animate}
