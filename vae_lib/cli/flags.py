"""The flags of every command, as tables. Only the standard library is imported."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from vae_lib import __version__
from vae_lib.config import BINARIZATIONS, LIKELIHOODS, MODES, OBJECTIVES, PRECISIONS, SCHEDULES
from vae_lib.errors import one_line

BAD_INPUT = 2
Row = tuple[str, Any, Any, str, str]  # flags, type, default, metavar, help

# The documented interface of train_VAE.py.
DOCUMENTED: list[Row] = [
    ("--data", str, "mnist", "DATA", "'mnist', 'fashion_mnist', 'faces', 'tfds:NAME' (any other of TFDS), or a folder"),
    ("--learning-rate", float, 0.001, "RATE", "step size of the Adam optimizer"),
    ("--epochs", int, 5, "N", "passes over the training images"),
    ("--batch-size", int, 50, "N", "images per gradient step"),
    ("--im-dim", int, 28, "PIXELS", "square size of the input images in pixels"),
    ("--num-filters", int, 32, "N", "filters of the convolutional layers"),
]
FURTHER: list[Row] = [
    ("--seed", int, 0, "N", "where all random numbers start from"),
    ("--mode", str, "graph", "MODE", f"how the steps run: {', '.join(MODES)}"),
    ("--likelihood", str, None, "NAME", f"{', '.join(LIKELIHOODS)} (default: the first for mnist, else the second)"),
    ("--binarize", str, None, "HOW", f"pixels to bits: {', '.join(BINARIZATIONS)} (default: by likelihood)"),
    ("--beta", float, 1.0, "X", "weight of the KL term while training"),
    ("--beta-start", float, None, "X", "what --beta starts from, for half of training (default: by likelihood)"),
    ("--precision", str, "float32", "NAME", f"of the layers' arithmetic: {', '.join(PRECISIONS)}"),
    ("--weight-decay", float, 0.0, "X", "shrink weights by this share of the learning rate at each step"),
    ("--schedule", str, "cosine", "NAME", f"of the learning rate: {', '.join(SCHEDULES)}"),
    ("--hidden-units", int, 256, "N", "units of the dense layers"),
    ("--encoder-layers", int, 1, "N", "dense layers of the encoder before its head"),
    ("--objective", str, "elbo", "NAME", f"what training ascends: {', '.join(OBJECTIVES)} (2 dimensions, no encoder)"),
    ("--importance-samples", int, 1, "K", "above 1: train on the importance-weighted bound of K samples"),
    ("--grid-side", int, 56, "N", "codes along a side of the grid that the marginal objective sums over"),
    ("--patience", int, 0, "EPOCHS", "stop after this many without a better validation ELBO, keep the best; 0: never"),
    ("--checkpoint-every", int, 0, "STEPS", "checkpoint within epochs too; 0: after each epoch only"),
    (
        "--channels",
        int,
        None,
        "C",
        "convert images of a folder or tfds:NAME to grey (1) or RGB (3) (default: as they are)",
    ),
    ("--source", str, "auto", "SOURCE", "'auto', 'tfds', 'sample', or a folder that TensorFlow Datasets prepared"),
    ("--out", str, None, "FOLDER", "the run's folder (default: a new one under pickles/)"),
]
MOVED: Row = ("--data-dir", str, None, "FOLDER", "where the images of a run that was trained on a folder lie now")
OTHER: Row = ("--source", str, None, "SOURCE", "where the test images come from (default: where the run's came from)")
BOARD: Row = ("--tensorboard", str, None, "FOLDER", "write losses, pictures and the graph there, for TensorBoard")
STRATEGY: Row = ("--strategy", str, "none", "NAME", "'none', 'mirrored' (all devices) or 'multi-worker' (TF_CONFIG)")
TRAIN = "Train a variational auto-encoder and save it as a run under pickles/."
RESUME = "go on with an interrupted run; takes no other flag but --strategy, --tensorboard and --data-dir"

# What manifold and animate share.
PLANE: list[Row] = [
    ("--tiles", int, 40, "N", "tiles along each side"),
    ("--range", float, None, "R", "equal steps from -R to R, in standard deviations of the prior"),
    ("--plane", str, "auto", "PLANE", "above 2 dimensions: 'diagonal', 'principal' (of the test set's codes), 'auto'"),
    (
        "--scale",
        int,
        None,
        "S",
        "enlarge each tile S times (default: 1, and in an animation of images below 64 pixels to about 112)",
    ),
]
SIZE: list[Row] = [
    ("--count", int, 100, "N", "how many images"),
    ("--scale", int, None, "S", "enlarge each tile S times (default: chosen by size)"),
]
Command = Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that answers bad input with one line and exit status 2, and completes no flag.

    An abbreviated ``--resume`` would otherwise be taken for a new training.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {one_line(message)}\n")


class _Help(argparse.HelpFormatter):
    """Help that names a default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        unknown = (
            action.default is None or isinstance(action.default, bool | list) or action.default == argparse.SUPPRESS
        )
        if unknown or not action.option_strings:
            return action.help
        return f"{action.help} (default: %(default)s)"


def _samples(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        hint = "give the run before this flag" if not text.startswith("-") else "whole numbers follow it"
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number: {hint}") from None


def _add(group: Any, rows: Iterable[Row]) -> None:
    for name, kind, default, metavar, text in rows:
        group.add_argument(name, type=kind, default=default, metavar=metavar, help=text)


def _add_training(parser: Parser) -> Any:
    """The documented interface of training, and the group of further options, which is returned."""
    _add(parser, DOCUMENTED)
    latent: dict[str, Any] = {"type": int, "required": True, "dest": "latent_dim", "metavar": "D"}
    required = parser.add_argument_group("required named arguments")
    required.add_argument("-l", "--latent-dimensions", help="dimensions of the latent space", **latent)
    further = parser.add_argument_group("further options")
    _add(further, [*FURTHER, BOARD, STRATEGY])
    further.add_argument("--hold-out-sample", action="store_true", help="train on no image (or person) of the sample")
    further.add_argument("--skip-broken", action="store_true", help="leave out a folder's files that cannot be used")
    further.add_argument("--mirror", action="store_true", help="show each image or its mirror image, at random")
    text = "let the encoder, and not the decoder, learn from altered copies of the images too"
    further.add_argument("--augment-encoder", action="store_true", help=text)
    text = "at the end, give the codes of all images together the prior's mean and variance in each dimension"
    further.add_argument("--match-prior", action="store_true", help=text)
    text = "keep pictures of the plane at some fifty moments, for 'vae animate --training'"
    further.add_argument("--record", action="store_true", help=text)
    further.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    return further


def training_parser() -> Parser:
    """The parser of ``train_VAE.py``: `vae train` with a ``--resume`` of its own."""
    parser = Parser(prog="train_VAE.py", description=TRAIN, formatter_class=_Help)
    _add_training(parser).add_argument("--resume", metavar="RUN", help=RESUME)
    return parser


def resuming_parser() -> Parser:
    """The parser of ``train_VAE.py --resume RUN``: the settings are the run's own."""
    parser = Parser(prog="train_VAE.py", description="Go on with an interrupted run.")
    parser.add_argument("--resume", required=True, metavar="RUN", help=RESUME)
    _add(parser, [STRATEGY, BOARD, MOVED])
    return parser


def main_parser(commands: Mapping[str, Command], prog: str) -> Parser:
    """The parser of ``vae``; ``commands`` holds the function of each command."""
    parser = Parser(prog=prog, description="Variational auto-encoders: train them, look at them, measure them.")
    parser.add_argument("--version", action="version", version=f"vae_lib {__version__}")
    group = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, text: str, rows: Iterable[Row] = (), *, takes_run: bool = True) -> Parser:
        sub = group.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", formatter_class=_Help)
        sub.set_defaults(run_command=commands[name], prog=sub.prog)
        if takes_run:
            sub.add_argument("run", help="a run's name under pickles/, or its folder")
        _add(sub, rows)
        return sub

    _add_training(add("train", TRAIN[:1].lower() + TRAIN[1:-1], takes_run=False))
    resume = add("resume", "go on with an interrupted run", [STRATEGY, BOARD, MOVED], takes_run=False)
    resume.add_argument("resume", metavar="RUN", help="a run's name under pickles/, or its folder")
    add("list", "list the runs under pickles/", takes_run=False)
    rows: list[Row] = [
        ("--images", int, None, "N", "only N test images, taking turns through the classes"),
        OTHER,
        MOVED,
    ]
    numbers = add("evaluate", "measure a run on test images, in nats per image", rows)
    text = "importance samples of each bound, for example 1 50 5000 (default: 50)"
    numbers.add_argument("--samples", type=_samples, nargs="*", default=[50], metavar="K", help=text)
    text = "gradient steps for each image's own Gaussian, whose ELBO is given too; 0: none"
    numbers.add_argument("--refine", type=int, default=0, metavar="STEPS", help=text)
    text = "skip the integration of log p(x) that is possible with 2 latent dimensions"
    numbers.add_argument("--no-exact", action="store_true", help=text)

    png: Row = ("--out", str, None, "FILE", "where to write (default: img/RUN.png)")
    gif: Row = (
        "--out",
        str,
        None,
        "FILE",
        "where to write (default: img/RUN.gif, with --training img/RUN_training.gif)",
    )
    text = "milliseconds a frame, a multiple of 10, at least 20 (default: 40, with --training 150)"
    frame: Row = ("--frame-ms", int, None, "MS", text)
    for sub in (
        add("manifold", "draw the decoded latent plane as one picture", [*PLANE, png]),
        add("animate", "animate a spiral through the decoded latent plane", [*PLANE, gif, frame]),
    ):
        text = "equal steps of the prior's probability (default: 0.025 0.975)"
        sub.add_argument("--quantiles", type=float, nargs=2, metavar=("LOW", "HIGH"), help=text)
    text = "show how the plane formed while a run trained that was started with --record"
    sub.add_argument("--training", action="store_true", help=text)
    seed: Row = ("--seed", int, 0, "N", "of the random draws")
    out: Row = ("--out", str, None, "FILE", "where to write (default: under img/, named after the command and the run)")
    add("samples", "draw images decoded from the prior", [seed, *SIZE, out])
    add("reconstruct", "draw test images beside their reconstructions", [OTHER, MOVED, *SIZE, out])
    check = add(
        "check", "grade the notebooks and Python files in a folder, by the exercises that they hold", takes_run=False
    )
    check.add_argument("folder", help="a folder of answers, or one file")
    limits: list[Row] = [
        ("--against", str, None, "FILE", "the notebook whose exercises count (default: those that each file holds)"),
        ("--seconds", float, 600.0, "S", "how long each may take"),
        ("--gigabytes", float, 4.0, "GB", "how much memory each may take, on Linux"),
        ("--jobs", int, 1, "N", "how many run at a time"),
        ("--csv", str, None, "FILE", "also write what was said of each exercise"),
    ]
    _add(check, limits)
    page: Row = ("--out", str, None, "FILE", "where to write (default: in the current folder, named after the run)")
    count: Row = ("--examples", int, 20, "N", "how many test images to put in")
    sample: Row = (
        "--source",
        str,
        None,
        "SOURCE",
        "where its images come from (default: the sample, or the run's own)",
    )
    text = "write a run as one HTML file with sliders that works offline, or for other programs"
    export = add("export", text, [page, count, sample, MOVED]).add_mutually_exclusive_group()
    text = "write RUN.keras, and RUN_decoder.keras for Keras without vae_lib"
    export.add_argument("--keras", action="store_true", help=text)
    text = "write a folder RUN_savedmodel for TensorFlow without vae_lib"
    export.add_argument("--savedmodel", action="store_true", help=text)
    text = "write RUN.onnx, which decodes, and RUN_encoder.onnx; needs tf2onnx"
    export.add_argument("--onnx", action="store_true", help=text)
    return parser
