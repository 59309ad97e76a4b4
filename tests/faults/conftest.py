"""Collects the answers to all bad inputs and files, and prints them as a table at the end."""

import os

import pytest

from tests.conftest import ROOT

END = "<!-- end of the catalogue -->"
KINDS = {"input": "bad inputs", "file": "damaged and hostile runs"}


def pytest_configure(config):
    pytest.FAULT_TABLE = []


def pytest_terminal_summary(terminalreporter):
    tables = []
    for kind, title in KINDS.items():
        rows = [(name, sentence) for k, name, sentence in pytest.FAULT_TABLE if k == kind]
        if rows and terminalreporter.verbosity > 0:
            terminalreporter.section(f"{len(rows)} {title}, each refused with one sentence")
            for name, sentence in rows:
                terminalreporter.line(f"{name}\n    {sentence}")
        tables += [f"| {title}: {len(rows)} | answer |", "| --- | --- |"]
        tables += [f"| `{name}` | {sentence.replace('|', '/')} |" for name, sentence in rows] + [""]
    if os.environ.get("CATALOGUE"):  # make catalogue
        page = ROOT / "CONTRIBUTING.md"
        head, mark, rest = page.read_text().partition("<!-- catalogue -->\n")
        page.write_text(head + mark + "\n".join(tables) + END + rest.partition(END)[2])
