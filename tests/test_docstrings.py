"""Every example in a docstring runs and prints what it says, and what a user meets first has one."""

import doctest
import importlib

import pytest

import vae_lib
from tests.test_structure import modules

WITH_EXAMPLES = [name for name, path in modules().items() if ">>> " in path.read_text()]
FIRST = ("VAE", "dissect", "evaluate", "explore", "explorer_page", "load_data", "manifold", "reconstructions",
         "samples", "save_run", "spiral_frames", "train", "watch")  # fmt: skip


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_run(name):
    found = doctest.testmod(importlib.import_module(f"vae_lib.{name}"))
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("name", FIRST)
def test_there_is_an_example(name):
    assert doctest.DocTestFinder(recurse=False).find(getattr(vae_lib, name), name)[0].examples


@pytest.mark.parametrize("name", vae_lib.__all__)
def test_every_public_name_is_described(name):
    assert (getattr(vae_lib, name).__doc__ or "").strip()
