"""An exercise whose answer connects a slider to what follows it: judged by moving the slider."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import numpy as np

from vae_lib.check.grading import Verdict
from vae_lib.check.networks import Off, judged


def follow(connect: Callable[..., Any]) -> Verdict:
    """Check ``connect(slider, show)``, after which ``show(value)`` is called with each new value of the slider.

    >>> from vae_lib import check
    >>> check.follow(lambda slider, show: slider.observe(show, "value"))
    not yet: follow. show gets the whole message about the change: the value is change["new"] in it.
    """

    def judge() -> str:
        if not callable(connect):
            raise Off(f"give the function itself, not {type(connect).__name__}.")
        slider, seen = widgets.FloatSlider(0.5, min=-3.0, max=3.0, step=0.25), []
        connect(slider, lambda *found: seen.append(found))
        at_start = len(seen)
        if any(found != (0.5,) for found in seen):
            raise Off(f"before the slider has moved, show may be called with its value 0.5, not with {seen[0]}.")
        before = 0.5
        for moves, value in enumerate((1.25, -2.0, 0.0), 1):
            try:
                slider.value = value
            except TypeError as error:
                if "'NoneType' object is not callable" not in str(error):
                    raise
                raise Off("observe gets what show returned, nothing: give it a function, and do not call it.") from None
            calls = seen[at_start:]
            if len(calls) == moves - 1:
                raise Off("nothing happens when the slider moves: give slider.observe a function that calls show.")
            if len(calls) > moves:
                raise Off("show is called more than once for a move: register one function, once.")
            _check_call(calls[-1], value, before)
            before = value
        slider.description, slider.max = "z", 4.0
        if len(seen) - at_start > 3:
            raise Off('show is called when something else changes, the maximum for example: observe(..., "value").')
        return "each move calls show once, with the new value."

    return judged("follow", judge)


def _check_call(found: tuple[Any, ...], value: float, before: float) -> None:
    if len(found) != 1:
        raise Off(f"show takes the value alone, not {len(found)} arguments.")
    shown = found[0]
    if isinstance(shown, dict):
        raise Off('show gets the whole message about the change: the value is change["new"] in it.')
    if isinstance(shown, widgets.Widget):
        raise Off('show gets the slider itself: the value is change["new"], or slider.value.')
    if isinstance(shown, np.ndarray) and shown.size == 1:
        shown = shown.item()
    if not isinstance(shown, numbers.Real):
        raise Off(f"show gets {type(shown).__name__} where it takes the value, a number.")
    if float(shown) == before:
        raise Off('show gets the value from before the move: take change["new"], not change["old"].')
    if float(shown) != value:
        raise Off(f"show gets {float(shown):g} where the slider is at {value:g}.")
