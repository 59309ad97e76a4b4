"""The command lines: ``train_VAE.py`` trains, ``python -m vae_lib`` works with what was trained.

Only the standard library is imported until a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from vae_lib.config import BINARIZATIONS, LIKELIHOODS, MODES, SCHEDULES, UserError, VAEConfig

BAD_INPUT = 2


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that answers bad input with one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message}\n")


class _Help(argparse.HelpFormatter):
    """Help that names a default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, argparse.SUPPRESS) or not action.option_strings:
            return action.help
        return f"{action.help} (default: %(default)s)"


def _guarded(prog: str, command: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Run a command; a `UserError` becomes one line on stderr."""
    try:
        command(args)
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted.", file=sys.stderr)
        return 130
    return 0


# ---- train_VAE.py ------------------------------------------------------------------------------------------


def training_parser() -> argparse.ArgumentParser:
    """The parser of ``train_VAE.py``: the documented interface, and a group of further options."""
    parser = _Parser(
        prog="train_VAE.py",
        description="Train a variational auto-encoder and save it as a run under pickles/.",
        formatter_class=_Help,
    )
    add = parser.add_argument
    add(
        "--data",
        default="mnist",
        metavar="DATA",
        help="'mnist', 'fashion_mnist', 'faces', or a folder of your own images",
    )
    add("--learning-rate", type=float, default=0.001, help="step size of the Adam optimizer")
    add("--epochs", type=int, default=5, help="passes over the training images")
    add("--batch-size", type=int, default=50, help="images per gradient step")
    add("--im-dim", type=int, default=28, help="square size of the input images in pixels")
    add("--num-filters", type=int, default=32, help="filters of the convolutional layers")
    add(
        "-l",
        "--latent-dimensions",
        type=int,
        required=True,
        dest="latent_dim",
        metavar="D",
        help="dimensions of the latent space",
    )
    more = parser.add_argument_group("further options").add_argument
    more("--seed", type=int, default=0, help="where all random numbers start from")
    more("--mode", default="graph", metavar="MODE", help=f"how the steps run: {', '.join(MODES)}")
    more(
        "--likelihood",
        metavar="NAME",
        help=f"of a pixel: {', '.join(LIKELIHOODS)} (default: bernoulli for mnist, a grey one otherwise)",
    )
    more(
        "--binarize",
        metavar="HOW",
        help=f"pixels to bits: {', '.join(BINARIZATIONS)} (default: threshold for bernoulli, else none)",
    )
    more("--beta", type=float, default=1.0, help="weight of the KL term while training")
    more(
        "--beta-start",
        type=float,
        help="weight it starts with, reaching --beta after half of the training "
        "(default: --beta for bernoulli, else 20 times as much)",
    )
    more("--schedule", default="cosine", metavar="NAME", help=f"of the learning rate: {', '.join(SCHEDULES)}")
    more("--hidden-units", type=int, default=256, help="units of the dense layers")
    more(
        "--source",
        default="auto",
        metavar="SOURCE",
        help="'auto', 'tfds', 'sample', or a folder of data sets prepared by TensorFlow Datasets",
    )
    more("--hold-out-sample", action="store_true", help="train on no image of the bundled sample")
    more("--out", metavar="FOLDER", help="the run's folder (default: a new one under pickles/)")
    more("--overwrite", action="store_true", help="replace the run in --out")
    return parser  # fmt: skip


def train_main(argv: Sequence[str] | None = None) -> int:
    """The door of ``train_VAE.py``; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = training_parser().parse_args(argv)
    args.command = shlex.join(["python3", "train_VAE.py", *argv])
    return _guarded("train_VAE.py", _train, args)


def _train(args: argparse.Namespace) -> None:
    options = vars(args) | {}
    out, overwrite, command = (options.pop(name) for name in ("out", "overwrite", "command"))
    config = VAEConfig(**options)

    from vae_lib.data import load_data

    data = load_data(config.data, config.im_dim, source=config.source, hold_out_sample=config.hold_out_sample)

    from vae_lib.progress import EpochBars
    from vae_lib.runs import project_dir
    from vae_lib.train import train_run

    bars = EpochBars(len(data.train_images), config)
    folder = train_run(
        config, data, out, overwrite=overwrite, command=command, report=bars.report, after_epoch=bars.close
    )
    name = folder.name if folder.parent == project_dir("pickles") else str(folder)
    print(f"saved {folder}; draw its manifold with: python -m vae_lib manifold {shlex.quote(name)}")


# ---- python -m vae_lib -------------------------------------------------------------------------------------


def tools_parser() -> argparse.ArgumentParser:
    """The parser of ``python -m vae_lib``."""
    parser = _Parser(prog="python -m vae_lib", description="Pictures and numbers of trained runs.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> Callable[..., Any]:
        sub = commands.add_parser(name, help=text, description=text.capitalize() + ".",
                                  formatter_class=_Help)  # fmt: skip
        sub.set_defaults(run_command=run, prog=sub.prog)
        return sub.add_argument

    command("list", _list, "list the runs under pickles/")
    for name, run, text, suffix in (
        ("manifold", _manifold, "draw the decoded latent plane as one picture", "png"),
        ("animate", _animate, "animate a spiral through the decoded latent plane", "gif"),
    ):
        add = command(name, run, text)
        add("run", help="a run's name under pickles/, or its folder")
        add("--tiles", type=int, default=40, metavar="N", help="tiles along each side")
        add(
            "--range",
            type=float,
            dest="extent",
            metavar="R",
            default=None,
            help="equal steps from -R to R, in standard deviations of the prior",
        )
        add(
            "--quantiles",
            type=float,
            nargs=2,
            metavar=("LOW", "HIGH"),
            default=None,
            help="equal steps of the prior's probability (default: 0.025 0.975)",
        )
        add(
            "--plane",
            default="auto",
            metavar="PLANE",
            help="above two dimensions: 'diagonal', 'principal' (of the encoded test set), or 'auto'",
        )
        add("--scale", type=int, default=None, metavar="S", help="enlarge each tile S times")
        add("--out", metavar="FILE", default=None, help=f"where to write (default: img/RUN.{suffix})")
        if name == "animate":
            add("--frame-ms", type=int, default=40, metavar="MS", help="milliseconds a frame, at least 20")
    return parser  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The door of ``python -m vae_lib``; returns the exit status."""
    args = tools_parser().parse_args(argv)
    return _guarded(args.prog, args.run_command, args)


def _list(args: argparse.Namespace) -> None:
    from vae_lib.runs import list_runs

    print("\n".join(list_runs()) or "no runs yet: train one with train_VAE.py")


def _manifold(args: argparse.Namespace) -> None:
    from vae_lib import figures, gallery, latent
    from vae_lib.runs import load_run

    values = latent.axis_values(args.tiles, extent=args.extent, quantiles=args.quantiles)
    run = load_run(args.run)
    picture = figures.enlarge(gallery.manifold(run, values, plane=args.plane), args.scale or 1)
    print(f"wrote {figures.write_image(gallery.picture_path(run, '.png', args.out), picture)}")


def _animate(args: argparse.Namespace) -> None:
    from vae_lib import figures, gallery, latent
    from vae_lib.runs import load_run

    values = latent.axis_values(args.tiles, extent=args.extent, quantiles=args.quantiles)
    run = load_run(args.run)
    scale = args.scale or gallery.default_scale(run.config.im_dim)
    frames = gallery.spiral_frames(run, values, plane=args.plane, scale=scale)
    path = figures.write_gif(gallery.picture_path(run, ".gif", args.out), frames, frame_ms=args.frame_ms)
    print(f"wrote {path}")
