"""JSON as data may hold it: finite numbers, and limited nesting that every later reader can follow."""

import math
from typing import Any, NoReturn

from rolewise.core.limits import parse_json


def read_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        json.JSONDecodeError: for broken JSON.
        ValueError: with the reason, for NaN, Infinity, numbers beyond a float's range, and values nested too deeply.
    """
    return parse_json(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
