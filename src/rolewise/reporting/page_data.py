"""Input of the report page's script: samples packed so that 1,000 samples of 1,000 tokens stay below 30 MB.

A sample is its text once, the lengths of its tokens (UTF-16 code units, as the page counts them), and per labelling its
roles, losses and weights. Numbers are base64 of little-endian arrays after a letter for their type: `B` uint8, `h`
int16, `i` int32, `e` half floats; the narrowest type that holds a sample's values. The lowest integer of `h` and `i`
stands for a missing value. The page unpacks a sample when needed.

Deliberately left out: compression. `DecompressionStream` would make the file smaller, but unpacking would be
asynchronous and older browsers lack it; inline base64 opens anywhere, also from `file://`.
"""

import base64
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from rolewise.core.role import Role
from rolewise.reporting.content import Chart, SampleView

LOSS_SCALE = 1000
"""Losses are stored as whole thousandths of a nat."""

HISTOGRAM_BINS = 60

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def page_data(
    samples: Sequence[SampleView],
    threshold: float | None,
    curves: Sequence[Chart],
    *,
    fingerprint: str | None = None,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the page's data as JSON-serializable values; arguments as in `write_report`."""
    return {
        "threshold": threshold or 0.0,
        "evidence": "score" if any(sample.score is not None for sample in samples) else "LD",
        "roles": [role.label for role in Role],
        "fingerprint": fingerprint,
        "names": [visible(name) for name in names],
        **_scales(samples, threshold),
        "samples": [_sample_data(sample) for sample in samples],
        "curves": [_chart_data(chart) for chart in curves],
    }


def visible(text: str) -> str:
    """Return `text` with characters that UTF-8 or HTML can't hold replaced by visible ones."""
    return _LONE_SURROGATE.sub("\ufffd", text).replace("\0", "\u2400")


def quantised_losses(base: Sequence[float | None], tuned: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return both losses (nats, shape (T,)) in whole thousandths of a nat, float64; NaN if there is none.

    If both exist, the difference is rounded *up*, so that `LD > threshold` gives the same result on the page as in
    full precision for every threshold that is a multiple of a thousandth; the tuned loss shown is off by less than
    0.0015. Differences below 1e-12 are noise of the subtraction.
    """
    base_T, tuned_T = _finite(base), _finite(tuned)
    base_q_T = np.round(base_T * LOSS_SCALE)
    difference_T = np.ceil(np.round((tuned_T - base_T) * LOSS_SCALE, 9))
    return base_q_T, np.where(np.isnan(difference_T), np.round(tuned_T * LOSS_SCALE), base_q_T + difference_T)


def _quantised_evidence(labelling: SampleView) -> np.ndarray:
    """Return the score, else LD, rounded up to whole thousandths of a nat as `quantised_losses` does."""
    if labelling.score is None:
        base_T, tuned_T = quantised_losses(labelling.base_loss, labelling.tuned_loss)
        return np.asarray(tuned_T - base_T)
    return np.asarray(np.ceil(np.round(_finite(labelling.score) * LOSS_SCALE, 9)))


def _finite(values: Sequence[float | None]) -> np.ndarray:
    array = np.array(values, dtype=np.float64)  # None becomes NaN
    array[~np.isfinite(array)] = np.nan
    return array


def _sample_data(sample: SampleView) -> dict[str, Any]:
    tokens = sample.tokens
    text = "".join(tokens)
    if (seen := visible(text)) != text:
        # Token by token: if two tokens share a surrogate pair, each half is lone in its token.
        tokens, text = [visible(token) for token in tokens], seen
    units = [len(token) for token in tokens]
    if max(text, default="") > "\uffff":  # characters of two units are rare, and counting units is slow
        units = [_utf16_units(token) for token in tokens]
    data: dict[str, Any] = {
        "source": visible(sample.source),
        "text": text,
        "lengths": _packed(np.array(units, dtype=np.float64)),
        "labels": [_labels_data(labelling) for labelling in (sample, sample.other) if labelling is not None],
    }
    if sample.true_roles is not None:
        data["truth"] = _packed(np.array(sample.true_roles, dtype=np.float64))
    return data


def _utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _labels_data(labelling: SampleView) -> dict[str, Any]:
    data: dict[str, Any] = {"roles": _packed(np.array(labelling.roles, dtype=np.float64))}
    for name, values in zip(
        ("base", "tuned"), quantised_losses(labelling.base_loss, labelling.tuned_loss), strict=True
    ):
        if not np.isnan(values).all():
            data[name] = _packed(values)
    if labelling.score is not None:
        data["score"] = _packed(_quantised_evidence(labelling))
    if labelling.weights is not None:
        weights_T = _finite(labelling.weights)
        # Relative to the largest, so that weights such as 1/n keep three significant digits.
        largest = float(np.nanmax(np.abs(weights_T), initial=0.0)) or 1.0
        data["weights"] = "e" + _base64((weights_T / largest).astype("<f2"))
        data["largest_weight"] = largest
    return data


def _packed(values: np.ndarray) -> str:
    """Return whole numbers, NaN for missing ones, as the narrowest type's letter and base64."""
    missing = np.isnan(values)
    whole = np.where(missing, 0, values)
    low, high = whole.min(initial=0), whole.max(initial=0)
    if not missing.any() and low >= 0 and high < 2**8:
        return "B" + _base64(whole.astype(np.uint8))
    letter, bits = ("h", 15) if low > -(2**15) and high < 2**15 else ("i", 31)
    clipped = np.clip(whole, -(2**bits) + 1, 2**bits - 1)
    return letter + _base64(np.where(missing, -(2**bits), clipped).astype(f"<i{(bits + 1) // 8}"))


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _scales(samples: Sequence[SampleView], threshold: float | None) -> dict[str, Any]:
    """Return the color scales' ends (98 % quantiles), the slider's range and its histogram, over loss tokens."""
    parts: dict[str, list[np.ndarray]] = {"ld": [], "base": [], "weight": []}
    for sample in samples:
        for labelling in (sample, sample.other):
            if labelling is None:
                continue
            carries_loss = np.array(labelling.roles, dtype=np.int64) != Role.CONTEXT
            base_T, _ = quantised_losses(labelling.base_loss, labelling.tuned_loss)
            found = {"base": base_T, "weight": _finite(labelling.weights or [])}
            if labelling is sample:  # the slider moves its threshold
                found["ld"] = _quantised_evidence(labelling)
            for name, values in found.items():
                if len(values):
                    parts[name].append(values[carries_loss & ~np.isnan(values)])
    ld, base, weight = (np.concatenate([np.zeros(0), *parts[name]]) for name in ("ld", "base", "weight"))
    scales = {"ld": _high(np.abs(ld)), "base": _high(base), "weight": _high(weight)}
    if not len(ld) or threshold is None:
        return {"scales": scales, "histogram": None}
    nats = ld / LOSS_SCALE
    widest = max(*np.abs(np.quantile(nats, [0.01, 0.99])), abs(threshold), 0.1)
    end = float(np.ceil(widest * 10) / 10)
    # Tokens with the lowest score are decided: no threshold may call them reasoning.
    start = max(-end, float(nats.min())) if any(sample.score is not None for sample in samples) else -end
    counts, _ = np.histogram(np.clip(nats, start, end), bins=HISTOGRAM_BINS, range=(start, end))
    return {"scales": scales, "histogram": {"start": start, "end": end, "counts": counts.tolist()}}


def _high(values: np.ndarray) -> float:
    return (float(np.quantile(values, 0.98)) if len(values) else 0.0) or 1.0


def _chart_data(chart: Chart) -> dict[str, Any]:
    return {
        "title": visible(chart.title),
        "x_label": visible(chart.x_label),
        "y_label": visible(chart.y_label),
        "series": [
            {
                "name": visible(series.name),
                "points": [
                    [float(x), float(y) if np.isfinite(y) else None] for x, y in zip(series.xs, series.ys, strict=True)
                ],
            }
            for series in chart.series
        ],
    }
