"""Collects the answers to all bad inputs and files, and prints them as a table at the end."""

import os
from pathlib import Path

import pytest


def pytest_configure(config):
    pytest.FAULT_TABLE = []


def pytest_terminal_summary(terminalreporter):
    rows = pytest.FAULT_TABLE
    for kind, title in (("input", "bad inputs"), ("file", "damaged and hostile runs")):
        of_kind = [(name, sentence) for k, name, sentence in rows if k == kind]
        if of_kind and terminalreporter.verbosity > 0:
            terminalreporter.section(f"{len(of_kind)} {title}, each refused with one sentence")
            for name, sentence in of_kind:
                terminalreporter.line(f"{name}\n    {sentence}")
    if target := os.environ.get("FAULT_TABLE"):
        lines = [f"| {kind} | `{name}` | {sentence.replace('|', '/')} |" for kind, name, sentence in rows]
        Path(target).write_text("\n".join(lines) + "\n")
