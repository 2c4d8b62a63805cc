"""The report page in a real browser."""

from pathlib import Path

import pytest
from chromium import ESCAPE, RIGHT, Browser, role_counts

from rolewise.reporting.html import Chart, SampleView, Series, Table, write_report

pytestmark = pytest.mark.browser

HOSTILE = [
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "<!--<script>",
    "${window.pwned=1}",
    "\u2028\ud800\0",
]


def make_samples() -> list[SampleView]:
    """Twelve samples: 60 context tokens each, then reasoning, format, template, boilerplate and plain tokens."""
    tokens = ["ctx "] * 60 + ["Oslo", "{", " the", "\n", " so", " chat"]
    losses: list[float | None] = [None] * 60
    base = [*losses, 1.0, 0.1, 0.5, 0.2, 0.9, None]
    tuned = [*losses, 2.0, 0.0, 0.3, 0.2, 1.2, None]
    roles = [0] * 60 + [2, 4, 5, 3, 2, 1]
    truth = [0] * 60 + [2, 3, 3, 3, 3, 1]
    weights: list[float | None] = [0.0] * 60 + [0.25, 0.00123, 0.1, 0.1, 0.25, 1.0]
    plain = [SampleView(f"data.jsonl:{n}", tokens, roles, base, tuned, weights, truth) for n in range(1, 12)]
    hostile = SampleView("evil.jsonl:1", HOSTILE, [2, 4, 1, 2, 2], [1.0] * 5, [2.0, 0.5, 3.0, 2.0, 2.0])
    return [*plain, hostile]


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    path = tmp_path / "report.html"
    write_report(
        path,
        title="Labels <b>&amp;</b>",
        summary=[Table("<i>roles</i>", ["role", "tokens"], [["reasoning", 22]])],
        samples=make_samples(),
        curves=[Chart("Loss", "step", "nats", [Series("a", [0, 1, 2], [3.0, float("nan"), 1.0])])],
    )
    browser.open(path)
    browser.js("document.getElementById('tokens').scrollIntoView()")  # what is off the screen is coloured later
    return browser


def colours(page: Browser) -> list[str]:
    """The background colours of the first sample's tokens after the context."""
    found = page.js(
        "return [...document.querySelector('.card').querySelectorAll('.body .tok')]"
        ".map(span => getComputedStyle(span).backgroundColor)"
    )
    assert isinstance(found, list)
    return found


def test_slider_recolours_and_recounts(page: Browser) -> None:
    before, painted = role_counts(page), colours(page)
    assert before == {"context": 660, "plain": 12, "reasoning": 25, "boilerplate": 11, "format": 12, "template": 11}
    assert page.text("#error strong") == "20.0%"  # one of five judged tokens per sample

    page.set_value("#threshold", 0.5)
    after = role_counts(page)
    # " so" (LD 0.3) became boilerplate without a kind; the rest kept its side, and its kind.
    assert after == {**before, "reasoning": 14, "boilerplate": 22}
    assert page.text("#error strong") == "0.0%"
    repainted = colours(page)
    assert [n for n, pair in enumerate(zip(painted, repainted, strict=True)) if pair[0] != pair[1]] == [4]
    assert repainted[4] == painted[3]

    page.set_value("#threshold-box", -0.15)
    assert role_counts(page) == {**before, "reasoning": 47, "boilerplate": 0, "format": 1, "template": 11}
    page.js("document.getElementById('reset').click()")
    assert role_counts(page) == before
    assert colours(page) == painted


def test_colour_modes(page: Browser) -> None:
    seen = set()
    for mode in ("role", "ld", "base", "weight", "truth"):
        page.set_value("#colour", mode, "change")
        seen.add(tuple(colours(page)))
        assert page.js("return document.getElementById('scale').hidden") is (mode == "role")
    assert len(seen) == 5


def test_tip_tells_what_is_known(page: Browser) -> None:
    page.hover(".card .tok:not(.r0):nth-of-type(3)")
    tip = page.wait("return !tip.hidden && tip.textContent")
    for part in ("{", "roleformat", "true roleboilerplate", "base loss0.100", "tuned loss0.000", "LD−0.100"):
        assert part in tip
    assert "weight0.00123" in tip
    page.press(ESCAPE)
    assert page.js("return tip.hidden")
    page.js("document.querySelector('.card .tok[tabindex=\"0\"]').focus()")
    assert "Oslo" in page.text("#tip")
    page.press(RIGHT)
    assert "{" in page.text("#tip")


def test_contexts_start_collapsed_and_expand(page: Browser) -> None:
    assert page.text(".fold") == "show 60 context tokens"
    assert "ctx" not in page.text(".card .body .tok")
    page.js("document.querySelector('.fold').click()")
    assert page.js("return document.querySelectorAll('.card')[0].querySelectorAll('.tok.r0').length") == 60
    assert page.js("return document.querySelector('.fold').getAttribute('aria-expanded')") == "true"
    page.js("document.querySelector('.fold').click()")
    assert page.js("return document.querySelectorAll('.card')[0].querySelectorAll('.tok.r0').length") == 0


def test_search_counts_highlights_and_unfolds(page: Browser) -> None:
    page.press("/", *"OSLO{ th")  # upper case, and across three tokens
    page.wait("return document.getElementById('search-count').textContent.startsWith('11 matches in 11 samples')")
    marks = "return [...document.querySelector('.card').querySelectorAll('mark')].map(m => m.textContent)"
    assert page.js(marks) == ["Oslo", "{", " th"]
    page.set_value("#search", "ctx")
    page.wait("return document.getElementById('search-count').textContent.startsWith('660 matches')")
    assert page.js("return document.querySelectorAll('.card')[0].querySelectorAll('mark').length") == 60
    page.set_value("#search", "evil.jsonl")
    page.wait("return document.querySelectorAll('.card').length === 1")
    assert page.text(".card .source") == "evil.jsonl:1"
    page.set_value("#search", "no such text")
    page.wait("return document.querySelectorAll('.card').length === 0")
    assert page.text("#shown") == "0 samples (12 in all)"


def test_filters(page: Browser) -> None:
    page.set_value("#has-role", "3", "change")
    assert page.text("#shown") == "1–10 of 11 samples (12 in all)"
    page.set_value("#has-role", "", "change")
    page.set_value("#min-reasoning", "45", "change")
    assert page.text("#shown") == "1–1 of 1 sample (12 in all)"  # only the hostile one: 3 of 5
    page.set_value("#min-reasoning", "", "change")
    page.js("document.getElementById('only-wrong').click()")
    assert page.text("#shown") == "1–10 of 11 samples (12 in all)"
    page.set_value("#threshold-box", 0.5)
    page.js("document.getElementById('threshold-box').dispatchEvent(new Event('change'))")
    assert page.text("#shown") == "0 samples (12 in all)"


def test_keys_walk_through_samples_and_pages(page: Browser) -> None:
    current = "return document.querySelector('.card.current')?.id"
    page.press("j", "j")
    assert page.js(current) == "sample-2"
    page.press(*"jjjjjjjjj")
    assert page.js(current) == "sample-11"
    assert page.text("#shown") == "11–12 of 12 samples"
    page.press("k")
    assert page.js(current) == "sample-10"
    page.press("?")
    assert page.js("return document.getElementById('keys').open")
    page.press(ESCAPE)
    assert not page.js("return document.getElementById('keys').open")


def test_theme_toggles(page: Browser) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    first = page.js(background)
    page.press("t")
    second = page.js(background)
    page.js("document.getElementById('theme').click()")
    assert page.js(background) == first != second


def test_hostile_text_is_shown_and_not_run(page: Browser) -> None:
    page.set_value("#search", "pwned")
    page.wait("return document.querySelectorAll('.card').length === 1")
    shown = page.js("return [...document.querySelectorAll('.card .tok')].map(span => span.textContent)")
    assert shown == [*HOSTILE[:4], "\u2028\ufffd\u2400"]
    assert page.js("return document.querySelectorAll('.card img, .card script, figure i, h1 b').length") == 0
    assert page.text("h1") == "Labels <b>&amp;</b>"
    assert page.js("return window.pwned === undefined")


def test_policy_stops_foreign_script(page: Browser) -> None:
    page.js("const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; document.body.append(s)")
    assert page.js("return window.pwned === undefined")
    assert any("Content Security Policy" in message for message in page.console())


def test_chart_is_drawn_with_its_gap_and_values(page: Browser) -> None:
    assert page.js("return document.querySelectorAll('.chart > svg .line').length") == 2
    page.hover(".chart > svg")
    page.js("document.querySelector('.chart > svg').focus()")
    page.press(RIGHT, RIGHT)
    assert page.text("#tip") == "step 2a1"


def test_console_stays_silent(page: Browser) -> None:
    page.console()  # drop what earlier tests provoked
    page.js("location.reload()")
    page.wait("return document.querySelectorAll('.card').length === 10")
    page.press("j", "t")
    page.set_value("#threshold", 0.4)
    page.set_value("#colour", "weight", "change")
    assert page.console() == []


def long_sample(number: int, tokens: int = 1000) -> SampleView:
    """Half of the tokens have an LD of 1 and are reasoning, half one of −1 and are boilerplate."""
    half = tokens // 2
    return SampleView(
        f"long.jsonl:{number}",
        [f"w{i % 97} " for i in range(tokens)],
        [2] * half + [3] * half,
        [1.0] * tokens,
        [2.0] * half + [0.0] * half,
    )


def test_only_what_is_on_the_screen_is_drawn_and_recoloured(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "long.html"
    write_report(path, title="long", summary=[], samples=[long_sample(n) for n in range(150)])
    browser.open(path)
    # More tokens than are counted in one go.
    browser.wait("return document.querySelector('[data-role=reasoning]').cells[1].textContent === '75,000'")
    drawn = "return document.querySelectorAll('.body .tok').length"
    at_first = browser.js(drawn)
    assert 1000 <= at_first <= 4000
    assert browser.js("return document.querySelectorAll('.card').length") == 10

    browser.js("document.querySelector('.card:last-child').scrollIntoView()")
    browser.wait("return document.querySelector('.card:last-child .tok') !== null")
    browser.js("document.querySelector('.card:last-child').scrollIntoView()")  # what was drawn above pushed it down
    assert browser.js(drawn) <= at_first + 6000
    first_token = "return document.querySelector('.card .tok').className"
    browser.set_value("#threshold", 1.5)
    assert browser.js("return document.querySelector('.card:last-child .tok').className") == "tok r3"
    assert browser.js(first_token) == "tok r2"  # out of sight, not yet recoloured
    browser.wait("return document.querySelector('[data-role=reasoning]').hidden")
    assert role_counts(browser)["boilerplate"] == 150_000
    browser.js("window.scrollTo(0, 0)")
    browser.wait("return document.querySelector('.card .tok').className === 'tok r3'")
    assert browser.console() == []


def test_a_page_without_fingerprint_has_no_editor(page: Browser) -> None:
    page.press("e")
    assert page.js("return document.getElementById('editor') === null && document.getElementById('edit') === null")


def retype(page: Browser, selector: str, *keys: str) -> str:
    """Select all that stands in a box and type over it; what stands there then."""
    page.js("const box = document.querySelector(arguments[0]); box.focus(); box.select()", selector)
    page.press(*keys)
    return str(page.js("return document.querySelector(arguments[0]).value", selector))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("0.5", 0.5), ("-0.3", -0.3), ("1.25", 1.25), ("0,5", 0.5), ("1e-2", 0.01), ("-1.05", -1.05)),
        *(("0.00004", 0.00004), (".7", 0.7), ("−0.2", -0.2), ("+2", 2)),
    ],
)
def test_the_threshold_is_the_number_typed(page: Browser, typed: str, meant: float) -> None:
    for _ in range(2):  # the second time over what was typed the first time
        assert retype(page, "#threshold-box", *typed) == typed
        assert page.js("return labelling.threshold") == meant
    page.js("document.activeElement.blur()")
    assert page.js("return [labelling.threshold, typedNumber(document.getElementById('threshold-box'))]") == [
        meant,
        meant,
    ]


def test_a_threshold_box_without_a_number_changes_nothing(page: Browser) -> None:
    box = "const box = document.getElementById('threshold-box'); return [box.value, box.getAttribute('aria-invalid')]"
    retype(page, "#threshold-box", *"0.25")
    for text in ("\ue003", "-", "1e", "abc", "1.2.3", "Infinity"):  # first the Delete key
        retype(page, "#threshold-box", *text)
        assert page.js("return labelling.threshold") in (0.25, 1.0, 1.2)
        assert page.js(box)[1] == "true"
        retype(page, "#threshold-box", *"0.25")
    retype(page, "#threshold-box", "\ue003")
    assert page.js(box) == ["", "true"]
    page.js("document.activeElement.blur()")
    assert page.js(box) == ["0.25", None]
    page.js("document.getElementById('reset').click()")
    assert page.js("return [labelling.threshold, document.getElementById('threshold-box').value]") == [0, "0"]


@pytest.mark.parametrize("threshold", [0.12345, -0.00001, 2.5])
def test_the_box_says_the_threshold_that_the_data_have(browser: Browser, tmp_path: Path, threshold: float) -> None:
    path = tmp_path / "report.html"
    write_report(path, title="labels", summary=[], samples=make_samples(), threshold=threshold)
    browser.open(path)
    shown = "return [labelling.threshold, Number(document.getElementById('threshold-box').value)]"
    assert browser.js(shown) == [threshold, threshold]
    retype(browser, "#threshold-box", *"0.5")
    browser.js("document.getElementById('reset').click()")
    assert browser.js(shown) == [threshold, threshold]


def test_arrow_keys_step_through_numbers_and_the_slider_fills_the_box(page: Browser) -> None:
    up, down = "\ue013", "\ue015"
    assert retype(page, "#threshold-box", *"0.5", up, up, down) == "0.501"
    assert page.js("return labelling.threshold") == 0.501
    page.js("document.getElementById('threshold').focus()")
    page.press(RIGHT)
    slid = page.js("return document.getElementById('threshold').valueAsNumber")
    assert page.js("return labelling.threshold") == slid
    assert float(page.js("return document.getElementById('threshold-box').value")) == slid
    assert retype(page, "#min-reasoning", down) == "0"
    assert retype(page, "#min-reasoning", *"99", up, up) == "100"


def test_the_filters_share_is_the_number_typed(page: Browser) -> None:
    least = "return document.getElementById('min-reasoning').value"
    for typed, shown in (("45", "1–1 of 1 sample (12 in all)"), ("45,5", "1–1 of 1 sample (12 in all)")):
        retype(page, "#min-reasoning", *typed)
        page.js("document.activeElement.blur()")
        assert page.text("#shown") == shown
    for nothing in ("-5", "101", "many"):
        retype(page, "#min-reasoning", *nothing)
        page.js("document.activeElement.blur()")
        assert page.js(least) == ""
        assert page.text("#shown") == "1–10 of 12 samples"
