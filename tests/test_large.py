"""What takes minutes, gigabytes or many processes; ``make large`` runs these and the notebooks as a host does."""

import subprocess
import sys
import time

import pytest

from vae_lib import classroom
from vae_lib.memory import memory

pytestmark = pytest.mark.large


def test_a_set_that_the_memory_does_not_hold(tmp_path):
    """Under a limit that the system enforces, killed once: the bits are those of the same training in memory."""
    from benchmarks import streaming

    if memory() < 8e9:
        pytest.skip("the training in memory needs 8 GB")
    found = streaming.compare(tmp_path, 2.0)
    print(found)
    assert found["same_bits"]
    assert found["limit"] != "none"


def test_the_limit_is_real(tmp_path):
    """A process under it that takes more is refused, or killed."""
    from benchmarks import streaming

    with streaming.limited(0.3) as (_, limit):
        take = "import numpy as np; kept = np.ones(10**8); print(kept.sum())"
        assert subprocess.run([sys.executable, "-c", take], preexec_fn=limit, capture_output=True).returncode
    assert subprocess.run([sys.executable, "-c", take], capture_output=True).returncode == 0


def test_a_class_of_thirty(tmp_path):
    """Right, wrong, crashing and endless answers, in one table."""
    from tests.test_classroom import ANSWERS, check_grades

    names = [name for name in ANSWERS if name != "broken.ipynb"]
    for i in range(30):
        (tmp_path / f"{i:02d}_{names[i % len(names)]}").write_text(ANSWERS[names[i % len(names)]])
    began = time.monotonic()
    grades = classroom.grade(tmp_path, seconds=60, jobs=2)
    print(f"\n30 answers in {time.monotonic() - began:.0f} s\n{classroom.table(grades)}")
    assert len(grades) == 30
    check_grades(grades, lambda name: name[3:])
