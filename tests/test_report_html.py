"""The report page as a file: what goes in comes out, nothing in it can run, and it is written atomically."""

import base64
import hashlib
import itertools
import json
import math
import random
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.reporting.html import Chart, Generation, SampleView, Series, Table, write_report
from rolewise.reporting.page_data import quantised_losses

HOSTILE = "</script><script>window.pwned=1</script><!--<img src=x onerror=alert(1)>\u2028]]>&amp;"


class Page(HTMLParser):
    """The page as a browser's parser splits it: the text of each element of interest, and the tags seen."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.policy = ""
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open = tag
        self.attributes += attrs
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        if tag in ("script", "style"):
            (self.scripts if tag == "script" else self.styles).append("")

    def handle_data(self, data: str) -> None:
        if self.open == "script":
            self.scripts[-1] += data
        elif self.open == "style":
            self.styles[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    @property
    def data(self) -> dict[str, Any]:
        value = json.loads(self.scripts[0], parse_constant=pytest.fail)
        assert isinstance(value, dict)
        return value


def sample(**changes: Any) -> SampleView:
    fields: dict[str, Any] = {
        "source": "data.jsonl:1",
        "tokens": ["ask ", "{", "Oslo", "Oslo"],
        "roles": [Role.CONTEXT, Role.FORMAT, Role.REASONING, Role.TEMPLATE],
        "base_loss": [None, 0.1, 1.2344, 2.0],
        "tuned_loss": [None, 0.05, 2.0, 2.0],
    }
    return SampleView(**{**fields, **changes})


def written(folder: Path, *samples: SampleView, **more: Any) -> str:
    path = folder / "report.html"
    write_report(path, **{"title": "t", "summary": [], "samples": list(samples), **more})
    return path.read_text(encoding="utf-8")


def unpacked(packed: str) -> list[float | None]:
    """Numbers as the page reads them, one at a time."""
    raw = base64.b64decode(packed[1:])
    kind = "<" + packed[0]
    values = [value for (value,) in struct.iter_unpack(kind, raw)]
    missing = {"h": -(2**15), "i": -(2**31)}.get(packed[0])
    return [None if value == missing or math.isnan(value) else value for value in values]


def tokens_of(packed: dict[str, Any]) -> list[str]:
    """The sample's text cut at its lengths, which count UTF-16 code units."""
    units = packed["text"].encode("utf-16-le")
    ends = list(itertools.accumulate(unpacked(packed["lengths"]), initial=0))
    return [units[2 * start : 2 * end].decode("utf-16-le") for start, end in itertools.pairwise(ends)]


def test_samples_round_trip(tmp_path: Path) -> None:
    given_sample = sample(weights=[0.0, 1 / 3000, 0.5, None], true_roles=[0, 3, 2, 3])
    data = Page(written(tmp_path, given_sample, threshold=0.25)).data
    (packed,) = data["samples"]
    (labels,) = packed["labels"]
    assert data["threshold"] == 0.25
    assert data["roles"] == ["context", "plain", "reasoning", "boilerplate", "format", "template"]
    assert tokens_of(packed) == given_sample.tokens
    assert packed["source"] == "data.jsonl:1"
    assert unpacked(labels["roles"]) == [0, 4, 2, 5]
    assert unpacked(packed["truth"]) == [0, 3, 2, 3]
    assert unpacked(labels["base"]) == [None, 100, 1234, 2000]
    assert unpacked(labels["tuned"]) == [None, 50, 2000, 2000]
    *weights, missing = unpacked(labels["weights"])
    assert [weight * labels["largest_weight"] for weight in weights] == pytest.approx([0, 1 / 3000, 0.5], rel=5e-4)
    assert missing is None
    numpy_sample = sample(
        roles=np.array(given_sample.roles, np.uint8).tolist(),
        base_loss=list(np.array([math.nan, 0.1, 1.2344, 2.0], np.float32)),
        tuned_loss=list(np.array([math.nan, 0.05, 2.0, 2.0], np.float32)),
    )
    series = Series("s", list(np.arange(2)), list(np.array([0.5, np.nan], np.float32)))
    page = Page(written(tmp_path, numpy_sample, curves=[Chart("c", "x", "y", [series])])).data
    assert page["samples"][0]["labels"][0]["base"] == labels["base"]
    assert page["curves"][0]["series"] == [{"name": "s", "points": [[0, 0.5], [1, None]]}]
    bare = Page(written(tmp_path, sample())).data["samples"][0]
    assert "weights" not in bare["labels"][0]
    assert "truth" not in bare


def test_numbers_too_large_for_the_narrow_types_stay_right(tmp_path: Path) -> None:
    long = sample(tokens=["x" * 300, "é\U0001f600", "", "y"], base_loss=[40.0, 1.0, 0.0, None], tuned_loss=[41.5] * 4)
    (packed,) = Page(written(tmp_path, long)).data["samples"]
    assert tokens_of(packed) == long.tokens
    assert unpacked(packed["labels"][0]["base"]) == [40_000, 1000, 0, None]
    assert unpacked(packed["labels"][0]["tuned"]) == [41_500] * 4


def test_scales_and_histogram_are_those_of_the_loss_tokens(tmp_path: Path) -> None:
    shown = sample(base_loss=[90.0, 0.1, 1.0, 2.0], tuned_loss=[0.0, 0.05, 2.0, 2.0], weights=[50.0, 1.0, 1.0, 1.0])
    data = Page(written(tmp_path, shown)).data
    ld = np.array([-0.05, 1.0, 0.0])
    assert data["scales"]["ld"] == pytest.approx(1000 * np.quantile(np.abs(ld), 0.98))
    assert data["scales"]["base"] == pytest.approx(1000 * np.quantile([0.1, 1.0, 2.0], 0.98))
    assert data["scales"]["weight"] == 1
    assert sum(data["histogram"]["counts"]) == 3
    assert data["histogram"]["end"] == 1
    assert data["histogram"]["counts"][-1] == 1
    without = sample(base_loss=[None] * 4, tuned_loss=[None] * 4)
    assert Page(written(tmp_path, without)).data["histogram"] is None


def test_two_labellings_share_the_text(tmp_path: Path) -> None:
    both = sample(other=sample(roles=[0, 2, 2, 2]))
    data = Page(written(tmp_path, both, names=("a", "b"), fingerprint="f00d")).data
    (packed,) = data["samples"]
    assert [unpacked(labels["roles"]) for labels in packed["labels"]] == [[0, 4, 2, 5], [0, 2, 2, 2]]
    assert (data["names"], data["fingerprint"]) == (["a", "b"], "f00d")
    with pytest.raises(ValueError, match="different tokens"):
        sample(other=sample(tokens=["a", "b", "c", "d"]))
    for samples, names in (([both], ()), ([both, sample()], ("a", "b")), ([sample()], ("a", "b"))):
        with pytest.raises(ValueError, match="two names"):
            written(tmp_path, *samples, names=names)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_become_missing(tmp_path: Path, bad: float) -> None:
    page = Page(written(tmp_path, sample(base_loss=[bad, bad, 1.0, 1.0], tuned_loss=[None, 1.0, bad, 2.0])))
    (labels,) = page.data["samples"][0]["labels"]
    assert unpacked(labels["base"]) == [None, None, 1000, 1000]
    assert unpacked(labels["tuned"]) == [None, 1000, None, 2000]


@settings(max_examples=300)
@given(
    base=st.floats(0, 20, width=32),
    difference=st.floats(-5, 5, width=32),
    thousandths=st.integers(-5000, 5000),
)
@example(base=1.0, difference=2.0**-20, thousandths=0)
@example(base=1.2, difference=0.0, thousandths=0)
def test_rounding_never_moves_a_token_over_a_threshold(base: float, difference: float, thousandths: int) -> None:
    tuned = base + difference
    (base_q,), (tuned_q,) = quantised_losses([base], [tuned])
    ld = tuned - base
    # Differences this close to the threshold are decided by the rounding of the subtraction itself.
    if abs(ld - thousandths / 1000) > 1e-11:
        assert (tuned_q - base_q > thousandths) == (ld > thousandths / 1000)
    assert abs(base_q / 1000 - base) <= 0.0005 + 1e-9
    assert abs(tuned_q / 1000 - tuned) <= 0.0015 + 1e-9


def test_hostile_text_stays_text_everywhere(tmp_path: Path) -> None:
    calm = Page(written(tmp_path, sample(), **everything("x" * len(HOSTILE))))
    hostile_sample = sample(tokens=[HOSTILE, "a", "b", "c"], source=HOSTILE)
    text = written(tmp_path, hostile_sample, **everything(HOSTILE))
    page = Page(text)
    assert page.tags == calm.tags  # no element came into being
    assert len(page.scripts) == 2
    assert not any(name.startswith("on") or name in ("src", "style") for name, _ in page.attributes)
    assert not set(page.scripts[0]) & set("<>&\u2028\u2029")
    data = page.data
    assert tokens_of(data["samples"][0])[0] == HOSTILE
    assert data["samples"][0]["source"] == HOSTILE
    assert data["curves"][0]["series"][0]["name"] == HOSTILE


def everything(text: str) -> dict[str, Any]:
    return {
        "title": text,
        "subtitle": text,
        "summary": [Table(text, [text], [[text]], text)],
        "curves": [Chart(text, text, text, [Series(text, [0, 1], [1.0, 2.0])])],
        "generations": [Generation(text, [(text, text)]), Generation(text * 10, [(text, text)])],
        "notes": [text],
    }


def test_policy_names_the_page_own_script_and_style_and_no_network(tmp_path: Path) -> None:
    page = Page(written(tmp_path, sample()))

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    directives = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))
    assert directives == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest(page.scripts[1])}'",
        "style-src": f"'sha256-{digest(page.styles[0])}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", page.scripts[1])
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", page.scripts[1] + page.styles[0])


def test_characters_that_a_page_cannot_carry_are_replaced_visibly(tmp_path: Path) -> None:
    strange = "a\ud800b\0c"
    text = written(tmp_path, sample(tokens=[strange, "\udfff", "\r\x1b", "\U0001f600"]), **everything(strange))
    data = Page(text).data
    assert tokens_of(data["samples"][0]) == ["a\ufffdb\u2400c", "\ufffd", "\r\x1b", "\U0001f600"]
    assert "<title>a\ufffdb\u2400c</title>" in text
    assert "\0" not in text


def test_tables_show_numbers_and_align_them(tmp_path: Path) -> None:
    rows: list[list[str | float]] = [["sft", 1234567, 0.123456], ["rft", np.int64(2000), math.nan], ["x", 2, 12345.67]]
    text = written(tmp_path, summary=[Table("Runs", ["method", "tokens", "loss"], rows, "a note")])
    cells = re.findall(r'<td( class="number")?>([^<]*)</td>', text)
    assert [value for _, value in cells] == ["sft", "1,234,567", "0.1235", "rft", "2,000", "–", "x", "2", "12,345.7"]
    assert [bool(number) for number, _ in cells] == [False, True, True] * 3
    assert "a note" in text
    assert 'id="tokens"' not in text  # no samples, no viewer


@pytest.mark.parametrize("name", ["roles", "base_loss", "tuned_loss", "weights", "true_roles"])
def test_lengths_must_agree(name: str) -> None:
    with pytest.raises(ValueError, match=rf"data.jsonl:1: 4 tokens but 3 {name}"):
        sample(**{name: [0, 1, 2]})


@pytest.mark.parametrize("name", ["roles", "true_roles"])
def test_unknown_roles_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\[6, 9\], which are not roles"):
        sample(**{name: [0, 9, 6, 5]})


def test_ragged_tables_and_series_are_refused() -> None:
    with pytest.raises(ValueError, match="row 2 has 1 cells for 2 columns"):
        Table("t", ["a", "b"], [[1, 2], [1]])
    with pytest.raises(ValueError, match="2 xs but 1 ys"):
        Series("loss", [0, 1], [1.0])
    with pytest.raises(ValueError, match="finite"):
        Series("loss", [0, math.nan], [1.0, 2.0])


def test_threshold_must_be_finite(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite"):
        written(tmp_path, sample(), threshold=math.nan)
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_the_old_page_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written(tmp_path, sample())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match=r"report\.html: cannot write: No space left"):
            written(tmp_path, sample(), title="new")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_a_thousand_samples_of_a_thousand_tokens_stay_below_thirty_megabytes(tmp_path: Path) -> None:
    """Told from 20. The worst case: two labellings and the truth, distinct losses and weights, no context."""
    rng = random.Random(0)

    def long_sample(number: int, tokens: list[str], other: SampleView | None = None) -> SampleView:
        roles = [rng.randint(2, 5) for _ in tokens]
        base: list[float | None] = [rng.expovariate(0.7) for _ in tokens]
        tuned: list[float | None] = [rng.expovariate(0.7) for _ in tokens]
        weights: list[float | None] = [rng.random() for _ in tokens]
        return SampleView(f"d.jsonl:{number}", tokens, roles, base, tuned, weights, roles, other)

    samples = []
    for number in range(20):
        tokens = ["".join(rng.choices("abcdefghij ", k=rng.randint(1, 9))) for _ in range(1000)]
        samples.append(long_sample(number, tokens, long_sample(number, tokens)))
    empty = len(written(tmp_path).encode())
    full = len(written(tmp_path, *samples, names=("a", "b")).encode())
    assert empty + (full - empty) / len(samples) * 1000 < 30_000_000
