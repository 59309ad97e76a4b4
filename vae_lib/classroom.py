"""A folder of answers graded in one go: each file runs in a process of its own, within limits of time and memory.

The limits keep a mistake from stopping the others; they are no protection against malice. What students hand in runs
with your rights: grade it where that does no harm.
"""

from __future__ import annotations

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
CALL = re.compile(r"\bcheck\.([a-z]\w*)\(")
MAGIC = re.compile(r"^(\s*)[%!].*", re.MULTILINE)  # a line that only a notebook understands


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
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise UserError(f"{folder} holds no file that ends in {' or '.join(SUFFIXES)}.")
    return files


def code_of(file: Path) -> list[str]:
    """The cells of a notebook, or a Python file as the only one; raises `UserError` for what is neither."""
    try:
        text = file.read_text("utf-8-sig")  # some editors begin with a mark
        if file.suffix == ".py":
            return [text]
        cells = json.loads(text)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"it cannot be read ({type(error).__name__}).") from None


def grade(
    folder: Path, *, seconds: float = 600.0, gigabytes: float = 4.0, jobs: int = 1, tell: Callable[[Grade], object] = id
) -> list[Grade]:
    """The grades of all files in a folder, in their order; ``tell`` is called with each.

    A file is stopped after so many ``seconds``, and gets no more than so many ``gigabytes`` where the system can limit
    that. ``jobs`` files run at a time. Raises `UserError`.
    """
    files, grades = find_answers(folder), list[Grade]()
    root = folder if folder.is_dir() else folder.parent
    with ThreadPoolExecutor(jobs) as pool, _ending_all(pool):
        for found in pool.map(lambda f: _grade(f, one_line(f.relative_to(root).as_posix()), seconds, gigabytes), files):
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


def _grade(file: Path, name: str, seconds: float, gigabytes: float) -> Grade:
    try:
        asked = list(dict.fromkeys(CALL.findall("\n".join(code_of(file)))))
    except UserError as error:
        return Grade(name, (), {}, str(error))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        results = Path(place, "results.jsonl")
        command = [sys.executable, "-m", "vae_lib.classroom", os.path.abspath(file), str(results), str(gigabytes)]
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
    said = dict.fromkeys(asked, "not reached") | {exercise: message for exercise, (_, message) in verdicts.items()}
    passed = tuple(exercise for exercise in said if exercise in verdicts and verdicts[exercise][0])
    failed = {exercise: message for exercise, message in said.items() if exercise not in passed}
    return Grade(name, passed, failed, remark)


def _why(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-status).name}"
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

    def recording(exercise: Callable[..., Any]) -> Callable[..., Any]:
        def judge(*answers: Any, **options: Any) -> Any:
            verdict = exercise(*answers, **options)
            write({"exercise": verdict.exercise, "passed": verdict.passed, "message": verdict.message})
            return verdict

        return judge

    real = {name: getattr(check, name) for name in check.__all__ if name not in ("Exercise", "Verdict")}
    for name, exercise in real.items():
        setattr(check, name, recording(exercise))
    yield
    for name, exercise in real.items():
        setattr(check, name, exercise)


def run_answer(file: Path, results: Path, gigabytes: float) -> None:
    """Run the cells of an answer one after another, and write what the exercises say, a line of JSON each.

    A cell that fails is written down too, and the next one runs. Functions that are called like an exercise are checked
    at the end once more, so that a file need not check itself.
    """
    from vae_lib import check
    from vae_lib.check.grading import Exercise, failure

    _limit_memory(gigabytes)
    with open(results, "a", encoding="utf-8") as lines:

        def write(row: dict[str, Any]) -> None:
            print(json.dumps(row), file=lines, flush=True)

        names: dict[str, Any] = {"__name__": "__main__", "display": lambda *_: None}
        with _recorded(write):
            for number, cell in enumerate(code_of(file), 1):
                where = file.name if file.suffix == ".py" else f"cell {number}"
                try:
                    exec(_compiled(cell, f"<{where}>"), names)
                except (Exception, SystemExit) as error:
                    write({"error": f"{where}: {failure(error)}"})
        for name in check.__all__:
            exercise, answer = getattr(check, name), names.get(name)
            if isinstance(exercise, Exercise) and callable(answer) and answer is not exercise:
                verdict = exercise(answer)
                write({"exercise": name, "passed": verdict.passed, "message": verdict.message})


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
    run_answer(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
    os._exit(0)  # whatever threads the answer has left


if __name__ == "__main__":
    main()
