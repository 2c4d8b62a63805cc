"""What paths are worth: by their answers, with and without a process-reward model, and by a user's function."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from reward_server import by_length, reward_server

from rolewise.core.errors import InputError
from rolewise.core.plugins import load_plugins
from rolewise.rewards.process_reward import ProcessRewardError, ProcessRewardModel, Solution
from rolewise.rewards.process_reward_server import ServerReward
from rolewise.search import judges
from rolewise.search.judges import FunctionValues, MathValues
from rolewise.search.tree import Question, Step
from rolewise.search.value_registry import make_values, register_value, value_names
from rolewise.search.values import Judgement, Leaf

HALF = Question("half", "What is half of one?", "1/2")


def path(*texts: str, question: Question = HALF, cut_off: bool = False) -> Leaf:
    return Leaf(question, tuple(Step("next_step", text) for text in texts), cut_off)


class Scripted(ProcessRewardModel):
    """Scores a step by the number that its text ends with, in tenths; what it was asked is in `asked`."""

    def __init__(self, *, down: bool = False) -> None:
        super().__init__()
        self.asked: list[Solution] = []
        self.calls = 0
        self.down = down
        self.closed = False

    def score_new(self, solutions: Sequence[Solution]) -> list[list[float] | None]:
        self.calls += 1
        if self.down:
            raise ProcessRewardError("the server is gone")
        self.asked += solutions
        return [
            None if "unfit" in solution.steps[0] else [int(step[-1]) / 10 for step in solution.steps]
            for solution in solutions
        ]

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def plain() -> Iterator[MathValues]:
    values = MathValues(wrong_with_answer=0.1, limit=2.0)
    yield values
    values.close()


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (path("One halved.", r"So \boxed{0.5}."), Judgement(1.0, "1/2", True)),
        (path(r"\boxed{\frac12}"), Judgement(1.0, "1/2", True)),
        (path("The answer is 2/4."), Judgement(1.0, "1/2", True)),
        (path(r"\boxed{3}", r"No: \boxed{0.5}"), Judgement(1.0, "1/2", True)),
        (path(r"It is \boxed{0.5}", "which I have checked."), Judgement(1.0, "1/2", True)),
        (path(r"\boxed{2}"), Judgement(0.1, "2", False)),
        (path("No idea."), Judgement(0.0, None, False)),
        (path(""), Judgement(0.0, None, False)),
        (path(), Judgement(0.0, None, False)),
        # What the last step says goes before a box of an earlier one.
        (path(r"So \boxed{2}?", "No: the answer is 0.5."), Judgement(1.0, "1/2", True)),
        (path(r"So \boxed{0.5}.", "That is right."), Judgement(1.0, "1/2", True)),
        (path("The answer is 0.5", cut_off=True), Judgement(0.0, None, False)),
        (path(r"\boxed{0.5} and the ans", cut_off=True), Judgement(1.0, "1/2", True)),
        (path(r"\boxed{0.5", cut_off=True), Judgement(0.0, None, False)),
        (path(r"I use \boxed for it. The answer is 0.5", cut_off=True), Judgement(0.0, None, False)),
        (path(r"\boxed{1}", question=Question("open", "?")), Judgement(0.0, "1", None)),
        (path("Well.", question=Question("open", "?")), Judgement(0.0, None, None)),
    ],
)
def test_a_path_is_worth_what_its_answer_is(plain: MathValues, leaf: Leaf, expected: Judgement) -> None:
    assert plain.judge([leaf]) == [expected]


def test_plain_numbers_are_found_without_a_mark_where_all_answers_are_such() -> None:
    values = MathValues(numeric=True)
    question = Question("apples", "How many?", "1,300")
    texts = ["He has 1300 apples.", "That leaves 7 apples."]
    judged = values.judge([path(text, question=question) for text in texts])
    assert [(one.value, one.right) for one in judged] == [(1.0, True), (0.0, False)]
    processes = [worker.process for worker in values._answers._judge._pool._workers]
    assert [process.poll() for process in processes] == [None] * len(processes) != []
    values.close()
    assert None not in [process.poll() for process in processes]


def test_an_answer_that_never_finishes_is_wrong_and_the_others_are_judged(plain: MathValues) -> None:
    endless = Question("endless", "?", r"2")
    started = time.monotonic()
    judged = plain.judge([path(r"\boxed{9^{9^{9^{9^{9}}}}}", question=endless), path(r"\boxed{2}", question=endless)])
    assert time.monotonic() - started < 60
    assert [one.value for one in judged] == [0.1, 1.0]
    assert judged[0].answer


def test_leaves_of_many_trees_come_back_in_order_and_each_answer_is_compared_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = MathValues()
    compared: list[Any] = []

    def answer(requests: Sequence[Any]) -> list[Any]:
        compared.append(requests)
        return [{"result": None}] * len(requests)

    monkeypatch.setattr(values._answers._judge._pool, "ask_all", answer)
    questions = [Question(str(n), "?", f"ref {n % 5}") for n in range(50)]
    leaves = [path(rf"way {n}: \boxed{{a{n % 7}}}", question=question) for n, question in enumerate(questions)]
    first = values.judge(leaves)
    assert [one.answer for one in first] == [f"a{n % 7}" for n in range(50)]
    assert [len(batch) for batch in compared] == [7, 35]  # answers to bring into form, pairs to compare
    assert values.judge(leaves[::-1]) == first[::-1]
    assert len(compared) == 2


def test_with_a_process_reward_model_the_last_step_counts_too() -> None:
    reward = Scripted()
    values = MathValues(reward, wrong_with_answer=0.1)
    leaves = [
        path("3", r"\boxed{0.5} 9"),
        path("3", r"\boxed{2} 9"),
        path("3", "8"),
        path("4", r"\boxed{1} 7", question=Question("open", "What?")),
        path(r"unfit \boxed{0.5}"),
        path(r"unfit \boxed{2}"),
        path(),
    ]
    judged = values.judge(leaves)
    assert [one.value for one in judged] == pytest.approx([0.6 + 0.36, 0.36, 0.8, 0.7, 1.0, 0.1, 0.0])
    assert [one.process_rewards for one in judged] == [(0.3, 0.9), (0.3, 0.9), (0.3, 0.8), (0.4, 0.7), None, None, ()]
    assert [one.right for one in judged] == [True, False, False, None, True, False, False]
    assert values.judge(leaves) == judged
    assert reward.calls == 1
    assert reward.asked[0] == Solution("What is half of one?", ("3", r"\boxed{0.5} 9"))
    values.close()
    assert reward.closed
    notes = "\n".join(values.notes)
    assert "Some questions have no reference answer; their paths are judged by the process-reward model alone" in notes
    assert "4 paths were judged by the answer alone: the process-reward model can't score them" in notes


def test_without_the_reward_server_outcomes_count_and_it_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(judges.time, "monotonic", lambda: clock[0])
    reward = Scripted(down=True)
    values = MathValues(reward, wrong_with_answer=0.1)
    leaves = [path(r"\boxed{1/2}"), path(r"\boxed{2} 5"), path("7")]
    # Asked at once; then after a minute of rest; then after two.
    for now, calls in [(0, 1), (59, 1), (61, 2), (170, 2), (182, 3)]:
        clock[0] = now
        assert [one.value for one in values.judge(leaves)] == [1.0, 0.1, 0.0]
        assert reward.calls == calls
    assert values.notes == ["the server is gone; 15 paths were judged by the answer alone"]
    reward.down, clock[0] = False, 1000
    assert values.judge([leaves[1]])[0].value == pytest.approx(0.4 * 0.5)
    values.close()


def test_a_search_goes_on_when_the_server_dies_under_it() -> None:
    with reward_server() as server:
        values = MathValues(ServerReward(server.url, retries=0))
        [judged] = values.judge([path("12345", r"\boxed{0.5}")])
        assert judged.process_rewards == (0.5, 1.0)
        assert by_length(server.requests[0]) == {"scores": [[0.5, 1.0]]}
        server.shutdown()
        server.server_close()
    [judged] = values.judge([path("1", r"\boxed{0.5}")])
    assert (judged.value, judged.process_rewards) == (1.0, None)
    assert len(values.notes) == 1
    assert server.url in values.notes[0]
    values.close()


def test_nonsense_from_the_server_ends_the_search() -> None:
    with reward_server(lambda body: {"scores": [[2]]}) as server:
        values = MathValues(ServerReward(server.url))
        with pytest.raises(InputError, match="the score of step 1 is 2"):
            values.judge([path("a")])
        values.close()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (0.25, Judgement(0.25)),
        (True, Judgement(1.0)),
        (np.float32(0.5), Judgement(0.5)),
        ((2, "five"), Judgement(2.0, "five")),
        ((-1.5, None), Judgement(-1.5)),
        (Judgement(1.0, "5", True), Judgement(1.0, "5", True)),
    ],
)
def test_a_function_may_say_a_value_or_more(said: Any, expected: Judgement) -> None:
    assert FunctionValues(lambda question, steps: said).judge([path("a")]) == [expected]


@pytest.mark.parametrize("said", [None, "0.5", float("nan"), float("inf"), (1, 2), (1, "a", 3), [1, 2]])
def test_a_function_that_says_something_else_is_told(said: Any) -> None:
    with pytest.raises(InputError, match=r"value 'mine', question half: the function returned .*; expected a number"):
        FunctionValues(lambda question, steps: said, "mine").judge([path("a")])


def test_a_function_sees_question_and_steps_and_each_path_once() -> None:
    seen: list[Any] = []

    def shortest(question: Question, steps: Sequence[Step]) -> float:
        seen.append((question, steps))
        return 1 / len(steps)

    values = FunctionValues(shortest)
    leaves = [path("a", "b"), path("a"), path("a", "b")]
    assert [one.value for one in values.judge(leaves)] == [0.5, 1.0, 0.5]
    assert [one.value for one in values.judge(leaves)] == [0.5, 1.0, 0.5]
    assert seen == [(HALF, (Step("next_step", "a"), Step("next_step", "b"))), (HALF, (Step("next_step", "a"),))]


def test_a_function_that_fails_is_named_in_one_line() -> None:
    def broken(question: Question, steps: Sequence[Step]) -> float:
        raise KeyError("no\nsuch thing")

    with pytest.raises(InputError, match=r"^value 'broken', question half: the function failed: KeyError: [^\n]*$"):
        FunctionValues(broken).judge([path("a")])


@pytest.mark.usefixtures("registries")
def test_functions_are_known_by_name(tmp_path: Any) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from rolewise import register_value\nregister_value('short', lambda question, steps: (1 / len(steps), 'x'))\n"
    )
    load_plugins([plugin])
    assert value_names() == ["math", "short"]
    assert make_values("short").judge([path("a", "b")]) == [Judgement(0.5, "x")]
    with pytest.raises(InputError, match="value 'long' is not known; choose from math, short, or name the --plugin"):
        make_values("long")
    with pytest.raises(InputError, match="uses no process-reward model"):
        make_values("short", process_reward=Scripted())
    with pytest.raises(ValueError, match="'math' is taken"):
        register_value("math", lambda question, steps: 0.0)
    assert isinstance(make_values(wrong_with_answer=0.1), MathValues)
    with pytest.raises(InputError, match="wrong_with_answer is 2"):
        make_values(wrong_with_answer=2)
