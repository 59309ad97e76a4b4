"""A folder of answers graded in one go: each file runs in a process of its own, within limits of time and memory.

The limits keep a mistake from stopping the others; they are no protection against malice. What students hand in runs
with your rights: grade it where that does no harm.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import linecache
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from vae_lib.errors import UserError, one_line

RUNNING: set[subprocess.Popen[bytes]] = set()
SUFFIXES = (".py", ".ipynb")
MAGIC = re.compile(r"^(\s*)(?:[%!?].*|[\w.]+\?+[ \t]*)$", re.MULTILINE)  # a line that only a notebook understands


class Grade(NamedTuple):
    """What a file was found to hold: the exercises that it passed and those that it did not, with the reasons.

    ``name`` is the file's path inside of the folder. ``remark`` says what went wrong with the file as a whole, and is
    empty where nothing did.
    """

    name: str
    passed: tuple[str, ...]
    failed: dict[str, str]
    remark: str

    @property
    def total(self) -> int:
        """How many exercises the file is about."""
        return len(self.passed) + len(self.failed)


def find_answers(folder: Path) -> list[Path]:
    """The notebooks and Python files in a folder, or the one file that is given; raises `UserError`."""
    if folder.is_file() and folder.suffix in SUFFIXES:
        return [folder]
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder, and no file that ends in {' or '.join(SUFFIXES)}.")
    files = [path for path in _files(folder) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"{folder} holds no file that ends in {' or '.join(SUFFIXES)}.")
    return files


def left_out(folder: Path) -> list[str]:
    """The names of those files in a folder that are no answers, an archive for example."""
    return [path.relative_to(folder).as_posix() for path in _files(folder) if path.suffix.lower() not in SUFFIXES]


def _files(folder: Path) -> list[Path]:
    """All files, but for hidden ones and those in hidden folders."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def code_of(file: Path) -> list[str]:
    """The cells of a notebook, or a Python file as the only one; raises `UserError` for what is neither."""
    try:
        text = file.read_text("utf-8-sig")  # some editors begin with a mark
        if file.suffix.lower() == ".py":
            return [text]
        cells = json.loads(text)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"it cannot be read ({type(error).__name__}).") from None


def asked_in(cells: Sequence[str]) -> list[str]:
    """The exercises that code calls as ``check.NAME(...)``, or by a name imported from ``vae_lib.check``, in order."""
    from vae_lib import check

    called, imported = list[str](), dict[str, str]()
    for cell in cells:
        try:
            tree = ast.parse(MAGIC.sub(r"\1pass", cell))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "vae_lib.check":
                imported |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called.append(imported.get(node.func.id, ""))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of_check = isinstance(node.func.value, ast.Name) and node.func.value.id == "check"
                called.append(node.func.attr if of_check else "")
    return list(dict.fromkeys(name for name in called if name in check.__all__ and name.islower()))


def grade(
    folder: Path,
    *,
    against: Path | None = None,
    seconds: float = 600.0,
    gigabytes: float = 4.0,
    jobs: int = 1,
    tell: Callable[[Grade], object] = id,
) -> list[Grade]:
    """The grades of all files in a folder, in their order; ``tell`` is called with each.

    Each is graded by the exercises of the notebook or Python file ``against``, or else by those that it holds itself.
    It is stopped after so many ``seconds``, and gets no more than so many ``gigabytes`` where the system can limit
    that. ``jobs`` files run at a time. Raises `UserError`.
    """
    files, grades, exercises = find_answers(folder), list[Grade](), None
    if against is not None:
        if against.suffix.lower() not in SUFFIXES or not against.is_file():
            raise UserError(f"{against} is no file that ends in {' or '.join(SUFFIXES)}.")
        exercises = asked_in(code_of(against))
        if not exercises:
            raise UserError(f"{against} holds no exercise.")
    root = folder if folder.is_dir() else folder.parent

    def graded(file: Path) -> Grade:
        return _grade(file, one_line(file.relative_to(root).as_posix()), exercises, seconds, gigabytes)

    with ThreadPoolExecutor(jobs) as pool, _ending_all(pool):
        for found in pool.map(graded, files):
            tell(found)
            grades.append(found)
    return grades


@contextlib.contextmanager
def _ending_all(pool: ThreadPoolExecutor) -> Iterator[None]:
    """End what runs, and begin nothing more, where the grading is interrupted."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(RUNNING):
            _end(process)
        raise


def _grade(file: Path, name: str, exercises: list[str] | None, seconds: float, gigabytes: float) -> Grade:
    try:
        cells = code_of(file)
        asked = asked_in(cells) if exercises is None else exercises
    except UserError as error:
        return Grade(name, (), dict.fromkeys(exercises or [], "not reached"), str(error))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        results = Path(place, "results.jsonl")
        command = [sys.executable, "-m", "vae_lib.classroom", os.path.abspath(file), str(results), str(gigabytes)]
        command += asked
        # A session of its own, so that what the answer has started ends with it.
        process = subprocess.Popen(
            command, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env=os.environ | {"MPLBACKEND": "agg"},
        )  # fmt: skip
        RUNNING.add(process)
        try:
            status = process.wait(seconds)
            remark = "" if status == 0 else _why(status)
        except subprocess.TimeoutExpired:
            remark = f"stopped after {seconds:g} s"
        finally:
            _end(process)
            RUNNING.discard(process)
        verdicts, errors = _read(results)
    if errors and not remark:
        remark = errors[0]
    said = dict.fromkeys(asked, "not reached") | {
        exercise: message for exercise, (_, message) in verdicts.items() if exercises is None or exercise in exercises
    }
    if not said and not remark:
        remark = "holds no exercise"
    passed = tuple(exercise for exercise in said if exercise in verdicts and verdicts[exercise][0])
    failed = {exercise: message for exercise, message in said.items() if exercise not in passed}
    return Grade(name, passed, failed, remark)


def _why(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
            return f"ended by {name}" + (", perhaps for want of memory" if name in ("SIGABRT", "SIGKILL") else "")
    return f"ended with status {status}"


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _read(results: Path) -> tuple[dict[str, tuple[bool, str]], list[str]]:
    """The last verdict on each exercise, and what was raised outside of them."""
    verdicts: dict[str, tuple[bool, str]] = {}
    errors: list[str] = []
    try:
        lines = results.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return verdicts, errors
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            if "error" in row:
                errors.append(str(row["error"]))
            else:
                verdicts[str(row["exercise"])] = (bool(row["passed"]), str(row["message"]))
    return verdicts, errors


def table(grades: Sequence[Grade]) -> str:
    """The grades as a table in Markdown."""
    rows = [("file", "passed", "not yet", "remark")]
    for found in grades:
        count = f"{len(found.passed)} of {found.total}"
        rows.append((found.name.replace("|", "/"), count, ", ".join(found.failed), found.remark.replace("|", "/")))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    rows.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    )


def as_csv(grades: Sequence[Grade]) -> str:
    """One line for each file and exercise, with what `vae_lib.check` said."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "exercise", "passed", "message", "remark"))
    for found in grades:
        for name in found.passed:
            writer.writerow((found.name, name, 1, "", found.remark))
        for name, message in found.failed.items():
            writer.writerow((found.name, name, 0, message, found.remark))
        if not found.total:
            writer.writerow((found.name, "", "", "", found.remark))
    return text.getvalue()


# ---- in the process of an answer -----------------------------------------------------------------------------


def _limit_memory(gigabytes: float) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # which Windows does not have

        limit = int(gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


@contextlib.contextmanager
def _recorded(write: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Write down what each exercise says when it is called, by whatever name it was imported."""
    from vae_lib import check

    def recording(name: str, exercise: Callable[..., Any]) -> Callable[..., Any]:
        def judge(*answers: Any, **options: Any) -> Any:
            if any(str(getattr(answer, "__module__", "")).startswith("vae_lib.") for answer in answers):
                write({"error": f"{name} was given a function of vae_lib"})
            verdict = exercise(*answers, **options)
            write({"exercise": verdict.exercise, "passed": verdict.passed, "message": verdict.message})
            return verdict

        judge.__wrapped__ = exercise  # type: ignore[attr-defined]
        return judge

    real = {name: getattr(check, name) for name in check.__all__ if name not in ("Exercise", "Verdict")}
    for name, exercise in real.items():
        setattr(check, name, recording(name, exercise))
    yield
    for name, exercise in real.items():
        setattr(check, name, exercise)


def run_answer(file: Path, results: Path, gigabytes: float, asked: Sequence[str] = ()) -> None:
    """Run the cells of an answer one after another, and write what the exercises say, a line of JSON each.

    A cell that fails is written down too, and the next one runs. Of the exercises that are ``asked`` for, those that
    did not pass are checked once more at the end by the functions of their names, so that a file need not check
    itself; of all exercises, where none is asked for.
    """
    from vae_lib import check
    from vae_lib.check.grading import Exercise, failure

    _limit_memory(gigabytes)
    with open(results, "a", encoding="utf-8") as lines:

        def write(row: dict[str, Any]) -> None:
            print(json.dumps(row), file=lines, flush=True)

        sys.path.insert(0, str(file.parent))  # what lies beside it can be imported
        names: dict[str, Any] = {"__name__": "__main__", "display": lambda *_: None, "get_ipython": _Shell}
        has_check = False
        with _recorded(write):
            for number, cell in enumerate(code_of(file), 1):
                where = file.name if file.suffix == ".py" else f"cell {number}"
                try:
                    exec(_compiled(cell, f"<{where}>"), names)
                except (Exception, SystemExit) as error:
                    write({"error": f"{where}: {failure(error)}"})
                if has_check and names.get("check") is not check:
                    write({"error": f"{where}: it gives the name check to something else"})
                    names["check"] = check
                has_check = names.get("check") is check
        passed = {name for name, (is_right, _) in _read(results)[0].items() if is_right}
        for name in asked or check.__all__:
            exercise, answer = getattr(check, name), names.get(name)
            if not isinstance(exercise, Exercise) or not callable(answer) or name in passed:
                continue
            if getattr(answer, "__wrapped__", answer) is not exercise:
                verdict = exercise(answer)
                write({"exercise": name, "passed": verdict.passed, "message": verdict.message})


class _Shell:
    """What ``get_ipython()`` gives where there is no notebook: everything can be called, and nothing happens."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: None


def _compiled(cell: str, where: str) -> Any:
    """The code of a cell; lines that only a notebook understands do nothing."""
    head = re.match(r"\s*%%(\w+)", cell)
    if head is not None and head.group(1) not in ("time", "timeit", "capture"):
        cell = ""  # in another language
    try:
        code = compile(cell, where, "exec")
    except SyntaxError:
        cell = MAGIC.sub(r"\1pass", cell)
        code = compile(cell, where, "exec")
    # What TensorFlow makes graphs of, it reads the source of.
    linecache.cache[where] = (len(cell), None, cell.splitlines(keepends=True), where)
    return code


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who grades ends this by killing it
    run_answer(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
    os._exit(0)  # whatever threads the answer has left


if __name__ == "__main__":
    main()
