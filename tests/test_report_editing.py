"""Two labellings side by side, and roles corrected by hand, in a real browser."""

import json
import time
from pathlib import Path

import pytest
from chromium import RIGHT, Browser, role_counts

from rolewise.reporting.html import SampleView, write_report

pytestmark = pytest.mark.browser


def compared_samples() -> list[SampleView]:
    """Four samples of 50 context tokens and four others; B differs on the second and fourth of every odd sample."""
    tokens = ["ctx "] * 50 + ["Oslo", "{", " is", "}"]
    losses: list[float | None] = [None] * 50 + [1.0, 1.0, 1.0, 1.0]
    tuned: list[float | None] = [None] * 50 + [2.0, 0.5, 0.5, 0.5]
    a, b = [0] * 50 + [2, 4, 5, 4], [0] * 50 + [2, 2, 5, 3]
    return [
        SampleView(
            f"data.jsonl:{n}", tokens, a, losses, tuned, other=SampleView("", tokens, b if n % 2 else a, losses, tuned)
        )
        for n in range(4)
    ]


@pytest.fixture
def comparison(browser: Browser, tmp_path: Path) -> Browser:
    path = tmp_path / "comparison.html"
    names = ("rules", "<b>model</b>")
    write_report(path, title="two", summary=[], samples=compared_samples(), names=names, fingerprint="f00d")
    browser.open(path)
    return browser


FOCUSED = "const t = document.activeElement; return [t.closest('.card')?.id, t.dataset.i]"
ROLES_OF_FIRST = (
    "return [...document.querySelectorAll('#sample-1 .side:first-child .tok')]"
    ".map(token => Number(/r(\\d)/.exec(token.className)[1]))"
)


def test_two_labellings_stand_side_by_side(comparison: Browser) -> None:
    names = "return [...document.querySelectorAll('#sample-2 h4')].map(h => h.textContent)"
    assert comparison.js(names) == ["A: rules", "B: <b>model</b>"]
    classes = (
        "return [...document.querySelectorAll('#sample-2 .side')].map(side =>"
        "[...side.querySelectorAll('.tok')].map(t => t.className.slice(4)))"
    )
    assert comparison.js(classes) == [
        ["r2", "r4 differs", "r5", "r4 differs"],
        ["r2", "r2 differs", "r5", "r3 differs"],
    ]
    assert comparison.text("#differing") == "25.0% differ between A and B4 of 16 tokens"
    comparison.set_value("#colour", "difference", "change")
    assert comparison.js(classes)[0] == ["unknown", "r4 differs", "unknown", "r4 differs"]
    comparison.js("document.getElementById('only-differing').click()")
    assert comparison.js("return [...document.querySelectorAll('.card')].map(c => c.id)") == ["sample-2", "sample-4"]

    comparison.set_value("#threshold-box", 1.2)  # moves A alone: "Oslo" becomes boilerplate there
    assert comparison.js(classes)[0][0] == "r3 differs"
    assert comparison.text("#differing strong") == "50.0%"


def test_keys_walk_from_difference_to_difference(comparison: Browser) -> None:
    comparison.press("n")
    assert comparison.js(FOCUSED) == ["sample-2", "51"]
    assert "role in Breasoning" in comparison.text("#tip")
    comparison.press("n", "n")
    assert comparison.js(FOCUSED) == ["sample-4", "51"]
    comparison.press("p")
    assert comparison.js(FOCUSED) == ["sample-2", "53"]
    comparison.press("p", "p")
    assert comparison.js(FOCUSED) == ["sample-2", "51"]
    assert comparison.text("#news") == "No earlier token of this kind."
    comparison.set_value("#target", "role-5", "change")
    comparison.press("n")
    assert comparison.js(FOCUSED) == ["sample-2", "52"]


def test_roles_are_corrected_with_keys_undone_and_saved(comparison: Browser, tmp_path: Path) -> None:
    comparison.download_to(tmp_path)
    before = role_counts(comparison)
    comparison.set_value("#target", "role-2", "change")
    comparison.press("e", "n")
    comparison.press_with_shift(RIGHT)
    assert comparison.text("#news") == "2 tokens of sample 1 selected"
    comparison.press("3")
    assert comparison.js(ROLES_OF_FIRST) == [3, 3, 5, 4]
    assert role_counts(comparison) == {**before, "reasoning": before["reasoning"] - 1, "boilerplate": 2, "format": 7}
    comparison.press(RIGHT, "2")
    assert comparison.js(ROLES_OF_FIRST) == [3, 3, 2, 4]
    comparison.press("u")
    assert comparison.js(ROLES_OF_FIRST) == [3, 3, 5, 4]
    comparison.set_value("#threshold-box", -0.7)  # everything judged by its LD is reasoning, the edits stand
    assert comparison.js(ROLES_OF_FIRST) == [3, 3, 2, 2]
    comparison.press("s")
    patch = tmp_path / "rolewise-patch.json"
    for _ in range(100):
        if patch.exists():
            break
        time.sleep(0.05)
    assert json.loads(patch.read_text(encoding="utf-8")) == {
        "rolewise_patch": 1,
        "data": "f00d",
        "edits": [{"row": 0, "start": 50, "end": 52, "role": "boilerplate"}],
    }
    assert comparison.console() == []


def test_roles_are_corrected_with_the_mouse(comparison: Browser) -> None:
    click = (
        "document.querySelectorAll('#sample-1 .side')[arguments[0]].querySelector(`[data-i='${arguments[1]}']`)"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true, shiftKey: arguments[2]}))"
    )
    comparison.js(click, 0, 53, False)
    assert comparison.js("return document.querySelectorAll('.selected').length") == 0  # not in edit mode
    comparison.js("document.getElementById('edit').click()")
    assert comparison.js("return document.getElementById('edit').getAttribute('aria-pressed')") == "true"
    comparison.js(click, 0, 53, False)
    comparison.js(click, 0, 51, True)
    assert comparison.js("return document.querySelectorAll('.selected').length") == 3
    comparison.js("document.querySelector('#give button:nth-child(1)').click()")
    assert comparison.js(ROLES_OF_FIRST) == [2, 1, 1, 1]
    comparison.js(click, 0, 52, False)
    comparison.press("0")
    assert comparison.js(ROLES_OF_FIRST) == [2, 1, 5, 1]
    assert comparison.text("#save") == "Save patch (2)"
    comparison.js(click, 1, 50, False)
    assert comparison.text("#news") == "Only labelling A can be edited."
    comparison.js("document.querySelector('#sample-1 .fold').click()")
    comparison.js(click, 0, 49, False)
    comparison.js(click, 0, 50, True)
    comparison.press("3")
    assert comparison.js(ROLES_OF_FIRST)[-5:] == [0, 3, 1, 5, 1]  # context keeps its role
    comparison.js("document.getElementById('undo').click(); document.getElementById('undo').click()")
    comparison.js("document.getElementById('undo').click()")
    assert comparison.text("#save") == "Save patch"
