"""Random command lines, configs and damaged runs, with a fixed budget: nothing but the promised answers."""

import copy
import functools
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import exit_status
from tests.faults.fuzz import FILES, edited, outcome
from vae_lib import cli
from vae_lib.cli.commands import COMMANDS
from vae_lib.config import DATASETS, RunConfig
from vae_lib.errors import UserError
from vae_lib.model import VAE, Encodings
from vae_lib.runs.store import save_run

torture = pytest.mark.torture
budget = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))

numbers = st.one_of(st.integers(-3, 70), st.integers(), st.floats(), st.sampled_from(["1e3", "0x10", "٣", "1_000", ""]))
words = st.one_of(
    st.sampled_from([*DATASETS, "gaussian", "bernoulli", "none", "dynamic", "graph", "sample", "RUN"]), st.text()
)
values = st.one_of(numbers, words).map(str)
TRAIN_FLAGS = (
    "--data --learning-rate --epochs --batch-size --im-dim --num-filters -l --latent-dimensions --seed --mode --likelihood "
    "--binarize --beta --beta-start --precision --schedule --weight-decay --hidden-units --source --hold-out-sample --mirror "
    "--augment-encoder --patience --checkpoint-every --strategy --out --overwrite --resume --help -h --epoch --nonsense --"
).split()
TOOLS = "train resume list manifold animate evaluate samples reconstruct export nonsense".split()
TOOL_FLAGS = (
    "--tiles --range --quantiles --plane --scale --frame-ms --count --images --samples --seed --examples".split()
)


def arguments(flags):
    pair = st.tuples(st.sampled_from(flags), st.lists(values, max_size=2)).map(lambda p: [p[0], *p[1]])
    return st.lists(pair, max_size=5).map(lambda pairs: [word for pair in pairs for word in pair])


class Reached(UserError):
    """The command line was understood; what follows is not part of this test."""


def check_answer(status, captured, door):
    assert status in (0, 2), captured.err
    if status == 2:
        assert captured.err.count("\n") == 1, captured.err
        assert captured.err.startswith(door)
        assert captured.out == ""


@torture
def test_five_thousand_command_lines(small_run, tmp_path, monkeypatch, capsys):
    """Up to where images or a run are read: that is what the other tests are about."""
    monkeypatch.chdir(tmp_path)

    def reached(*args, **options):
        raise Reached("understood.")

    monkeypatch.setattr("vae_lib.data.loading.load_data", reached)
    for name in COMMANDS:
        if name not in ("list", "train"):
            monkeypatch.setitem(COMMANDS, name, reached)
    seen = Counter()

    @settings(budget, max_examples=2500)
    @given(words=arguments(TRAIN_FLAGS))
    def training(words):
        status = exit_status(cli.train_main, [str(small_run) if word == "RUN" else word for word in words])
        check_answer(status, capsys.readouterr(), "train_VAE.py: error: ")
        seen["training"] += 1

    @settings(budget, max_examples=2500)
    @given(tool=st.sampled_from(TOOLS), name=st.lists(values, max_size=2), words=arguments(TOOL_FLAGS))
    def tools(tool, name, words):
        status = exit_status(cli.main, [tool, *name, *words])
        check_answer(status, capsys.readouterr(), "vae")
        seen["tools"] += 1

    training()
    tools()
    assert list(tmp_path.iterdir()) == []
    with capsys.disabled():
        print(f"\n{sum(seen.values())} command lines")
    assert sum(seen.values()) >= 5000


def test_any_config_is_refused_or_comes_back_equal():
    start = RunConfig.from_flat(2).to_dict()
    fields = [(part, name) for part, values in start.items() for name in [*values, "surplus"]]
    anything = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), words, st.lists(st.integers(), max_size=1)
    )

    @settings(budget, max_examples=1000)
    @given(changes=st.dictionaries(st.sampled_from(fields), anything, max_size=3))
    def one(changes):
        record = copy.deepcopy(start)
        for (part, name), value in changes.items():
            record[part][name] = value
        try:
            config = RunConfig.from_dict(record)
        except UserError as refusal:
            assert "\n" not in str(refusal)
        else:
            assert RunConfig.from_dict(config.to_dict()) == config

    one()


class _SharedNetworks:
    from_model_config = functools.lru_cache(64)(VAE.from_model_config)


@torture
@pytest.mark.parametrize("count", [5_000, pytest.param(20_000, marks=pytest.mark.large)])
def test_randomly_damaged_runs(tmp_path, monkeypatch, capsys, count):
    codes = np.zeros([4, 2], np.float32)
    run = save_run(
        tmp_path / "run", VAE(2, image_shape=(8, 8, 1), num_filters=2, hidden_units=3),
        history=[{"epoch": 1.0, "test_elbo": -9.0}], metrics={"test": {"elbo": -9.0}},
        encodings=Encodings(codes, codes, np.arange(4)),
    )  # fmt: skip
    monkeypatch.setattr("vae_lib.runs.store.VAE", _SharedNetworks)  # equal configs share one
    seen = Counter()
    edits = st.lists(
        st.tuples(
            st.sampled_from(["bit", "byte", "word", "cut", "repeat"]),
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 2**16),
        ),
        min_size=1,
        max_size=4,
    )

    # Weights with a fitting checksum go the whole way through Keras, which takes a tenth of a second each.
    whole_way = count * 3 // 40

    @settings(budget, max_examples=count - whole_way)
    @given(file=st.sampled_from(FILES), changes=edits)
    def unsigned(file, changes):
        seen[outcome(run, file, edited((run / file).read_bytes(), changes), signed=False)] += 1

    @settings(budget, max_examples=whole_way)
    @given(changes=edits)
    def signed(changes):
        seen[outcome(run, FILES[1], edited((run / FILES[1]).read_bytes(), changes), signed=True)] += 1

    unsigned()
    signed()
    with capsys.disabled():
        print(f"\n{sum(seen.values())} damaged runs: {dict(seen)}")
    assert sum(seen.values()) >= count
