"""JSON as data may hold it: finite numbers, and nested no deeper than what reads it can follow."""

import math
from typing import Any, NoReturn

from rolewise.core.limits import parse_json


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: for broken JSON.
        ValueError: saying why, for NaN, Infinity, numbers beyond a float's range, and values nested too deep.
    """
    return parse_json(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
