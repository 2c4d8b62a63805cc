"""The grammar of answers: both sides are read alike, and what it notes rules out or allows that they are equal."""

import json
import os
import time
from pathlib import Path

import pytest

from rolewise.rewards.answer_grammar import read_answer
from rolewise.rewards.math_answers import boxed_answer, final_answer
from rolewise.rewards.math_worker import canonical, is_right

DATA = Path(os.environ.get("ROLEWISE_DATA") or Path(__file__).parents[2] / "shared" / "data")
FILES = {
    "gsm8k/test.jsonl": "answer",
    "gsm8k/train.jsonl": "answer",
    "math/math500_test.jsonl": "solution",
    "math/math_test_5000.jsonl": "solution",
    "math/math_train_7500.jsonl": "solution",
}
EMPTY_BOXES = {"math/math_train_7500.jsonl": 1}
"""Solutions whose box holds nothing, without another answer marked."""


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is −8.", "-8"),
        ("The answer is -$8.", "-8"),
        ("The answer is 12 - 4 = 8.", "8"),
        ("The answer is 3/4 of it.", "3/4"),
        ("They meet at 4:45.", "4:45"),
        ("#### 2.5e4", "2.5e4"),
        ("The answer is 6 million people.", "6 million"),
        ("It has 12 000 parts", "12 000"),
        ("I write \\boxed. The answer is 8.", "8"),
        ("I'll use \\boxed{}. The answer is 8.", "8"),
        (r"so $\boxed 8$.", "8"),
        (r"so $\boxed{3}$, no, $\boxed8$.", "8"),
    ],
)
def test_numbers_are_read_whole(text, answer):
    assert final_answer(text, numeric=True) == answer


@pytest.mark.parametrize(
    ("text", "boxed"),
    [(r"\boxed{8}", "8"), (r"\boxed 8", "8"), (r"\boxed{}", ""), (r"Use \boxed. The answer is 12", None), ("8", None)],
)
def test_the_word_boxed_is_no_box(text, boxed):
    """Search ends paths at boxes, and takes an answer from a text that was cut off only out of one."""
    assert boxed_answer(text) == boxed


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("−8", "-8"),
        ("¼", r"\frac14"),
        ("3²", "9"),
        ("√5", r"\sqrt{5}"),
        ("８", "8"),
        ("2 000 000", "2000000"),
        (r"2\,345", "2345"),
        ("2'000", "2000"),
        ("6 million", "6000000"),
        (r"6 \text{ million dollars}", "6000000"),
        ("4 1/2", r"\frac{9}{2}"),
        (r"14 \text{ cm}", "14 centimeters"),
        ("14 eggs/day", "14"),
        (r"\mathrm{14\ cm}", "14"),
        ("£14", "14"),
        ("14°", "14"),
        ("about 14", "14"),
        ("**14**", "14"),
        ("14,", "14"),
        ("Ann: 14", "14"),
        ("110_2", "110"),
        (r"110_{\text{two}}", "110_2"),
        ("8:00 PM", "8"),
        (r"8\text{ a.m.}", "8:00 am"),
        (r"\text{(C) } 8", "8"),
        (r"\textbf{(C)}\ 8", "C"),
        (r"x \equiv 5 \pmod{9}", "5"),
        (r"x<1 \text{ or } x \ge 4", r"(-\infty,1)\cup[4,\infty)"),
        ("pi/3", r"\frac{\pi}{3}"),
        (r"\text{A, B}", "A,B"),
        (r"\text{October 30}", "October 30"),
        (r"\text{The answer is }14", "14"),
        (r"\dfrac{3}{4}", r"\frac34"),
        (r"y=\tfrac{3}{4}", r"\frac{3}{4}"),
        (r"\left(1, \frac{1}{2}\right)", "(1,0.5)"),
        (r"35\%", "0.35"),
        (r"\cos 60^\circ", r"\frac12"),
        ("2**4", "16"),
        (r"\frac{1}{3} \textbf{metres}", "1/3"),
        (r"14\textsf{ cm}", "14"),
        (r"\emph{even}", r"\text{even}"),
        (r"14\mathit{x}", "14x"),
        (r"n=4,\,-8", "-8,4"),
        ("S_{ABC}:S=4:45", "4:45"),
        ("x^2/16+y^2/12=1/4", "x^2/4+y^2/3=1"),
    ],
)
def test_equal_answers_are_equal_on_either_side(first, second):
    assert is_right(first, second)
    assert is_right(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("6 million", "6"),
        ("30 thousand", "30"),
        (r"6\text{ cm}", r"6\text{ m}"),
        (r"6\text{ cm}^2", r"6\text{ cm}"),
        ("110_3", "110_2"),
        (r"8\text{ p.m.}", r"8\text{ a.m.}"),
        ("4:45", "4"),
        ("2,2,3", "2,3"),
        ("2, 000", "2,000"),
        ("2 3", "23"),
        ("1.7320508", r"\sqrt{3}"),
        ("0.0023", "0.0023001"),
        (r"\text{(C) } 8", r"\text{(D) } 8"),
        (r"\text{2 hours and 15 minutes}", "2.25"),
        (r"\$6", "6¢"),
        ("2**4", "24"),
        ("3 dozen", "3"),
        (r"\frac{1}{4}\text{ million}", r"\frac14"),
        ("6 hundred thousand", "600"),
        ("6 tenths", "6"),
        ("6 squared", "6"),
        ("4 below zero", "4"),
        (r"6 \text{ if }x>0", "6"),
        (r"6 \text{ (mod 7)}", "6"),
        ("2,5,...", "2,5"),
        (r"0.3\ldots", "0.3"),
        ("g'(x)", "g(x)"),
        (r"\sin 60^\circ", r"\sin 60"),
        ("110_{(2)}", "110_{(3)}"),
        ("110_b", "110"),
        ("4_n", "4_m"),
        ("4cm", "4m"),
        ("4 acres", "4 hectares"),
        ("4 erg", "4 J"),
        (r"14\textbf{ metres}", r"14\text{ cm}"),
        (r"14\mathit{x}", "14"),
        (r"4,\,8", "4,8,9"),
        ("x+y=4", "x+y=4.0000001"),
        ("x+y=4", "x-y=4"),
    ],
)
def test_what_may_differ_is_not_equal_on_either_side(first, second):
    assert not is_right(first, second)
    assert not is_right(second, first)


def test_votes_put_each_answer_into_one_class():
    groups = [["8", "8 cm", "８", r"\text{8 dollars}"], ["8 p.m."], ["8 a.m."], ["110_2", r"110_{2}"], ["110"]]
    groups += [["x^2+y^2=1"], ["x+y=1"], ["x=1", "1", "f(x) = 1"]]
    classes = [{canonical(answer) for answer in group} for group in groups]
    assert [len(group) for group in classes] == [1] * len(groups)
    assert len(set().union(*classes)) == len(groups)


@pytest.mark.parametrize(
    "part", ["1,000", "1 ", "\\text{", "a ", "(", "½", "√(", ", ", "\\frac{1}{", "\\boxed 1", "1/", "$-"]
)
def test_long_texts_are_read_in_time(part):
    text = part * (100_000 // len(part))
    start = time.process_time()
    final_answer(text, numeric=True)
    final_answer("answer is " + text, numeric=True)
    read_answer(text[:2000])
    assert time.process_time() - start < 5


def unequal_and_missing(name, step):
    """Answers of every `step`-th record that do not equal themselves, and how many records have none."""
    unequal, empty = [], 0
    lines = (DATA / name).read_text(encoding="utf-8").strip().split("\n")
    for line in lines[::step]:
        answer = final_answer(json.loads(line)[FILES[name]])
        empty += answer is None
        if answer is not None and not is_right(answer, answer):
            unequal.append(answer)
    return unequal, empty


@pytest.mark.parametrize("name", FILES)
def test_some_references_are_found_and_equal_themselves(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is absent; set ROLEWISE_DATA to the data folder")
    unequal, empty = unequal_and_missing(name, 50)
    assert unequal == []
    assert empty <= EMPTY_BOXES.get(name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_all_references_are_found_and_equal_themselves(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is absent; set ROLEWISE_DATA to the data folder")
    unequal, empty = unequal_and_missing(name, 1)
    assert unequal == []
    assert empty == EMPTY_BOXES.get(name, 0)
