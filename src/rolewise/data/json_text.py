"""JSON as data may hold it: finite numbers, and nested no deeper than what reads it can follow."""

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 200
"""Objects and lists within one another. Whatever walks through a record may recurse so deep."""


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: for broken JSON.
        ValueError: saying why, for NaN, Infinity, numbers beyond a float's range, and values nested too deep.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    if text.count("{") + text.count("[") > MAX_DEPTH:
        check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raise ValueError for a value that is nested too deep."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return
    if any(isinstance(item, dict | list) for item in level):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
