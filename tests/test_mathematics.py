"""The suites of mathematics: prompts, references, samples and their summary; the real data's own solutions."""

import itertools
import json

import pytest

from rolewise.core.errors import InputError
from rolewise.evaluation.suite import Answer, SuiteSettings
from rolewise.evaluation.suites import make_suite, mathematics
from rolewise.rewards.math_answers import MathJudge

RECORDS = {
    "gsm8k": ("gsm8k/test.jsonl", {"question": "How many?", "answer": "1,000 + 25 = 1,025\n#### 1,025"}, "1,025"),
    "math500": (
        "math/math500_test.jsonl",
        {"problem": "Half?", "answer": r"\frac{1}{2}", "subject": "Algebra"},
        r"\frac{1}{2}",
    ),
    "aime": ("math_other_eval/aime24_test.jsonl", {"problem": "N?", "answer": "073"}, "073"),
    "amc": ("math_other_eval/amc23_test.jsonl", {"problem": "N?", "answer": 27.0}, "27"),
    "olympiad": (
        "math_other_eval/olympiadbench_test.jsonl",
        {"question": "N?", "final_answer": ["$120$,$180$"], "is_multiple_answer": True, "subfield": "Algebra"},
        "120, 180",
    ),
    "minerva": (
        "math_other_eval/minerva_math_test.jsonl",
        {"problem": "N?", "solution": r"So \boxed{np.arcsin(-1./3)}.", "type": "Physics"},
        r"\arcsin(-1./3)",
    ),
}


@pytest.fixture(scope="module")
def shared_judge():
    with MathJudge() as judge:
        yield judge


@pytest.fixture(autouse=True)
def one_judge_for_all(shared_judge, monkeypatch):
    """Its processes take a second to start."""
    monkeypatch.setattr(mathematics, "MathJudge", lambda: shared_judge)


@pytest.fixture
def make(tmp_path):
    """Makes a suite on records of its own."""

    def build(name, records=None, **settings):
        path, record, _ = RECORDS[name]
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("\n".join(json.dumps(item) for item in records or [record]))
        return make_suite(name, SuiteSettings(data=tmp_path, cache=tmp_path / "cache", **settings))

    return build


def play(suite, example, *texts, error=None):
    asking = suite.play(example)
    ask = next(asking)
    with pytest.raises(StopIteration) as ended:
        asking.send(Answer(list(texts), [], error))
    return ask, ended.value.value


@pytest.mark.parametrize("name", RECORDS)
def test_every_suite_asks_and_judges(make, name):
    suite = make(name)
    (example,) = suite.examples()
    assert example.id == f"{name}_0"
    assert example.data["reference"] == RECORDS[name][2]
    ask, verdict = play(suite, example, f"So it is \\boxed{{{RECORDS[name][2]}}}.")
    (message,) = ask.messages
    assert message["role"] == "user"
    assert message["content"].startswith(example.data["problem"] + "\n")
    assert r"\boxed{}" in message["content"]
    assert (ask.n, verdict.score, verdict.reason) == (1, 1, "")
    assert verdict.detail == {"answers": [RECORDS[name][2]], "right": [True]}
    _, verdict = play(suite, example, r"\boxed{11}")
    assert (verdict.score, verdict.reason) == (0, f"not equal to {RECORDS[name][2]}")
    assert [score.name for score in suite.summarise([(example, verdict)])] == ["overall"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gsm8k", "It is 1025."),
        ("gsm8k", r"\boxed{\$1025.00}"),
        ("gsm8k", "#### 1025"),
        ("aime", r"\boxed{73}"),
        ("aime", "Therefore N = 73."),
        ("amc", r"\boxed{27.0}"),
        ("olympiad", r"\boxed{180,120}"),
        ("minerva", r"\boxed{\arcsin(-\frac{1}{3})}"),
        ("math500", "The answer is 0.5."),
    ],
)
def test_other_ways_to_write_an_answer_are_right(make, name, text):
    suite = make(name)
    assert play(suite, suite.examples()[0], text)[1].score == 1


def test_no_answer_is_wrong_and_says_why(make):
    suite = make("math500")
    (example,) = suite.examples()
    verdict = play(suite, example, error="the prompt is too long")[1]
    assert (verdict.score, verdict.reason) == (0, "the prompt is too long")
    assert play(suite, example, "")[1].reason == "no answer found"
    assert play(suite, example, "It has 0.5 in it")[1].reason == "no answer found"  # answers are not all numbers here


def test_samples_give_pass_at_k_and_a_vote(make):
    suite = make("aime", [RECORDS["aime"][1]] * 3, samples=4)
    examples = suite.examples()
    texts = [
        [r"\boxed{5}", r"\boxed{73}", r"\boxed{73.0}", "nothing"],  # two of a kind win against one
        [r"\boxed{5}", r"\boxed{10/2}", r"\boxed{073}", r"\boxed{6}"],
        [r"\boxed{73}"],  # three did not come
    ]
    results = []
    for example, answers in zip(examples, texts, strict=True):
        ask, verdict = play(suite, example, *answers)
        assert ask.n == 4
        results.append((example, verdict))
    assert [verdict.score for _, verdict in results] == [0.5, 0.25, 0.25]
    assert [verdict.detail["right"].count(True) for _, verdict in results] == [2, 1, 1]
    assert results[0][1].detail["answers"] == ["5", "73", "73.0", None]
    assert results[0][1].reason == "2 of 4 samples are right"
    scores = {score.name: score for score in suite.summarise(results)}
    assert list(scores) == ["overall", "pass@2", "pass@4", "maj@4"]
    assert scores["overall"].value == pytest.approx(1 / 3)
    pairs = [[any(pair) for pair in itertools.combinations(v.detail["right"], 2)] for _, v in results]
    assert scores["pass@2"].value == pytest.approx(sum(sum(found) / len(found) for found in pairs) / 3)
    assert scores["pass@4"].value == 1
    assert scores["maj@4"].value == pytest.approx(2 / 3)
    assert all(score.low <= score.value <= score.high for score in scores.values())
    json.dumps([verdict.detail for _, verdict in results])


def test_samples_that_all_fail(make):
    suite = make("aime", samples=2)
    (example,) = suite.examples()
    verdict = play(suite, example, error="gone")[1]
    assert (verdict.score, verdict.reason, verdict.detail["majority_right"]) == (0, "gone", False)


def test_categories_are_reported(make):
    record = RECORDS["math500"][1]
    suite = make("math500", [record, record | {"subject": "Geometry"}])
    results = [(example, play(suite, example, r"\boxed{1/2}")[1]) for example in suite.examples()]
    assert [score.name for score in suite.summarise(results)] == ["overall", "Algebra", "Geometry"]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("gsm8k", {"question": "N?"}),
        ("gsm8k", {"question": "N?", "answer": "#### "}),
        ("gsm8k", {"question": 3, "answer": "#### 3"}),
        ("amc", {"problem": "N?"}),
        ("olympiad", {"question": "N?", "final_answer": [], "is_multiple_answer": False, "subfield": "Algebra"}),
        ("olympiad", {"question": "N?", "final_answer": None, "is_multiple_answer": False, "subfield": "Algebra"}),
        ("minerva", {"problem": "N?", "solution": "no box", "type": "Physics"}),
        ("minerva", {"problem": "N?", "solution": None, "type": "Physics"}),
    ],
)
def test_records_of_another_kind_are_refused(make, name, record):
    with pytest.raises(InputError, match=r"jsonl: record 2: .*; use https://raw\.githubusercontent\.com") as raised:
        make(name, [RECORDS[name][1], record]).examples()
    assert "\n" not in str(raised.value)


def test_nothing_may_follow_the_name(tmp_path):
    with pytest.raises(InputError, match="gsm8k takes nothing after its name"):
        make_suite("gsm8k:train", SuiteSettings(data=tmp_path, cache=tmp_path))


COUNTS = {"gsm8k": 1319, "math500": 500, "aime": 30, "amc": 40, "olympiad": 675, "minerva": 272}


@pytest.mark.parametrize("name", COUNTS)
def test_the_real_references_are_right_and_the_next_ones_wrong(data_dir, tmp_path, name):
    suite = make_suite(name, SuiteSettings(data=data_dir, cache=tmp_path))
    examples = suite.examples()
    assert len(examples) == COUNTS[name]
    assert "not a file that is known" not in suite.version()["data"]
    assert suite.version()["math-verify"]
    few = [example for example in examples[:: max(1, len(examples) // 25)] if _is_a_term(example.data["reference"])]
    assert len(few) >= 10
    for example in few:
        # Written a little differently, or no comparison would be needed.
        assert play(suite, example, f"\\boxed{{{example.data['reference']} + 0}}")[1].reason == ""
        assert play(suite, example, f"\\boxed{{{example.data['reference']} + 1}}")[1].score == 0


def _is_a_term(reference):
    """Whether something can be added to it; a single letter would be taken for a unit."""
    return len(reference) > 1 and not any(sign in reference for sign in (r"\text", ",", "=", "(", "e"))


def test_closing_a_suite_ends_its_judge(make):
    suite = make("aime")
    play(suite, suite.examples()[0], r"\boxed{73}")
    assert suite._judge._pool._workers
    suite.close()
    assert not suite._judge._pool._workers
