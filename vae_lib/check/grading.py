"""How an answer to an exercise is judged: on cases that pin the units, against a reference and known mistakes."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_lib.backend import tf
from vae_lib.errors import one_line

Function = Callable[..., Any]


@dataclass(frozen=True)
class Verdict:
    """What a check found: whether the answer ``passed``, and a ``message`` that names the mistake where it did not."""

    exercise: str
    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'passed' if self.passed else 'not yet'}: {self.exercise}. {self.message}"

    def _repr_html_(self) -> str:
        mark, colour = ("\N{CHECK MARK}", "#0072b2") if self.passed else ("\N{MULTIPLICATION X}", "#b35900")
        text = f"<b>{mark} {'passed' if self.passed else 'not yet'}</b>: <code>{html.escape(self.exercise)}</code>. "
        return (
            f'<div style="border-left: 4px solid {colour}; padding-left: 0.6em">{text}{html.escape(self.message)}</div>'
        )


@dataclass(frozen=True)
class Exercise:
    """A function to write, judged by calling it: ``check.kl(my_kl)`` gives a `Verdict`.

    ``wanted`` says what comes in and out. ``cases`` are lists of arguments, arrays and numbers; ``reference`` is the
    right answer in NumPy. ``mistakes`` are pairs: what to say, and a function that makes this very mistake. An answer
    may use NumPy, TensorFlow or Keras: it is called with tensors first and, where it cannot take those, with arrays.
    """

    name: str
    wanted: str
    cases: Sequence[Sequence[Any]]
    reference: Function
    mistakes: Sequence[tuple[str, Function]]
    tolerance: float = 1e-4
    learned_through: bool = False  # a network must get gradients through it
    large: Sequence[Sequence[int]] = ()  # whole numbers beyond any float, whose results must be equal

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return f"Check {self.wanted}; returns a `Verdict`."

    def __call__(self, answer: Function) -> Verdict:
        with np.errstate(all="ignore"):  # extreme cases underflow, which is no mistake
            return self._judge(answer)

    def _judge(self, answer: Function) -> Verdict:
        def verdict(message: str, *, passed: bool = False) -> Verdict:
            return Verdict(self.name, passed, message)

        if not callable(answer):
            return verdict(f"give the function itself: {self.wanted}, not {type(answer).__name__}.")
        expected = [as_array(self.reference(*case)) for case in self.cases]
        found, failures = None, []
        for kind in (as_tensors, as_arrays):
            try:
                raw = [answer(*kind(case)) for case in self.cases]
                results = [as_array(result) for result in raw]
                again = results if found else [as_array(answer(*kind(case))) for case in self.cases]
            except NoNumbers as error:
                failures.append(str(error))
                continue
            except (Exception, SystemExit) as error:  # whatever a learner's code raises
                failures.append(failure(error))
                continue
            if agree(results, expected, self.tolerance):
                if not self._is_exact(answer):
                    return verdict("it is right for small numbers only: no float may come in between, // and not /.")
                blocked = self.learned_through and not self._passes_gradients(answer)
                return verdict("Equal to the reference on every case." + (BLOCKED if blocked else ""), passed=True)
            if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(results, again, strict=True)):
                return verdict("it gives another answer each time: draw nothing, use the arguments.")
            found = found or results
        if found is None:  # an answer for arrays fails with tensors for another reason
            return verdict(next((text for text in failures if "EagerTensor" not in text), failures[0]))
        for message, mistaken in self.mistakes:
            if agree(found, [as_array(mistaken(*case)) for case in self.cases], self.tolerance):
                return verdict(message)
        return verdict(difference(self.wanted, found, expected, self.tolerance))

    def _is_exact(self, answer: Function) -> bool:
        """Whether the answer gets large whole numbers right, to the last digit."""
        try:
            return all(answer(*case) == self.reference(*case) for case in self.large)
        except Exception:  # it turns them into numbers of bounded size
            return False

    def _passes_gradients(self, answer: Function) -> bool:
        """Whether the answer has a gradient by each of the arrays that the reference depends on smoothly."""
        case = as_tensors(self.cases[0])
        inputs = [value for value in case if isinstance(value, tf.Tensor)]
        try:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                result = answer(*case)
            return all(gradient is not None for gradient in tape.gradient(result, inputs))
        except Exception:  # it takes arrays only, or gives them
            return False


# What a right answer is told through which no gradient passes.
BLOCKED = " But no gradient passes through it: where a network is to learn, use TensorFlow's or Keras' functions."


def as_tensors(case: Sequence[Any]) -> list[Any]:
    """The arrays of a case as TensorFlow's tensors; numbers stay as they are."""
    return [tf.constant(value) if isinstance(value, np.ndarray) else value for value in case]


def as_arrays(case: Sequence[Any]) -> list[Any]:
    """The arrays of a case, each a copy, so that an answer that changes its arguments spoils nothing."""
    return [value.copy() if isinstance(value, np.ndarray) else value for value in case]


class NoNumbers(Exception):
    """What an answer returned instead of numbers, as a sentence."""


def failure(error: BaseException) -> str:
    """What a learner's code raised, in one line."""
    text = one_line(re.sub(r"\x1b\[[\d;]*m|\{\{[^}]*\}\}", "", str(error)).strip())[:200]
    hint = " (does a function that it calls return nothing?)" if "NoneType" in text else ""
    return f"it fails with {type(error).__name__}: {text}{hint}"


def as_array(value: Any) -> np.ndarray:
    """A result as numbers in double precision; raises `NoNumbers` for anything else."""
    if value is None:
        raise NoNumbers("it returns nothing: does it end with a return?")
    if isinstance(value, tf.Tensor) and value.dtype.is_floating:
        value = tf.cast(value, tf.float64)  # NumPy has no bfloat16
    try:
        array = np.asarray(value)
    except ValueError:
        raise NoNumbers("it returns arrays of different shapes.") from None
    if array.dtype.kind not in "biuf":
        raise NoNumbers(f"it returns {type(value).__name__}, which is no array of numbers.")
    return array.astype(np.float64)


def agree(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether all arrays have the same shapes and values."""
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=False)
        for a, b in zip(found, expected, strict=True)
    )


def difference(wanted: str, found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float) -> str:
    """What is off with results that are no known mistake."""
    for result, right in zip(found, expected, strict=True):
        if result.shape != right.shape:
            return f"it returns the shape {result.shape} where {right.shape} is wanted: {wanted}."
        if not np.isfinite(result).all():
            return "it returns values that are not finite: take no logarithm of 0 and no exponential of a large number."
        if not np.allclose(result, right, rtol=tolerance, atol=tolerance):
            worst = int(np.abs(result - right).argmax())
            return (
                f"it returns {result.ravel()[worst]:.5g} where {right.ravel()[worst]:.5g} is right "
                f"(element {worst} of a case): {wanted}."
            )
    return f"it is off: {wanted}."
