"""Real faults: full and read-only disks, limits, signals, folders that go away, many processes at once."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import ROOT
from vae_lib.cli import train_main
from vae_lib.runs import checkpoints
from vae_lib.runs.places import find_unfinished
from vae_lib.runs.store import load_run

TRAIN = [sys.executable, str(ROOT / "train_VAE.py")]
SMALL = ["-l", "2", "--source", "sample", "--num-filters", "4", "--hidden-units", "16"]
torture = pytest.mark.torture


def train(*arguments, prefix=(), **options):
    command = [*prefix, *TRAIN, *SMALL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


def one_sentence(result):
    """The last line on stderr, which is all that may follow the progress of the epochs."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("epoch ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


def resumes(folder):
    """An unfinished run goes on to its end in this process."""
    assert train_main(["--resume", str(folder)]) == 0
    return load_run(folder)


def own_file_system(size, options, script):
    """A command line that runs a shell script with a file system of its own, of ``size``, at $DISK."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f'mount -t tmpfs -o size={size} none "$DISK" && {options}'
    probe = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("no file system can be mounted here")
    return [*unshare, "sh", "-c", f'{mount} {{ {script}; }}; status=$?; cp -a "$DISK"/. "$KEPT"; exit $status']


@torture
@pytest.mark.parametrize("size", ["4k", "40k", "120k", "200k", "280k"])
def test_a_full_disk(tmp_path, size):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    script = " ".join([*TRAIN, *SMALL, "--epochs", "4", "--out", '"$DISK"/run'])
    command = own_file_system(size, "", script)
    environment = os.environ | {"DISK": str(disk), "KEPT": str(kept)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    sentence = one_sentence(result)
    print(f"\n{size}: {sentence}")
    assert result.returncode in (1, 2)
    assert "No space left" in sentence
    assert not (kept / "run").exists()
    if result.returncode == 1:
        assert len(resumes(kept / "run").history) == 4
    else:
        assert list(kept.iterdir()) == []


@torture
def test_a_read_only_disk(tmp_path):
    script = " ".join([*TRAIN, *SMALL, "--epochs", "1", "--out", '"$DISK"/run'])
    command = own_file_system("1m", 'mount -o remount,ro "$DISK" &&', script)
    for folder in ("disk", "kept"):
        (tmp_path / folder).mkdir()
    environment = os.environ | {"DISK": str(tmp_path / "disk"), "KEPT": str(tmp_path / "kept")}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 2
    assert "Read-only file system" in one_sentence(result)
    assert result.stdout == ""  # no epoch was trained before it was found


@torture
@pytest.mark.parametrize("limit", [200, 3_000, 60_000, 100_000])
def test_files_that_must_not_grow(tmp_path, limit):
    def lower():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = train("--epochs", 2, "--out", tmp_path / "run", preexec_fn=lower)
    sentence = one_sentence(result)
    print(f"\n{limit} bytes: {sentence}")
    assert result.returncode in (1, 2)
    assert not (tmp_path / "run").exists()
    if result.returncode == 1:
        resumes(tmp_path / "run")
    else:
        assert list(tmp_path.iterdir()) == []


@torture
@pytest.mark.parametrize("limit", [8, 16, 32, 64])
def test_out_of_file_handles(tmp_path, limit):
    """Below what Python and TensorFlow need to start, the interpreter itself may fail; a run is never half written."""

    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    result = train("--epochs", 1, "--out", tmp_path / "run", preexec_fn=lower)
    print(f"\n{limit} handles: status {result.returncode}")
    if result.returncode == 0:
        load_run(tmp_path / "run")
    else:
        assert not (tmp_path / "run").exists()
        if (tmp_path / "run.partial").exists():
            resumes(tmp_path / "run")


@torture
def test_the_folder_is_removed_while_training(tmp_path):
    command = [*TRAIN, *SMALL, "--epochs", "200", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list((tmp_path / "run.partial" / "checkpoints").glob("0*2-*.npz")), process)
    (tmp_path / "run.partial").rename(tmp_path / "gone")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "No such file" in stderr
    assert "Traceback" not in stderr
    shutil.rmtree(tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)


def test_a_loss_that_is_no_number_stops_at_once(tmp_path, capsys):
    arguments = [
        *SMALL,
        "--epochs",
        "3",
        "--learning-rate",
        "1000000",
        "--mode",
        "graph",
        "--out",
        str(tmp_path / "run"),
    ]
    assert train_main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "loss became" in error
    assert "the learning rate is too high for this data; lower it" in error
    state = checkpoints.load(find_unfinished(tmp_path / "run"))
    assert all(np.isfinite(v).all() for v in state.variables)
    assert not (tmp_path / "run").exists()


@torture
def test_strange_surroundings(tmp_path):
    """A folder with spaces and letters of other alphabets, the locale C, a home that does not exist."""
    folder = tmp_path / "наука und Müßiggang 数据"
    folder.mkdir()
    surroundings = {"LC_ALL": "C", "HOME": "/nonexistent/home", "PYTHONUTF8": "0", "TFDS_DATA_DIR": ""}
    environment = {k: v for k, v in os.environ.items() if k not in ("VAE_LIB_CACHE", "XDG_CACHE_HOME")} | surroundings
    result = train("--epochs", 1, "--out", folder / "прогон", env=environment, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert load_run(folder / "прогон").history
    drawn = subprocess.run(
        [sys.executable, "-m", "vae_lib", "manifold", "прогон", "--tiles", "3", "--out", "картина.png"],
        env=environment | {"PYTHONPATH": str(ROOT)}, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    assert (folder / "картина.png").is_file()


@torture
def test_eight_trainings_that_start_together(tmp_path):
    """Without --out, so that all want the same name; in a copy of the project, whose pickles/ is theirs alone."""
    shutil.copytree(ROOT / "vae_lib", tmp_path / "vae_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train_VAE.py", tmp_path)
    (tmp_path / "pickles").mkdir()
    command = [sys.executable, "train_VAE.py", *SMALL, "--epochs", "1"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    processes = [subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=-3, stderr=-3) for _ in range(8)]
    assert [process.wait(300) for process in processes] == [0] * 8
    runs = sorted((tmp_path / "pickles").iterdir())
    assert len(runs) == 8
    weights = {b"".join(w.tobytes() for w in load_run(run).model.get_weights()) for run in runs}
    assert len(weights) == 1  # one seed, one result


@torture
@pytest.mark.parametrize("count", [15, pytest.param(50, marks=pytest.mark.large)])
def test_faults_at_random_moments(tmp_path, count):
    """Kills and signals during training and saving: every run is complete or can be resumed, none is corrupt."""
    chance = random.Random(1)
    kinds = ["KILL", "KILL", "TERM", "INT", "INT INT"]
    plans = [(i, chance.choice(kinds), chance.uniform(0, 1.5)) for i in range(count)]

    def strike(plan):
        i, signals, wait = plan
        out = tmp_path / f"{i:02d}"
        command = [*TRAIN, *SMALL, "--epochs", "12", "--checkpoint-every", "7", "--out", str(out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not out.with_name(out.name + ".partial").exists():
            time.sleep(0.02)
        time.sleep(3 * wait)
        for name in signals.split():
            process.send_signal(getattr(signal, f"SIG{name}"))
            time.sleep(0.05)
        _, stderr = process.communicate(timeout=120)
        assert "Traceback" not in stderr, stderr
        return signals, process.returncode

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(strike, plans))
    complete = [i for i in range(count) if (tmp_path / f"{i:02d}").exists()]
    for i in range(count):
        if i in complete:
            load_run(tmp_path / f"{i:02d}")
        else:
            checkpoints.load(find_unfinished(tmp_path / f"{i:02d}"))
    unfinished = [i for i in range(count) if i not in complete]
    for i in unfinished[::5]:
        resumes(tmp_path / f"{i:02d}")
    weights = {
        b"".join(w.tobytes() for w in load_run(tmp_path / f"{i:02d}").model.get_weights())
        for i in [*complete, *unfinished[::5]]
    }
    print(
        f"\n{count} faults: {len(complete)} runs complete, {len(unfinished)} resumable, {len(unfinished[::5])} resumed"
    )
    print({signals: sorted({status for s, status in ends if s == signals}) for signals in {s for s, _ in ends}})
    assert len(unfinished) >= 0.4 * count
    assert len(weights) == 1
