"""Rows of Arrow tables (Parquet, data set directories, the hub) as the original JSON values.

Differences of Arrow from JSON, and the rule for each:

- A struct has every key that any row's object had; where a row had none it says null, and so it does for a true null.
  The two can't be told apart. A null in a struct is a missing key, but for one case: in calls and tools, a key that has
  no value but null in the whole column (its Arrow type is null) can only come of true nulls and is kept. What a call's
  arguments had is decided once the record's tools are known (see `struct_nulls`).
- Json() columns of `datasets`, maps, lists, and JSON text hold what was written: every null stays.
- Bytes are UTF-8 text; others stay bytes, for whoever needs text there to refuse.
- Dates and times are ISO text, decimals numbers, whole ones without places; short floats have the digits they show.
"""

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from rolewise.data.readers.struct_nulls import Struct
from rolewise.data.strict_json import read_json

_EXACT_KEYS = frozenset({"tool_calls", "function_call", "tools", "functions", "answers"})
"""Columns and fields in which null may be an argument or part of a schema."""


def rows_of(batch: "pa.Table | pa.RecordBatch") -> Iterator[dict[str, Any]]:
    """Yield the rows as dictionaries, each without the columns in which it has null."""
    for row in batch.to_pylist():
        values = {
            field.name: _value(row[field.name], field.type, field.name in _EXACT_KEYS)
            for field in batch.schema
            if row[field.name] is not None
        }
        yield values


def _value(value: Any, kind: pa.DataType, exact: bool) -> Any:
    """A value as JSON has it; `exact` within calls and tools."""
    if isinstance(value, float) and (pa.types.is_float32(kind) or pa.types.is_float16(kind)):
        return float(str(np.float32(value) if pa.types.is_float32(kind) else np.float16(value)))
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(kind, pa.JsonType):
        return _parsed(value)
    if isinstance(kind, pa.BaseExtensionType):
        return _value(value, kind.storage_type, exact)
    if pa.types.is_struct(kind) and isinstance(value, dict):
        fields = {field.name: field.type for field in kind}
        kept = (
            (key, _value(item, fields[key], exact or key in _EXACT_KEYS))
            for key, item in value.items()
            if item is not None or (exact and pa.types.is_null(fields[key]))
        )
        return Struct(kept, tuple(value))
    if pa.types.is_map(kind):
        pairs = value.items() if isinstance(value, dict) else value
        return {str(_value(key, kind.key_type, exact)): _value(item, kind.item_type, exact) for key, item in pairs}
    if pa.types.is_dictionary(kind):
        return _value(value, kind.value_type, exact)
    if isinstance(value, list):
        return [_value(item, kind.value_type, exact) for item in value]
    return _scalar(value, kind)


def _scalar(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        # Databases write whole numbers this way, with more digits than a float has.
        return int(value) if kind.scale <= 0 else float(value)
    return value if isinstance(value, str) else str(value)


def _parsed(text: Any) -> Any:
    """Return the value of a cell of a Json() column; text that is not JSON stays text."""
    if not isinstance(text, str):
        return text
    try:
        return read_json(text)
    except ValueError:
        return text
