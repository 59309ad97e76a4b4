"""The command lines as a user types them, in fresh processes and a temporary folder."""

import errno
import io
import os
import re
import signal
import sys
import threading
import time
import types

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, exit_status, run_python
from tools import commands
from vae_lib import VAE, cli
from vae_lib.cli.commands import _guarded
from vae_lib.cli.flags import training_parser
from vae_lib.cli.progress import EpochBars
from vae_lib.cli.streams import forgiving_streams
from vae_lib.errors import Fault, UserError
from vae_lib.runs.lifecycle import _deferred_signals
from vae_lib.runs.store import load_run, save_run

TRAIN = str(ROOT / "train_VAE.py")
QUICK = ["--source", "sample", "--num-filters", "4", "--hidden-units", "16"]


def test_help_answers_at_once_and_without_tensorflow():
    times = []
    for _ in range(3):
        began = time.perf_counter()
        result = run_python("-X", "importtime", TRAIN, "--help")
        times.append(time.perf_counter() - began)
    assert result.returncode == 0
    assert not re.search(r"\b(tensorflow|keras|numpy)\b", result.stderr)
    assert min(times) < 0.5


def test_the_documented_interface():
    defaults = vars(training_parser().parse_args(["-l", "2"]))
    documented = {
        "data": "mnist", "learning_rate": 0.001, "epochs": 5, "batch_size": 50, "im_dim": 28, "num_filters": 32,
        "latent_dim": 2,
    }  # fmt: skip
    assert {key: defaults[key] for key in documented} == documented
    args = training_parser().parse_args(
        ["--data", "faces", "--learning-rate", "0.1", "--epochs", "1", "--batch-size", "2", "--im-dim", "64",
         "--num-filters", "8", "--latent-dimensions", "6"]
    )  # fmt: skip
    assert (args.data, args.learning_rate, args.latent_dim) == ("faces", 0.1, 6)


def test_training_drawing_and_animating_end_to_end(tmp_path):
    out = tmp_path / "a run"
    result = run_python(TRAIN, *QUICK, "-l", "2", "--epochs", "2", "--out", str(out), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    number = r"(-?\d+\.\d\d)"
    epoch = re.match(rf"epoch 2/2: test ELBO {number} nats = -\({number} reconstruction \+ {number} KL\)", lines[1])
    elbo, nll, kl = map(float, epoch.groups())
    assert elbo == pytest.approx(-(nll + kl), abs=0.02)
    assert str(out) in lines[-1]
    assert f"python -m vae_lib manifold '{out}'" in lines[-1]
    run = load_run(out)
    assert run.metrics["test"]["elbo"] == pytest.approx(elbo, abs=0.01)
    assert run.config.data.found == run.metrics["protocol"]["source"] == "sample"
    assert "train_VAE.py --source sample" in run.metrics["made_by"]["command"]

    picture = tmp_path / "m.png"
    result = run_python("-m", "vae_lib", "manifold", str(out), "--tiles", "6", "--out", str(picture), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with Image.open(picture) as image:
        assert image.size == (168, 168)
    animation = tmp_path / "m.gif"
    result = run_python(
        "-m", "vae_lib", "animate", str(out), "--tiles", "5", "--frame-ms", "20", "--out", str(animation), cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    with Image.open(animation) as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (25, (112, 112), 20)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a run", "m.gif", "m.png"]


def test_ones_own_images_train(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.jpg")
    arguments = ["--data", str(tmp_path / "pictures"), "--im-dim", "20", "--epochs", "1", "-l", "3"]
    status = cli.train_main([*arguments, *QUICK[2:], "--out", str(tmp_path / "run")])
    assert status == 0
    assert load_run(tmp_path / "run").config.model.channels == 3


@pytest.mark.parametrize(
    "arguments",
    [[], ["-l", "0"], ["-l", "two"], ["-l", "2", "--epochs", "-1"], ["-l", "2", "--data", "mnits"],
     ["-l", "2", "--mode", "fast"], ["-l", "2", "--learning-rate", "nan"], ["-l", "2", "--im-dim", "4"],
     ["-l", "2", "--likelihood", "gaussian", "--binarize", "dynamic"], ["-l", "2", "--no-such-flag"],
     ["-l", "2", "--source", "nowhere"]],
)  # fmt: skip
def test_bad_input_gets_one_sentence_and_status_2(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = exit_status(cli.train_main, arguments)
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("train_VAE.py: error: ")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [["manifold", "no-such-run"], ["manifold"], ["draw"], [], ["animate", "RUN", "--frame-ms", "5"],
     ["manifold", "RUN", "--tiles", "0"], ["manifold", "RUN", "--range", "-1"], ["manifold", "RUN", "--plane", "x"],
     ["manifold", "RUN", "--quantiles", "0", "1"], ["animate", "RUN", "--scale", "-2"]],
)  # fmt: skip
def test_bad_tool_input_gets_one_sentence_and_status_2(arguments, small_run, tmp_path, capsys):
    arguments = [str(small_run) if a == "RUN" else a for a in arguments]
    if str(small_run) in arguments:
        arguments += ["--out", str(tmp_path / "out.gif")]
    status = exit_status(cli.main, arguments)
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.startswith("vae")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_terminal_shows_a_bar_and_a_log_does_not(kind, monkeypatch, capsys):
    stream = kind()
    monkeypatch.setattr("sys.stderr", stream)
    bars = EpochBars(3)
    bars.report(1, 5, 20, 123.456)
    bars.report(1, 20, 20, 120.0)
    shown = stream.getvalue()
    for words in ("epoch 2/3", " 5/20 ", "-ELBO 123.46 nats", "20/20", "-ELBO 120.00 nats", "step/s"):
        assert (words in shown) == (kind is Terminal), words
    bars.close({"epoch": 2.0, "train_nll": 110.0, "train_kl": 10.0, "train_elbo": -120.0})
    line = "epoch 2/3: train ELBO -120.00 nats = -(110.00 reconstruction + 10.00 KL)\n"
    assert capsys.readouterr().out == line
    assert stream.getvalue().rpartition("\r")[0].rstrip().count("\n") == 0  # the bar is taken away
    bars.report(2, 1, 20, 99.0)
    assert ("epoch 3/3" in stream.getvalue()) == (kind is Terminal)
    bars.abandon()
    bars.abandon()


def test_runs_are_listed(tmp_path, monkeypatch, capsys, small_run):
    monkeypatch.setattr("vae_lib.runs.places.project_dir", lambda name: small_run.parent)
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out == "small\n"


def test_flags_are_not_completed(capsys):
    """--res once trained a new model where a resumption was wanted."""
    assert exit_status(cli.train_main, ["-l", "2", "--res", "some_run"]) == 2
    assert "--res" in capsys.readouterr().err


def test_the_latent_dimensions_stand_under_required_named_arguments(capsys):
    assert exit_status(cli.train_main, ["--help"]) == 0
    group = capsys.readouterr().out.split("required named arguments:\n")[1].split("\n\n")[0]
    assert "-l D, --latent-dimensions D" in group
    assert group.count("--") == 1


@pytest.mark.parametrize(
    "arguments",
    [["manifold", "--tiles", "2", "--scale", "0"], ["animate", "--tiles", "2", "--scale", "0"],
     ["samples", "--scale", "0"], ["samples", "--seed", "9" * 20], ["samples", "--seed", "-1"]],
)  # fmt: skip
def test_a_number_that_makes_no_sense_is_refused(small_run, tmp_path, arguments, capsys):
    out = tmp_path / "picture.gif"
    assert exit_status(cli.main, [arguments[0], str(small_run), *arguments[1:], "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "must be" in message
    assert not out.exists()


# ---- What ends a command, said in this process ---------------------------------------------------------------


def ended(raised, capsys):
    """The status of a command that raises, and what it says on stderr."""

    def command(_args):
        raise raised

    status = _guarded("vae x", command, None)
    said = capsys.readouterr()
    assert said.out == ""
    return status, said.err


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (UserError("no\nsuch thing."), 2, "vae x: error: no\\nsuch thing.\n"),
        (Fault("the disk is gone."), 1, "vae x: error: the disk is gone.\n"),
        (KeyboardInterrupt(), 130, "\nvae x: interrupted.\n"),
        (KeyboardInterrupt("saved"), 130, "vae x: interrupted; saved\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), 2, "vae x: error: a/b: No such file.\n"),
        (PermissionError(errno.EACCES, "Forbidden", b"a"), 2, "vae x: error: a: Forbidden.\n"),
        (OSError(errno.ENOSPC, "No space left"), 1, "vae x: error: No space left.\n"),
        (OSError(errno.EIO, "Input/output error", "c"), 1, "vae x: error: c: Input/output error.\n"),
    ],
)
def test_what_ends_a_command_is_one_sentence(raised, status, said, capsys):
    assert ended(raised, capsys) == (status, said)


def test_a_fault_of_the_program_is_no_sentence(capsys):
    for raised in (OSError("of a library"), RuntimeError("a bug")):
        with pytest.raises(type(raised)):
            ended(raised, capsys)


def test_an_interrupt_that_a_library_turns_into_another_error_is_an_interrupt(capsys):
    def command(_args):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            sys.excepthook(*sys.exc_info())  # as PyErr_Print does for C++
            raise ImportError("half imported") from None

    before = signal.getsignal(signal.SIGINT), sys.excepthook
    assert _guarded("vae x", command, None) == 130
    assert capsys.readouterr().err == "\nvae x: interrupted.\n"
    assert (signal.getsignal(signal.SIGINT), sys.excepthook) == before


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_that_a_library_turns_into_another_error_is_an_interrupt(second, capsys):
    def command(_args):
        with _deferred_signals() as asked:
            signal.raise_signal(signal.SIGTERM)
            assert asked()
            try:
                signal.raise_signal(second)
            except KeyboardInterrupt:
                raise SystemError("returned a result with an exception set") from None

    assert _guarded("vae x", command, None) == 130
    assert capsys.readouterr().err == "\nvae x: interrupted.\n"


def test_what_a_library_prints_of_an_error_is_printed_without_an_interrupt(capsys):
    def command(_args):
        try:
            raise RuntimeError("of C++")
        except RuntimeError:
            sys.excepthook(*sys.exc_info())

    assert _guarded("vae x", command, None) == 0
    assert "RuntimeError: of C++" in capsys.readouterr().err


@pytest.mark.parametrize("ignored", [False, True])
def test_a_command_in_a_thread_or_with_signals_of_its_own_touches_none(ignored, capsys):
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run():
        seen.append(_guarded("vae x", lambda _args: seen.append(signal.getsignal(signal.SIGINT)), None))

    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if ignored:
            run()
        else:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
    finally:
        after = signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIG_IGN if ignored else before, 0]
    assert after == seen[0]
    assert capsys.readouterr().err == ""


def test_a_command_draws_without_windows_and_leaves_the_setting_as_it_was(monkeypatch):
    for value in ("svg", None):
        monkeypatch.setenv("MPLBACKEND", value) if value else monkeypatch.delenv("MPLBACKEND")
        seen = []
        assert _guarded("vae x", lambda _args, seen=seen: seen.append(os.environ["MPLBACKEND"]), None) == 0
        assert seen == ["agg"]
        assert os.environ.get("MPLBACKEND") == value


class Breaking(io.StringIO):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(("number", "lost"), [(errno.ENOSPC, True), (errno.EPIPE, False)])
def test_a_stream_that_breaks_goes_silent_and_tells_a_full_disk_from_a_closed_pipe(number, lost, monkeypatch, capsys):
    stream = Breaking(number)
    monkeypatch.setattr("sys.stdout", stream)
    with forgiving_streams():
        print("one")
        print("two")
        assert sys.stdout.lost == lost
        assert not sys.stdout.isatty()
    assert sys.stdout is stream


def test_without_streams_nothing_is_said_and_nothing_fails(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    with forgiving_streams():
        print("one", flush=True)
        assert not sys.stdout.isatty()
        with pytest.raises(OSError, match="no such stream"):
            sys.stdout.fileno()


def test_tiles_are_enlarged_by_their_size(tmp_path):
    for side, scale in ((16, 2), (64, 1)):
        run = save_run(tmp_path / str(side), VAE(2, image_shape=(side, side, 1), num_filters=2, hidden_units=4))
        out = tmp_path / f"{side}.png"
        assert cli.main(["samples", str(run), "--count", "4", "--out", str(out)]) == 0
        with Image.open(out) as picture:
            assert picture.size[1] == scale * side  # one row


def test_the_page_of_commands_is_what_the_parser_has():
    """`make catalogue` writes it."""
    assert (ROOT / "docs" / "commands.md").read_text() == commands.page()
    assert "None" not in commands.page()  # every command and flag is explained


def test_help_names_the_defaults_that_there_are(capsys):
    assert exit_status(cli.train_main, ["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "passes over the training images (default: 5)" in text
    assert "train on no image (or person) of the sample --skip-broken" in text  # a switch has none
    assert exit_status(cli.main, ["evaluate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "a run's name under pickles/, or its folder options:" in text  # nor has an argument
    assert "(default: where the run's came from)" in text


@pytest.mark.parametrize(("flags", "said"), [([], True), (["--no-exact"], False)])
def test_an_integral_that_takes_long_is_said_before_it_begins(flags, said, tmp_path, monkeypatch, capsys):
    vae = VAE(2, image_shape=(8, 8, 1), likelihood="discretized_logistic", num_filters=4, hidden_units=8)
    run = save_run(tmp_path / "grey", vae)
    few = types.SimpleNamespace(test_images=np.zeros([2, 8, 8, 1], np.uint8))
    monkeypatch.setattr("vae_lib.cli.commands._images_of", lambda *args: few)

    def evaluate(*args, **options):
        raise UserError("far enough.")

    monkeypatch.setattr("vae_lib.evaluation.evaluate", evaluate)
    assert cli.main(["evaluate", str(run), *flags]) == 2
    assert ("--no-exact leaves it out" in capsys.readouterr().err) == said
