"""Answers of mathematics: how they are read from texts, compared, and what becomes of hostile ones."""

import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolewise.rewards.math_answers import MathJudge, final_answer


@pytest.fixture(scope="module")
def judge():
    with MathJudge(limit=2.0) as judge:
        yield judge


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{5}, or rather \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{ {a} \} {b} } and {c}", r"{a} \} {b}"),
        (r"\boxed{x = \boxed{7}}", "7"),
        (r"\fbox{3}", "3"),
        (r"\framebox{204} minutes in 2010", "204"),
        (r"$\boxed{1}, \boxed{2}$, and $\boxed{3}$", "1, 2, 3"),
        (r"First \boxed{9}. So \(\boxed{(1,2)}\) \quad\text{and}\quad \(\boxed{(2,1)}\)", "(1,2), (2,1)"),
        (r"\boxed{7}, \boxed{7}", "7"),
        (r"\boxed{1} or \boxed{2}", "2"),
        (r"\boxed {3}", "3"),
        (r"\boxed{1} but \boxed{2", "1"),
        (r"\boxed{1", None),
        (r"the answer is 4, \boxed{", None),
        (r"\boxed{}", None),
        (r"a line \\boxed{5}", None),
        ("Then 3 + 4 = 7.\n#### 7", "7"),
        ("The answer is $x = 4$. I hope it is correct.", "x = 4"),
        ("**Answer:** 3.5 apples\nGoodbye", "3.5 apples"),
        ("An answer is 1. The final answer is: 2.", "2"),
        ("The answer is", None),
        ("It makes 18 dollars.", None),
        ("", None),
    ],
)
def test_answers_are_read(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It makes 18 dollars.", "18"),
        ("5 - 3 = 2, so 10-12", "12"),
        ("It falls to -3.", "-3"),
        ("She pays $1,234.50.", "1,234.50"),
        ("The answer is 5 apples of the 7.", "5"),
        ("The answer is no. It is 8", "8"),
        ("#### 2,125", "2,125"),
        ("in 1,2 and 34", "34"),
        (".5", ".5"),
        (r"\boxed{4} of 5", "4"),
        (r"\boxed{4", None),
        ("none", None),
    ],
)
def test_plain_numbers_are_read(text, answer):
    assert final_answer(text, numeric=True) == answer


def last_box(text):
    """The content of the closed box that begins last, found slowly: from every place where one begins, count braces."""
    places, position = [], 0
    while position < len(text):
        if text.startswith(r"\boxed{", position):
            places.append(position + len(r"\boxed{"))
            position += len(r"\boxed{")
        else:
            position += 2 if text[position] == "\\" else 1
    for start in reversed(places):
        depth, position = 1, start
        while position < len(text) and depth:
            if text[position] == "\\":
                position += 1
            elif text[position] in "{}":
                depth += 1 if text[position] == "{" else -1
            position += 1
        if not depth:
            return text[start : position - 1].strip() or None
    return None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([r"\boxed{", "{", "}", "}", r"\{", r"\}", "\\\\", "x", " ", "\n"]), max_size=20))
def test_the_last_closed_box_is_found_in_any_nesting(parts):
    text = "".join(parts)
    assert final_answer(text) == last_box(text)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (r"\frac{1}{2}", "0.5"),
        ("073", "73"),
        ("73", "073"),
        ("1,234", "1234"),
        ("18 dollars", "18"),
        ("18 dollars per day", "18"),
        (r"\$18.00", "18"),
        ("$18$", "18"),
        (r"\(x = 5\)", "5"),
        ("5.", "5"),
        (r"10,\! 080", "10080"),
        (r"\textbf{(073)}", "073"),
        ("90", r"90^\circ"),
        (r"\text{evelyn}", r"\text{Evelyn}"),
        (r"-\frac{1}{3}", "-1./3"),
        ("-q+p", "p - q"),
        (r"\sqrt{242}", r"11\sqrt{2}"),
        ("-2,1", "1,-2"),
        (r"1 \text{ and } -2", "1, -2"),
        ("180,120", "120, 180"),
        ("(9,3),(6,3)", "(6, 3), (9, 3)"),
        (r"4.5 \times 10^{33} \text{ erg}", "4.5e33"),
        (r"6.6\cdot 10^{-34}", "6.6e-34"),
        ("0.0000006", "6E-7"),
        ("14903", "1.4903e4"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "\\begin{pmatrix}1\\\\\n2\\end{pmatrix}"),
    ],
)
def test_equal_answers_are_right(judge, answer, reference):
    assert judge.judge(rf"\boxed{{{answer}}}", reference).right


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("0.51", r"\frac{1}{2}"),
        ("-18", "18"),
        ("180", "18"),
        ("3x", "3"),
        ("x+1", "x+2"),
        ("(2,1)", "(1,2)"),
        ("1,2,3", "1, 2"),
        ("180,120", "120, 181"),
        ("1e-19", "6.6e-34"),  # both are nearly nothing, but not equal
        (r"4.6 \times 10^{33}", "4.5e33"),
        (r"\text{Eve}", r"\text{Evelyn}"),
        (r"\text{yes}", "5"),
    ],
)
def test_other_answers_are_wrong(judge, answer, reference):
    verdict = judge.judge(rf"\boxed{{{answer}}}", reference)
    assert (verdict.right, verdict.answer, verdict.reason) == (False, answer, f"not equal to {reference}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r"\boxed{", "no answer found"),
        (r"\boxed{" * 100_000, "no answer found"),
        ("", "no answer found"),
        ("{" * 1_000_000, "no answer found"),
        (r"\boxed{" + r"\frac{1}{2}+" * 100_000 + "1}", "the answer is 1200001 characters long"),
        ("\\boxed{\0}", "not equal to 7"),
        ("answer is \ud800", "not equal to 7"),
        (r"\boxed{\\\\ $$ \left( }", "not equal to 7"),
        (r"\boxed{\frac{1}{0}}", "not equal to 7"),
        (r"\boxed{9^{9^{9^{9}}}}", "the comparison took over 2 s"),
    ],
)
def test_hostile_answers_are_wrong_and_the_judge_lives_on(judge, text, reason):
    verdicts = judge.judge_all([(text, "7"), (r"\boxed{14/2}", "7"), (r"\boxed{8}", "7")])
    assert (verdicts[0].right, verdicts[0].reason) == (False, reason)
    assert [verdict.right for verdict in verdicts[1:]] == [True, False]


def test_a_comparison_without_a_parent_ends_by_itself():
    process = subprocess.Popen(
        [sys.executable, "-m", "rolewise.rewards.math_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    request = {"answer": "9^{9^{9^{9}}}", "reference": "7", "limit": 0.3}
    with process:
        try:
            assert json.loads(process.stdout.readline()) == {"ready": True}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            assert process.wait(30) == -signal.SIGALRM
        finally:
            process.kill()


@pytest.fixture(scope="module")
def worker_process():
    """What a worker's process has loaded, and what becomes of a request for more memory than its limit."""
    from rolewise.rewards import math_worker

    code = (
        "import sys; from rolewise.rewards import math_worker\n"
        "print(*[name for name in sys.modules if '.' not in name]); math_worker._limit_process()\n"
        f"try: bytearray({2 * math_worker.MEMORY_LIMIT})\nexcept MemoryError: print('refused')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_worker_loads_no_more_than_it_needs(worker_process):
    loaded = worker_process.splitlines()[0].split()
    assert "sympy" in loaded
    assert not {"torch", "transformers", "datasets", "numpy", "scipy"} & set(loaded)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps to the limit on addresses")
def test_memory_is_limited_so_that_no_answer_takes_the_machine_down(worker_process):
    assert worker_process.splitlines()[1:] == ["refused"]


def test_like_answers_have_like_canonical_texts(judge):
    groups = [
        ["0.5", r"\frac{1}{2}", "1/2", "x=0.5", "0.50"],
        ["1,2", "2,1", r"\{1, 2\}"],
        ["18 dollars", "18", r"\$18", "18.0"],
        [r"\sqrt{242}", r"11\sqrt2"],
        ["x+1", "1 + x"],
        ["not } mathematics {"],
    ]
    texts = judge.canonical_all([answer for group in groups for answer in group])
    places = iter(texts)
    alike = [{next(places) for _ in group} for group in groups]
    assert [len(group) for group in alike] == [1] * len(groups)
    assert len(set().union(*alike)) == len(groups)


def test_an_answer_that_can_not_be_read_in_time_is_its_own_text(judge):
    assert judge.canonical_all(["9^{9^{9^{9}}}", "1/2"]) == ["9^{9^{9^{9}}}", "1/2"]


def test_closing_ends_the_processes():
    judge = MathJudge()
    assert judge.judge(r"\boxed{1/2}", "0.5").right
    pids = [worker.process.pid for worker in judge._pool._workers]
    judge.close()
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
