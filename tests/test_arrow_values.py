"""Values that Arrow keeps otherwise than JSON come out as the JSON that they were made of."""

from decimal import Decimal

import pyarrow as pa
import pytest

from rolewise.data.readers.arrow_values import rows_of


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (Decimal("10"), pa.decimal128(38, 0), 10),
        (Decimal("12345678901234567890"), pa.decimal128(38, 0), 12345678901234567890),  # more digits than a float has
        (Decimal("1200"), pa.decimal128(6, -2), 1200),
        (Decimal("1.50"), pa.decimal128(10, 2), 1.5),
        ([Decimal("3"), None], pa.list_(pa.decimal128(5, 0)), [3, None]),
        ([("k", None)], pa.map_(pa.string(), pa.int64()), {"k": None}),
        (["x", None], pa.list_view(pa.string()), ["x", None]),
        ([1, None], pa.list_(pa.int64(), 2), [1, None]),
        ([0.1, None], pa.list_(pa.float32()), [0.1, None]),  # as a double: 0.10000000149011612
        (0.1, pa.float16(), 0.1),
    ],
)
def test_values_come_out_as_json(value, kind, expected):
    [row] = rows_of(pa.table({"x": pa.array([value], kind)}))
    assert repr(row["x"]) == repr(expected)
