"""Damage to a run at random: what the fuzzers of the loader share. `atheris` guides it by coverage if installed:

pip install atheris && python -m tests.faults.fuzz SMALL_RUN -max_total_time=600
"""

from __future__ import annotations

import inspect
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.files import WEIGHTS, sign
from vae_lib import config
from vae_lib.errors import UserError
from vae_lib.runs import store, trust

FILES = ("config.json", WEIGHTS, "metrics.json", "history.csv", "encodings.npz")
WORDS = (
    b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b'"x"', b"[]", b"{}", b"\x00", b"\xff", b"4096", b"65536", b",", b"\n",
    b"latent_dim", b"2", b'"bernoulli"', b'"gaussian"', b"\xd0\x9f", b"PK\x03\x04", b"\x89HDF",
)  # fmt: skip


def edited(raw: bytes, edits: list[tuple[str, float, int]]) -> bytes:
    """``raw`` after edits, each (what, where from 0 to 1, a number): bits, words, cuts and repeats."""
    data = bytearray(raw)
    for what, where, number in edits:
        at = int(where * len(data))
        if what == "bit" and at < len(data):
            data[at] ^= 1 << number % 8
        elif what == "byte" and at < len(data):
            data[at] = number % 256
        elif what == "word":
            word = WORDS[number % len(WORDS)]
            data[at : at + (number % 3) * len(word)] = word
        elif what == "cut":
            del data[at : at + number]
        elif what == "repeat":
            data[at:at] = data[at : at + number % 64]
    return bytes(data)


def outcome(run: Path, file: str, content: bytes, signed: bool) -> str:
    """Load a run with one file replaced, then put it back; 'loaded' or 'refused', any other end is a finding."""
    kept = {name: (run / name).read_bytes() for name in {file, "config.json"}}
    try:
        (run / file).write_bytes(content)
        if signed and file == WEIGHTS:
            sign(run)
        store.load_run(run)
    except UserError as refusal:
        assert "\n" not in str(refusal)
        return "refused"
    finally:
        for name, before in kept.items():
            (run / name).write_bytes(before)
    return "loaded"


def main() -> None:
    import atheris  # no part of the pinned requirements: it has no wheel for every Python

    source, *options = sys.argv[1:]
    run = Path(tempfile.mkdtemp()) / "run"
    shutil.copytree(source, run)

    def one(data: bytes) -> None:
        if data:
            outcome(run, FILES[data[0] % len(FILES)], data[1:], signed=True)

    for module in (config, store, trust):  # not TensorFlow, which would take minutes
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                setattr(module, name, atheris.instrument_func(function))
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
