"""What holds the project together: import directions, pins, lazy imports."""

import ast
import graphlib
import json
import operator
import re
import statistics
import subprocess
import tomllib

import pytest
import yaml

from benchmarks.contender import HALF, PEERS
from tests.conftest import ROOT, run_python

# The rooms of the package in reading order: a room imports from the rooms before it.
ROOMS = [
    "errors", "files", "memory", "backend", "config", "arrays", "losses", "latent", "layers", "networks",
    "model", "data", "augment", "optimization", "objectives", "priors", "trainer", "marginal", "evaluation",
    "report", "scoreboard", "figures", "svg", "pictures", "recording", "training", "session", "check",
    "classroom", "sliders", "live", "dissection", "tensorboard", "exporting", "runs", "page", "cli",
]  # fmt: skip


def modules():
    """Every module of the package by its dotted name, without ``vae_lib``."""
    package = ROOT / "vae_lib"
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path):
    """The modules of the package that a file imports, at the top or inside a function, absolutely as all do."""
    names = modules()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("vae_lib"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            head, _, rest = (node.module or "").partition(".")
            if head == "vae_lib":
                for alias in node.names:
                    inner = f"{rest}.{alias.name}".strip(".")
                    yield inner if inner in names else rest


def test_a_room_imports_only_from_rooms_before_it():
    rooms = {name.split(".")[0] for name in modules()} - {"", "__main__"}
    assert rooms == set(ROOMS)
    for name, path in modules().items():
        room = name.split(".")[0]
        for other in imported(path):
            if room in ROOMS and other:
                assert ROOMS.index(other.split(".")[0]) <= ROOMS.index(room), f"{name} imports {other}"


def test_no_module_imports_itself_through_others():
    """Python runs a package's own file first; that one only passes names on."""
    graph = {name: {other for other in imported(path) if other != name} for name, path in modules().items() if name}
    graphlib.TopologicalSorter(graph).prepare()


def test_only_one_room_knows_tfds_and_nothing_unpickles():
    for name, path in modules().items():
        text = path.read_text()
        assert ("tensorflow_datasets as tfds" in text) == (name == "data.sources"), path
        assert not re.search(r"\bimport (pickle|dill|joblib)\b|allow_pickle=True", text), path


def test_importing_the_package_does_not_import_tensorflow():
    result = run_python("-c", "import sys, vae_lib; print(vae_lib.ModelConfig(2).im_dim, 'tensorflow' in sys.modules)")
    assert result.stdout.split() == ["28", "False"], result.stderr


def test_every_public_name_can_be_had():
    twice = "import vae_lib; [getattr(vae_lib, n) for n in vae_lib.__all__]; "
    twice += "assert all(callable(getattr(vae_lib, n)) for n in vae_lib.__all__); "
    result = run_python("-c", twice + "from vae_lib import evaluate, train, explore; assert callable(evaluate)")
    assert result.returncode == 0, result.stderr


def test_importing_tensorflow_through_the_package_is_quiet():
    result = run_python("-c", "from vae_lib import VAE")
    assert (result.stdout, result.stderr) == ("", "")


def test_what_the_owner_of_a_gpu_must_know_is_not_held_back(tmp_path, capsys):
    from vae_lib.backend import about_gpus

    messages = "oneDNN custom operations are on.\nCould not find cuda drivers, GPU will not be used.\n"
    about_gpus(messages, driver=tmp_path / "nowhere")
    assert capsys.readouterr().err == ""
    about_gpus(messages, driver=tmp_path)
    assert capsys.readouterr().err == "Could not find cuda drivers, GPU will not be used.\n"


def pins():
    text = (ROOT / "requirements.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==([^ ;\\]+)", text, re.MULTILINE | re.IGNORECASE))


def test_the_pins_meet_every_bound_and_name_no_index():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = project["dependencies"] + project["optional-dependencies"]["dev"]
    for line in bounds:
        requirement = Requirement(line)
        pin = pins()[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(pin), line
    text = (ROOT / "requirements.txt").read_text()
    assert "http" not in text.replace("httpcore", "").replace("httpx", "")
    assert "index" not in text
    assert text.count("--hash=sha256:") > len(pins())


def test_the_environment_installs_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]}
    version = python.removeprefix("python=")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version in ("3.11", "3.12", "3.13")
    assert project["requires-python"] == ">=3.11,<3.14"
    assert environment["variables"]["KERAS_BACKEND"] == "tensorflow"


def test_an_old_python_gets_one_clear_sentence(tmp_path):
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1"\nexit 1\n')
    fake.chmod(0o755)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    result = subprocess.run(
        ["make", "-s", "demo", f"PYTHON={fake}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "Python 3.11, 3.12 or 3.13 is needed" in result.stderr
    assert "3.9.1" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_printed_cheat_sheet_is_of_the_present_one():
    from tools.cheat_sheet import SHEET, pages, title

    printed = SHEET.with_suffix(".pdf").read_bytes()
    assert pages(printed) == 1
    assert title(SHEET.read_text("utf-8")).encode() in printed, "make cheat-sheet"
    assert b"/URI" not in printed  # nor a link to where it was printed


def test_the_pages_quote_the_benchmark_to_the_letter():
    section = (ROOT / "docs" / "speed.md").read_text()
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    rows = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 5
    for row in rows:
        if row.startswith("| contender"):
            continue
        for number in re.findall(r"\d[\d,.]*", row.split("|")[2] + row.split("|")[3]):
            assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d,]|\.\d)", results), f"{number} in: {row}"


def test_the_pages_quote_the_time_to_a_target():
    page, results = ((ROOT / name).read_text() for name in ("docs/speed.md", "benchmarks/RESULTS.md"))
    numbers = re.search(
        r"-ELBO of ([\d.]+) nats.*?defaults ([\d.]+) s of training, and that recipe ([\d.]+) s", page, re.S
    )
    for number in numbers.groups():
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", results), number


def test_the_readme_quotes_the_speed():
    ours, peer = re.search(
        r"runs at ([\d,]+) images .*\n?.*against ([\d,]+) in", (ROOT / "README.md").read_text()
    ).groups()
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())["default"]
    rates = {name: statistics.median(result["rates"]) for name, result in results.items() if name not in HALF}
    assert ours == f"{rates['graph']:,.0f}"
    assert peer == f"{max(rate for name, rate in rates.items() if name in PEERS):,.0f}"


def test_the_peer_that_is_quoted_is_the_one_that_comes_closest():
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    speed = (ROOT / "docs" / "speed.md").read_text()
    for network, ratio in zip(
        ("default", "textbook"), re.search(r"is ([\d.]+) times.*?and ([\d.]+) times", speed, re.S).groups(), strict=True
    ):
        ours = results[network]["graph"]["rates"]
        peers = {n: r["rates"] for n, r in results[network].items() if n in PEERS and n not in HALF}
        ratios = [statistics.median(map(operator.truediv, ours, theirs)) for theirs in peers.values()]
        assert min(ratios) == pytest.approx(float(ratio), abs=5e-3)


def test_the_page_of_speed_quotes_the_profile_and_the_quality():
    from benchmarks.profile import KINDS, kind_of

    page = (ROOT / "docs" / "speed.md").read_text()
    share, most, convolutions = re.search(
        r"are (\d+) % of a step.*?more than ([\d.]+) times.*?(\d+) % of", page, re.S
    ).groups()
    profile = (ROOT / "benchmarks" / "PROFILE.md").read_text()
    assert re.search(rf"{share}% of the step.*?at most {re.escape(most)} times", profile, re.S)
    steps = json.loads((ROOT / "benchmarks" / "profile.json").read_text())["steps"]
    spent = steps["textbook, float32"]["operations"]
    first = next(iter(KINDS))
    assert int(convolutions) == round(
        100 * sum(t for n, t in spent.items() if kind_of(n) == first) / sum(spent.values())
    )
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    in_half, in_full = map(float, re.search(r"-ELBO is ([\d.]+) nats.*?and ([\d.]+) in float32", page, re.S).groups())
    assert in_half == pytest.approx(statistics.mean(results["quality"]["bfloat16"]), abs=6e-3)
    assert in_full == pytest.approx(statistics.mean(results["quality"]["float32"]), abs=6e-3)
    quoted = re.search(r"bfloat16` is ([\d.]+) and ([\d.]+) times", page).groups()
    for network, ratio in zip(("default", "textbook"), quoted, strict=True):
        rates = {n: r["rates"] for n, r in results[network].items() if n in PEERS and n in HALF}
        ours = results[network]["--precision bfloat16"]["rates"]
        ratios = [statistics.median(map(operator.truediv, ours, theirs)) for theirs in rates.values()]
        assert min(ratios) == pytest.approx(float(ratio), abs=6e-3)


def test_the_pages_of_the_benchmarks_are_what_was_measured():
    from benchmarks import alive, cost, profile, run, streaming

    for module, name in ((alive, "alive"), (run, "results"), (profile, "profile"), (streaming, "streaming")):
        found = json.loads((ROOT / "benchmarks" / f"{name}.json").read_text())
        assert (ROOT / "benchmarks" / f"{name.upper()}.md").read_text() == module.page(found)
    found = json.loads((ROOT / "benchmarks" / "cost.json").read_text())
    assert (ROOT / "benchmarks" / "COST.md").read_text() == cost.cost_page(found)
    assert (ROOT / "docs" / "scale.md").read_text() == cost.scale_page(found)
    assert json.loads((ROOT / "benchmarks" / "streaming.json").read_text())["same_bits"]


def test_the_reference_names_every_flag():
    from vae_lib.cli.flags import training_parser

    page = (ROOT / "docs" / "reference.md").read_text()
    flags = {flag for action in training_parser()._actions for flag in action.option_strings}
    assert {flag for flag in flags - {"-h", "--help"} if f"`{flag}`" not in page} == set()
    defaults = dict(re.findall(r"^\| `(--[a-z-]+)` \| ([^|]+) \|", page, re.MULTILINE))
    for action in training_parser()._actions:
        stated = defaults.get(action.option_strings[-1], "").strip(" `")
        if stated and action.default not in (None, False) and action.option_strings[-1] != "--strategy":
            assert str(action.default) == stated, action.option_strings


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("vae_lib/**/__init__.py")}
    assert set(listed) == found | {"vae_lib.shipped"}  # pickles/, see package-dir
