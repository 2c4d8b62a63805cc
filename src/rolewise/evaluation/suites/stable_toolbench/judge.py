"""StableToolBench's pass rate: a judge decides three times if an answer solves the query.

The rule is that of zhichengg/StableToolBench at commit 69d3145a756b52fd80c5b936d755a648cd81462f
(`toolbench/tooleval/eval_pass_rate.py` and `evaluators/registered_cls/rtl.py`); the prompts are our own words for it.

Options of the judge (`SuiteSettings.judge`):
    url, model: the judge, on a chat completions server; required.
    key: name of the environment variable with its key; omit it for a server that requires no key.
    simulator_model: model that answers calls missing from the cache; without it they get an error.
    simulator_url, simulator_key: its address and key. Default: the judge's.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rolewise.core.errors import InputError
from rolewise.engines.chat import Chat, chat_from_settings
from rolewise.evaluation.accuracy import Score, mean_scores, weighted_score
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suites.stable_toolbench.chain import Chain

Status = Literal["solved", "unsure", "unsolved"]

JUDGE_OPTIONS = ("url", "model", "key", "simulator_url", "simulator_model", "simulator_key")

VOTES = 3
_TEMPERATURE = 0.2  # tooleval_gpt-3.5-turbo_default/config.yaml
_ATTEMPTS = 3
_SCORES: dict[Status, float] = {"solved": 1.0, "unsure": 0.5, "unsolved": 0.0}
_UNSOLVED: tuple[Status, ...] = ("unsolved", "unsolved", "unsolved")  # without asking the judge
_STATUS = re.compile(r"\b(solved|unsure|unsolved)\b", re.IGNORECASE)
_LABELLED = re.compile(r"status\W{1,12}(solved|unsure|unsolved)\b", re.IGNORECASE)

_VERDICT_LINE = """\
First give your reason in a sentence or two. Then write one last line, with one of the three words:
Status: Solved | Unsure | Unsolved"""

_ANSWER_PROMPT = """\
A user put a query to an assistant, which gave the answer below. Decide whether the answer solves the query.

- Unsolved: the answer apologises, gives up, or does not reply to the query directly and in substance.
- Solved: the answer replies directly, and what it says is enough to see that the query is dealt with.
- Unsure: the answer replies directly, but it does not hold enough to tell whether the query is dealt with.

{verdict_line}

Query:
{query}

Answer:
{answer}"""

_STEPS_PROMPT = """\
A user put a query to an assistant, which called tools and then gave an answer. From the calls and their results, \
decide whether the answer solves the query.

- Unsolved: every call failed, or the results show that what the answer says is wrong.
- Solved: calls succeeded, and their results do solve the query.
- Unsure: the results do not let you check whether what the answer says is true.

{verdict_line}

Query:
{query}

Calls, results and final answer, as JSON:
{steps}"""


@dataclass(frozen=True)
class Judgement:
    """The judge's opinion on one answer.

    Attributes:
        votes: one vote for each reply that could be parsed.
        unreadable: number of replies that could not be parsed.
        reason: explanation of the first vote.
    """

    votes: tuple[Status, ...]
    unreadable: int = 0
    reason: str = ""

    @property
    def score(self) -> float:
        """Mean over the votes: 1 for solved, one half for unsure, 0 for unsolved; 0 without votes."""
        return sum(_SCORES[vote] for vote in self.votes) / len(self.votes) if self.votes else 0.0


def chats_of(options: Mapping[str, str]) -> tuple[Chat, Chat | None]:
    """Return the judge and the simulator of these options.

    Raises:
        InputError: for an unknown option, or a missing or incomplete judge.
    """
    unknown = [option for option in options if option not in JUDGE_OPTIONS]
    if unknown:
        raise InputError(f"the judge has no option {unknown[0]!r}; choose from {', '.join(JUDGE_OPTIONS)}")
    judge = chat_from_settings(options, "", "judge")
    if judge is None:
        raise InputError(
            "stable_toolbench needs a judge: --judge url=http://localhost:8000/v1,model=NAME (and key=VARIABLE, the "
            "environment variable with its key)"
        )
    of_simulator = {name: value for name, value in options.items() if name.startswith("simulator_")}
    if of_simulator and "simulator_url" not in options and "key" in options:
        of_simulator.setdefault("simulator_key", options["key"])
    simulator = chat_from_settings(of_simulator, "simulator_", "simulator", url=options.get("url"))
    return judge, simulator


def judge_answer(judge: Chat, query: str, final_answer: str, steps: Sequence[dict[str, Any]]) -> Judgement:
    """Collect three votes of the judge at once: on the answer, and if it is unsure, also on the calls.

    Args:
        judge: model that judges.
        query: query of the user.
        final_answer: the model's answer to the user.
        steps: its calls with their results, as JSON values.

    Raises:
        InputError, EngineError: if the judge can't be asked.
    """
    if not final_answer.strip():
        return Judgement(_UNSOLVED, reason="the final answer is empty")
    first = _ANSWER_PROMPT.format(verdict_line=_VERDICT_LINE, query=query, answer=final_answer)
    votes, reason = _votes(judge, first, VOTES)
    sure: list[Status] = [vote for vote in votes if vote != "unsure"]
    unsure = len(votes) - len(sure)
    if unsure:
        detail = json.dumps({"calls": list(steps), "final_answer": final_answer}, ensure_ascii=False)
        second = _STEPS_PROMPT.format(verdict_line=_VERDICT_LINE, query=query, steps=detail)
        more, more_reason = _votes(judge, second, unsure)
        votes, reason = [*sure, *more], more_reason or reason
    return Judgement(tuple(votes), VOTES - len(votes), reason)


def judge_chain(judge: Chat, query: str, chain: Chain) -> Verdict:
    """Return the verdict on a query's chain; the judge is asked only if there is an answer.

    Raises:
        InputError, EngineError: if the judge can't be asked.
    """
    if chain.final_answer is None:
        judgement = Judgement(_UNSOLVED, reason=chain.end)
    else:
        judgement = judge_answer(judge, query, chain.final_answer, chain.steps)
    detail = {
        "final_answer": chain.final_answer,
        "steps": chain.steps,
        "answered_by": dict(chain.answered),
        "votes": list(judgement.votes),
        "unreadable_votes": judgement.unreadable,
    }
    if not judgement.votes:
        return Verdict(0.0, "the judge's replies can't be parsed", detail)
    return Verdict(judgement.score, judgement.reason, detail)


def pass_rates(results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
    """Return pass rates (SoPR): one per subset, and the mean of the subsets overall, as on the leaderboard."""
    mean, *by_subset = mean_scores(results)
    overall = weighted_score("overall", [(1.0, part) for part in by_subset or [mean]], note=_note(results))
    return [overall, *by_subset]


def read_status(text: str) -> Status | None:
    """Return the status in a judge's reply: the last one after the word "status", else the only one named.

    Returns:
        None if there is none, or it is ambiguous.
    """
    labelled = _LABELLED.findall(text)
    named = {word.lower() for word in _STATUS.findall(text)}
    word = labelled[-1].lower() if labelled else named.pop() if len(named) == 1 else None
    return next((status for status in _SCORES if status == word), None)


def _votes(judge: Chat, prompt: str, wanted: int) -> tuple[list[Status], str]:
    """Return the wanted number of votes, or fewer if replies can't be parsed after some attempts, and the explanation
    of the first one."""
    votes: list[Status] = []
    reason = ""
    for _ in range(_ATTEMPTS):
        texts = judge.ask([{"role": "user", "content": prompt}], temperature=_TEMPERATURE, n=wanted - len(votes))
        for text in texts:
            status = read_status(text)
            if status is not None:
                reason = reason or " ".join(text.split())
                votes.append(status)
        if len(votes) == wanted:
            break
    return votes, reason


def _note(results: Sequence[tuple[Example, Verdict]]) -> str:
    """Return a note on the sources of the calls' answers, and on votes of the judge that could not be parsed."""
    answered: Counter[str] = Counter()
    unreadable = 0
    for _, verdict in results:
        answered.update(verdict.detail["answered_by"])
        unreadable += verdict.detail["unreadable_votes"]
    total = sum(answered.values())
    notes = ["mean of subsets"]
    if total:
        shares = ", ".join(f"{who} {count / total:.0%}" for who, count in answered.most_common())
        notes.append(f"{total} calls answered by {shares}")
    if unreadable:
        notes.append(f"{unreadable} of {VOTES * len(results)} votes of the judge unreadable")
    return "; ".join(notes)
