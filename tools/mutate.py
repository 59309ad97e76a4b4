"""Mutation testing: does a small fault in the package fail a test? ``python -m tools.mutate [ROOM ...] --count 40``.

A mutant is the package with one expression changed: a comparison, an operator, a number, a flag that is dropped, a
statement that is left out. For each, only the tests run that reach its line, the fastest first, until one fails:
``--map`` runs all tests once and keeps which test reaches which line in ``build/mutation/``. Mutants are drawn at
random from ``--seed``, so many of each room; the survivors are printed as a diff, and the table goes to
``build/mutation/RESULTS.md``. Nothing in the checkout is changed: each worker has a copy of its own.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parents[1]
BUILD = HERE / "build" / "mutation"
ROOMS = {
    "losses": ["losses.py", "objectives.py"],
    "networks": ["networks.py", "augment.py", "optimization.py", "priors.py"],
    "model": ["model.py", "config.py", "arrays.py"],
    "training": ["trainer.py", "training.py", "backend.py"],
    "data": ["data/loading.py", "data/sources.py"],
    "marginal": ["marginal.py"],
    "evaluation": ["evaluation.py", "report.py", "scoreboard.py"],
    "pictures": ["latent.py", "figures.py", "pictures.py", "sliders.py"],
    "runs": ["runs/*.py", "files.py", "errors.py"],
    "cli": ["cli/*.py"],
    "page": ["page/export.py"],
}
LEFT_OUT = "not torture and not browser"
TESTS_FOR_ONE = 40  # of the tests that reach a line, the fastest so many
SECONDS = 240  # for the tests of one mutant; a mutant that never ends is caught
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change: the file in the package, the line it is on, and the whole text that the file has with it."""

    file: str
    line: int
    text: str


class Verdict(NamedTuple):
    """``caught`` by a failing test; ``unreached`` where no test comes by."""

    mutant: Mutant
    caught: bool
    unreached: bool


def changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """What may stand in the place of a node; None: nothing (of a statement)."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield ast.Compare(node.left, [SWAPS[type(op)]()], node.comparators)
        case ast.BinOp(op=op) if type(op) in SWAPS:
            yield ast.BinOp(node.left, SWAPS[type(op)](), node.right)
        case ast.BoolOp(op=op):
            yield ast.BoolOp(SWAPS[type(op)](), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 1.25 + 0.1)
        case ast.If() | ast.IfExp() | ast.While():
            changed = copy.copy(node)
            changed.test = ast.UnaryOp(ast.Not(), node.test)
            yield changed
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.AugAssign():
            yield None
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg is not None:
                yield ast.Call(node.func, node.args, [k for k in node.keywords if k is not keyword])


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a file, but for those in annotations, docstrings and messages."""
    tree = ast.parse(source)
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if name in ("annotation", "returns", "decorator_list", "type_params") or isinstance(parent, ast.JoinedStr):
                continue
            places = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
            for place, node in places:
                if not isinstance(node, ast.AST) or _says_something(parent):
                    continue
                for changed in changes(node):
                    _set(parent, name, place, ast.Pass() if changed is None else changed)
                    yield Mutant(file, node.lineno, ast.unparse(ast.fix_missing_locations(tree)))
                    _set(parent, name, place, node)


def _says_something(node: ast.AST) -> bool:
    """Whether a node only makes a message."""
    return isinstance(node, ast.Raise) or (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("UserError", "Fault", "notice", "print", "TypeVar")
    )


def _set(parent: ast.AST, name: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[place] = node


def map_tests() -> None:
    """Run all tests once; keep for each line the tests that reach it, and for each test its seconds."""
    BUILD.mkdir(parents=True, exist_ok=True)
    report = BUILD / "coverage.json"
    environment = os.environ | {"COVERAGE_FILE": str(BUILD / "coverage")}
    command = [sys.executable, "-m", "pytest", "tests", "-q", "--cov", "--cov-context=test", "-m", LEFT_OUT]
    command += ["--cov-report=", "--junitxml", str(BUILD / "times.xml")]
    subprocess.run(command, cwd=HERE, env=environment, check=False)
    command = [sys.executable, "-m", "coverage", "json", "--show-contexts", "-o", str(report), "-q"]
    subprocess.run(command, cwd=HERE, env=environment, check=True)


def read_map() -> dict[str, dict[int, list[str]]]:
    """For each file of the package and each line of it the tests that reach it, the fastest first.

    TensorFlow's graphs run a rewritten copy of a function, whose lines coverage does not know. A line that nothing
    seems to reach therefore gets the tests of the other lines of its function, or else of its file.
    """
    import xml.etree.ElementTree as ET

    seconds: dict[str, float] = {}
    for case in ET.parse(BUILD / "times.xml").iter("testcase"):
        module = case.attrib["classname"].replace(".", "/")
        seconds[f"{module}.py::{case.attrib['name']}"] = float(case.attrib["time"])
    found: dict[str, dict[int, list[str]]] = {}
    for file, entry in json.loads((BUILD / "coverage.json").read_text())["files"].items():
        lines = found.setdefault(str(Path(file).relative_to("vae_lib")), {})
        for line, contexts in entry.get("contexts", {}).items():
            tests = {context.partition("|")[0] for context in contexts} - {""}
            lines[int(line)] = sorted(tests, key=lambda test: seconds.get(test, 1e9))
        _spread(lines, ast.parse((HERE / file).read_text()), lambda test: seconds.get(test, 1e9))
    return found


def _spread(lines: dict[int, list[str]], tree: ast.Module, seconds: Callable[[str], float]) -> None:
    """Give the lines without tests those of the smallest function around them that has some, or of the file."""
    places = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    places.sort(key=lambda node: (node.end_lineno or 0) - node.lineno)
    spans = [range(node.lineno, (node.end_lineno or node.lineno) + 1) for node in places]
    known = {line: tests for line, tests in lines.items() if tests}
    for line in range(1, max([*lines, *(span.stop for span in spans)], default=0)):
        for span in [*(span for span in spans if line in span), range(10**6)]:
            if not lines.get(line):
                tests = {test for other, found in known.items() if other in span for test in found}
                lines[line] = sorted(tests, key=seconds)


def judge(mutant: Mutant, tests: list[str], copies: list[Path]) -> Verdict:
    """Run the tests that reach a mutant, in a copy of the checkout, until one fails."""
    if not tests:
        return Verdict(mutant, caught=False, unreached=True)
    place = copies.pop()
    target = place / "vae_lib" / mutant.file
    original = target.read_text()
    try:
        target.write_text(mutant.text)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", LEFT_OUT, "--no-cov"]
        command += tests[:TESTS_FOR_ONE]
        silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            status = subprocess.run(command, cwd=place, timeout=SECONDS, check=False, **silent).returncode
        except subprocess.TimeoutExpired:
            status = 1
        return Verdict(mutant, caught=status != 0, unreached=False)
    finally:
        target.write_text(original)
        copies.append(place)


def describe(mutant: Mutant) -> str:
    """The lines that a mutant changes."""
    before = ast.unparse(ast.parse((HERE / "vae_lib" / mutant.file).read_text())).splitlines()
    lines = difflib.unified_diff(before, mutant.text.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if line[:2] not in ("--", "++", "@@"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=", ".join(ROOMS))
    parser.add_argument("--map", action="store_true", help="run all tests and keep which lines each reaches")
    parser.add_argument("--count", type=int, default=40, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if args.map:
        map_tests()
    reached = read_map()
    rows = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.workers) as pool:
        copies = [Path(folder) / str(i) for i in range(args.workers)]
        for place in copies:
            shutil.copytree(HERE, place, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "*.gif"))
        for room in args.rooms or ROOMS:
            files = [path for pattern in ROOMS[room] for path in sorted((HERE / "vae_lib").glob(pattern))]
            names = [str(path.relative_to(HERE / "vae_lib")) for path in files]
            every = [m for name, path in zip(names, files, strict=True) for m in mutants(name, path.read_text())]
            chosen = random.Random(args.seed).sample(every, min(args.count, len(every)))
            verdicts = list(pool.map(lambda m: judge(m, reached.get(m.file, {}).get(m.line, []), copies), chosen))
            caught = sum(v.caught for v in verdicts)
            rows.append(f"| {room} | {len(every)} | {len(chosen)} | {caught} | {caught / len(chosen):.0%} |")
            for verdict in verdicts:
                if not verdict.caught:
                    reason = "no test reaches it" if verdict.unreached else "survived"
                    print(f"{room}: {verdict.mutant.file}:{verdict.mutant.line} {reason}\n{describe(verdict.mutant)}")
            print(rows[-1], flush=True)
    head = "| room | mutants | drawn | caught | share |\n| --- | --- | --- | --- | --- |\n"
    (BUILD / "RESULTS.md").write_text(head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
