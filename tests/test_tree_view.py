"""The page of trees: what it holds, and how it behaves in a real browser."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from chromium import ESCAPE, Browser

from rolewise.cli.main import main
from rolewise.reporting.tree_html import tree_page_data, write_tree_report
from rolewise.search.tree import Node, Question, Tree, write_trees

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1><!--\u2028\ud800\0 \u202eevil"
DOWN, UP, RIGHT, LEFT, ENTER, END = "\ue015", "\ue013", "\ue014", "\ue012", "\ue007", "\ue010"


def add(tree: Tree, parent: Node, behaviour: str, text: str, **facts: Any) -> Node:
    return tree.add(parent, behaviour, text=text, ids=[1, 2], logprobs=[-0.5, -1.5], prior=-0.1, **facts)


def ends(tree: Tree, node: Node, answer: str | None, outcome: float, times: int = 1) -> None:
    """Make a node a leaf that so many rollouts ended in."""
    node.leaf, node.answer, node.outcome = True, answer, outcome
    node.right = None if tree.question.reference is None else answer == tree.question.reference
    for _ in range(times):
        tree.rollouts.append(node.number)
        for one in [tree.root, *tree.path(node)]:
            one.visits += 1
            one.value += outcome


def small_tree() -> Tree:
    """Two ways to 5, one to 6 that more rollouts went, a step that none did, and one that was cut off."""
    tree = Tree(Question("sum", "What is 2 + 3?", "5"), "tokens", ended="rollouts", tokens=12)
    plan = add(tree, tree.root, "analysis", "Add the numbers.\n\nThen stop.", process_reward=0.75)
    ends(tree, add(tree, plan, "direct_answer", r"It is \boxed{5}."), "5", 1.0)
    ends(tree, add(tree, plan, "direct_answer", "Surely five."), "5", 1.0)
    wrong = add(tree, tree.root, "next_step", "Multiply.")
    ends(tree, add(tree, wrong, "output", r"\boxed{6}"), "6", 0.1, times=3)
    add(tree, wrong, "verify", "Not tried: ZEBRA.", leaf=True)  # and so not judged
    ends(tree, add(tree, tree.root, "subquestion", "An endless tho", closed=False), None, 0.0)
    return tree


def large_tree(size: int) -> Tree:
    """Random, deep, every leaf visited."""
    rng = random.Random(0)
    tree = Tree(Question("large", "A large tree?", "7"), "prompts")
    while len(tree.nodes) < size:
        add(
            tree,
            tree.nodes[rng.randrange(max(0, len(tree.nodes) - 400), len(tree.nodes))],
            "next_step",
            "A step. " * 20,
        )
    for node in tree.nodes[1:]:
        if not node.children:
            ends(tree, node, str(rng.randrange(5, 9)), rng.random())
    return tree


def hostile_tree() -> Tree:
    tree = Tree(Question(HOSTILE, HOSTILE, HOSTILE), "prompts")
    ends(tree, add(tree, tree.root, "next_step", HOSTILE), HOSTILE, 1.0)
    return tree


def test_the_page_holds_what_the_tree_does() -> None:
    data = tree_page_data([small_tree()])
    json.dumps(data, allow_nan=False)
    [tree] = data["trees"]
    assert data["behaviours"] == ["analysis", "direct_answer", "next_step", "output", "verify", "subquestion"]
    assert data["scale"] == [0.0, 1.0]
    assert tree["parent"] == [-1, 0, 1, 1, 0, 4, 4, 0]
    assert tree["visits"] == [6, 2, 1, 1, 3, 3, 0, 1]
    assert tree["mean"] == [round(2.3 / 6, 4), 1.0, 1.0, 1.0, 0.1, 0.1, None, 0.0]
    assert tree["logprob"] == [None] + [-2.0] * 7
    assert tree["length"] == [0] + [2] * 7
    assert tree["process"][:3] == [None, 0.75, None]
    assert tree["cut"] == [7]
    assert list(tree["leaves"]) == [2, 3, 5, 7]
    assert tree["leaves"][5] == {"answer": "6", "right": False, "outcome": 0.1}
    # Three votes for 6 go before two for 5, however much these are worth; what has no answer comes last.
    assert [(vote["answer"], vote["count"], vote["value"], vote["node"]) for vote in tree["votes"]] == [
        ("6", 3, 0.3, 5),
        ("5", 2, 2.0, 2),
        (None, 1, 0.0, 7),
    ]


def test_values_beyond_0_to_1_widen_the_scale() -> None:
    tree = Tree(Question("q", "?"), "prompts")
    for value in (-2.0, 5.0):
        ends(tree, add(tree, tree.root, "next_step", ""), None, value)
    assert tree_page_data([tree])["scale"] == [-2.0, 5.0]
    assert tree_page_data([Tree(Question("q", "?"), "prompts")])["scale"] == [0.0, 1.0]


def test_view_shows_files_of_trees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    write_trees(run / "trees.jsonl", [small_tree(), large_tree(70), hostile_tree()])
    for arguments, said, expected in [
        (["--data", str(run)], "3 trees", 3),
        ([str(run / "trees.jsonl"), "--samples", "2"], "the first 2 trees", 2),
        ([str(run / "trees.jsonl"), "--samples", "3"], "3 trees", 3),
    ]:
        assert main(["view", *arguments]) == 0
        assert "run/trees.html" in capsys.readouterr().out
        page = (run / "trees.html").read_text(encoding="utf-8")
        (run / "trees.html").unlink()
        assert f'<p class="subtitle">{said}</p>' in page
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
        assert found
        assert len(json.loads(found[1])["trees"]) == expected


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ('{"schema": 1}\n', [], "trees.jsonl:1: a damaged tree"),
        ("{}\n", [], "trees.jsonl:1: not a tree"),
        ("", [], "trees.jsonl: contains no trees"),
        (None, ["--compare", "b"], "trees.jsonl contains trees, for which there is no compare; leave it out"),
        (None, ["--threshold", "1"], "there is no threshold; leave it out"),
        (None, ["--samples", "0"], "samples is 0"),
    ],
)
def test_what_can_not_be_shown_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, arguments: list[str], message: str
) -> None:
    path = tmp_path / "trees.jsonl"
    if content is None:
        write_trees(path, [small_tree()])
    else:
        path.write_text(content, encoding="utf-8")
    assert main(["view", str(path), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert not (tmp_path / "trees.html").exists()


def show(browser: Browser, folder: Path, *trees: Tree) -> Browser:
    path = folder / "trees.html"
    write_tree_report(path, trees, title="Trees <b>&amp;</b>", notes=["<i>note</i>"])
    browser.open(path)
    return browser


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    return show(browser, tmp_path, small_tree(), large_tree(5000), hostile_tree())


def previews(page: Browser) -> list[str]:
    found = page.js("return [...document.querySelectorAll('.node .preview')].map(node => node.textContent)")
    assert isinstance(found, list)
    return found


def chosen(page: Browser) -> str:
    return str(page.js("return document.querySelector('.node.chosen .preview').textContent"))


@pytest.mark.browser
def test_a_tree_opens_and_closes(page: Browser) -> None:
    everything = [
        "What is 2 + 3?", "Add the numbers. Then stop.", r"It is \boxed{5}.", "Surely five.", "Multiply.", r"\boxed{6}",
        "Not tried: ZEBRA.", "An endless tho",
    ]  # fmt: skip
    assert previews(page) == everything
    page.js("document.querySelectorAll('.node')[1].querySelector('.twisty').click()")
    assert previews(page) == [text for text in everything if text not in (r"It is \boxed{5}.", "Surely five.")]
    assert page.text("#shown") == "5 steps shown of 7"
    expanded = "return [...document.querySelectorAll('.node')].map(node => node.ariaExpanded)"
    assert page.js(expanded) == ["true", "false", "true", None, None, None]
    page.js("document.querySelectorAll('.node')[3].click()")
    assert chosen(page) == r"\boxed{6}"
    page.js("document.querySelectorAll('.node')[2].querySelector('.twisty').click()")
    assert chosen(page) == "Multiply."  # for the chosen step is hidden now
    page.press("x")
    page.js("document.querySelectorAll('.node')[1].querySelector('.twisty').click()")
    page.js("document.getElementById('collapse').click()")
    assert previews(page) == everything[:1]
    page.js("document.getElementById('expand').click()")
    assert previews(page) == everything


@pytest.mark.browser
def test_rows_show_behaviour_value_visits_and_verdict(page: Browser) -> None:
    rows = page.js(
        "return [...document.querySelectorAll('.node')].map(node => ['badge', 'visits', 'mean', 'answer']"
        ".map(name => node.querySelector('.' + name)?.textContent))"
    )
    assert rows[1] == ["analysis", "2×", "1.00", None]
    assert rows[2] == ["direct_answer", "1×", "1.00", "✓5"]
    assert rows[5] == ["output", "3×", "0.10", "✗6"]
    assert rows[6] == ["verify", "0×", "–", None]
    assert rows[7] == ["subquestion", "1×", "0.00", "·no answer"]
    colours = page.js(
        "return [...document.querySelectorAll('.node')].map(node => getComputedStyle(node).backgroundColor)"
    )
    assert colours[1] == colours[2] == colours[3]  # all 1
    assert len({colours[0], colours[1], colours[4]}) == 3
    steps = page.js("return [0, 1, 4].map(i => document.querySelectorAll('.node')[i].className.match(/v\\d/)[0])")
    assert steps == ["v2", "v5", "v1"]  # 0.38, 1 and 0.1 in fifths, rounded


@pytest.mark.browser
def test_the_path_to_the_answer_is_marked_and_another_can_be(page: Browser) -> None:
    marked = "return [...document.querySelectorAll('.node.on-path .preview')].map(node => node.textContent)"
    assert page.js(marked) == ["What is 2 + 3?", "Multiply.", r"\boxed{6}"]
    assert page.text("#votes tbody") == "✗630.30✓522.00·no answer10.00"
    page.js("document.querySelectorAll('.vote')[1].click()")
    assert page.js(marked) == ["What is 2 + 3?", "Add the numbers. Then stop.", r"It is \boxed{5}."]
    assert chosen(page) == r"It is \boxed{5}."
    page.press("c")
    assert page.js(marked) == ["What is 2 + 3?"]
    page.press("a")
    assert chosen(page) == r"It is \boxed{5}."


@pytest.mark.browser
def test_a_step_is_shown_in_full(page: Browser) -> None:
    page.js("document.querySelectorAll('.node')[1].click()")
    assert page.text("#detail .detail-text") == "Add the numbers.\n\nThen stop."
    facts = page.text("#detail .node-facts")
    for part in ("mean value1.0000", "visits2", "process reward0.7500", "prior of the behaviour0.905 (−0.10 nats)"):
        assert part in facts
    assert "log-probability−2.00 nats (−1.000 a token)" in facts
    page.js("document.querySelectorAll('.node')[5].click()")
    for part in ("answer6", "the answer iswrong", "value of the leaf0.1000"):
        assert part in page.text("#detail .node-facts")
    page.js("document.querySelector('.before').open = true")
    page.wait("return document.querySelector('.before .text')?.textContent === 'Multiply.'")
    page.js("document.querySelectorAll('.node')[7].click()")
    assert "cut off at its limit" in page.text("#detail .node-facts")
    assert page.text("#reference") == "reference 5"
    assert page.text("#question-facts") == "6 rollouts · 7 steps · 12 tokens · by functional tokens · ended: rollouts"


@pytest.mark.browser
def test_keys_walk_through_the_tree(page: Browser) -> None:
    page.js("document.getElementById('rows').focus()")
    for keys, expected in [
        ([DOWN, DOWN], r"It is \boxed{5}."),
        ([LEFT], "Add the numbers. Then stop."),
        ([LEFT, DOWN], "Multiply."),  # closed, so that its children are passed over
        ([UP, RIGHT, RIGHT], r"It is \boxed{5}."),
        ([END], "An endless tho"),
    ]:
        page.press(*keys)
        assert chosen(page) == expected
    active = page.js("return document.getElementById('rows').getAttribute('aria-activedescendant')")
    assert page.js("return document.getElementById(arguments[0]).classList.contains('chosen')", active)
    page.press("j")
    assert page.text("#question-id") == "large"
    page.press("k", "?")
    assert page.text("#question-id") == "sum"
    assert page.js("return document.getElementById('keys').open")
    page.press(ESCAPE)


@pytest.mark.browser
def test_thousands_of_open_nodes_are_few_elements(page: Browser) -> None:
    page.press("j")
    assert page.js("return document.querySelectorAll('#canvas *').length") < 1000
    page.press("x")
    assert page.text("#shown") == "4,999 steps shown of 4,999"
    height = page.js("return document.getElementById('canvas').offsetHeight")
    assert height == 5000 * page.js("return document.querySelector('.node').offsetHeight")
    page.js("document.getElementById('rows').scrollIntoView({block: 'end'})")
    for share in (0, 0.37, 1):
        page.js("const r = document.getElementById('rows'); r.scrollTop = arguments[0] * r.scrollHeight", share)
        page.wait(
            "const box = document.getElementById('rows').getBoundingClientRect();"
            "const at = y => document.elementFromPoint(box.left + 40, y)?.closest('.node');"
            "return at(box.top + 20) && at(box.top + box.height / 2) && at(box.bottom - 20)"
        )
        assert 0 < page.js("return document.querySelectorAll('.node').length") < 80
    # What is shown last is the last row of the tree, in its reading order.
    page.js("document.getElementById('rows').focus()")
    page.press(END)
    order: list[int] = []
    tree = large_tree(5000)
    waiting = [tree.root]
    while waiting:
        order.append(waiting[-1].number)
        waiting += reversed(tree.children(waiting.pop()))
    assert page.js("return document.querySelector('.node.chosen').id") == f"node-{order[-1]}"


@pytest.mark.browser
def test_search_finds_steps_in_every_tree_and_opens_what_hides_them(page: Browser) -> None:
    page.press("c", "/", *"zebra")
    page.wait("return document.getElementById('search-count').textContent === '1 step in 1 question'")
    assert chosen(page) == "Not tried: ZEBRA."
    assert page.text(".node.chosen mark") == "ZEBRA"
    assert page.text("#detail mark") == "ZEBRA"
    page.set_value("#search", "five")
    page.wait("return document.querySelector('.node.chosen mark')?.textContent === 'five'")
    page.set_value("#search", "large tree")
    page.wait("return document.getElementById('question-id').textContent === 'large'")
    shown = "return [...document.querySelectorAll('#questions li')].map(entry => !entry.hidden)"
    assert page.js(shown) == [False, True, False]
    page.set_value("#search", "boxed")
    page.wait("return document.getElementById('search-count').textContent === '2 steps in 1 question'")
    page.js("document.activeElement.blur()")
    assert chosen(page) == r"It is \boxed{5}."
    page.press("n")
    assert chosen(page) == r"\boxed{6}"
    page.press("n")
    assert chosen(page) == r"It is \boxed{5}."
    page.press("p")
    assert chosen(page) == r"\boxed{6}"
    page.set_value("#search", "no such text")
    page.wait("return document.getElementById('search-count').textContent === '0 steps in 0 questions'")


@pytest.mark.browser
def test_hostile_text_is_shown_and_not_run(page: Browser) -> None:
    page.press("j", "j")
    seen = HOSTILE.replace("\ud800", "\ufffd").replace("\0", "\u2400")
    assert page.text("#question-text") == seen
    assert page.text("#question-id") == seen
    assert page.js("return document.querySelectorAll('main img, main script, h1 b, .notes i').length") == 0
    page.press("a")
    assert page.text("#detail .detail-text") == seen
    assert page.js("return window.pwned === undefined")
    page.js("const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; document.body.append(s)")
    assert page.js("return window.pwned === undefined")


@pytest.mark.browser
def test_the_console_stays_silent_and_odd_trees_open(browser: Browser, tmp_path: Path) -> None:
    bare = Tree(Question("bare", "No rollout yet?"), "prompts")
    page = show(browser, tmp_path, bare, small_tree())
    page.console()
    page.js("location.reload()")
    page.wait("return document.querySelectorAll('.node').length === 1")
    page.press("a", "x", "c", "j", "a", "t", "/", "b")
    page.wait("return document.querySelectorAll('.node').length > 1")
    assert page.console() == []
    assert show(browser, tmp_path).js("return document.querySelectorAll('.node').length") == 0
    assert page.console() == []
