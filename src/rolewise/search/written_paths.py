"""Paths from texts that a policy wrote in one go, split into steps at functional tokens and judged."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.search.tree import Question, Step
from rolewise.search.values import Judgement, Leaf, Values
from rolewise.training.rollout_paths import RolledPath

WHOLE = "direct_answer"
"""Behaviour of an answer without functional tokens: one step that is the whole answer."""


@dataclass(frozen=True)
class Written:
    """A sampled answer to a question.

    Attributes:
        question: the question.
        prompt_ids: token ids of the prompt.
        ids: generated token ids, with the token that ended the answer.
        cut_off: True if the answer was cut off at its limit of tokens.
    """

    question: Question
    prompt_ids: Sequence[int]
    ids: Sequence[int]
    cut_off: bool


@dataclass(frozen=True)
class _Span:
    """A step: ids from `start` on, with the last token, which carries the reward, at `end`."""

    behaviour: str
    start: int
    end: int


def judged_paths(
    written: Sequence[Written], values: Values, tokenizer: Any, functional: Mapping[str, tuple[int, int]]
) -> list[RolledPath]:
    """Return the paths of answers, all judged at once.

    A step extends from an opening token to the next one; text before the first belongs to the first step. An answer
    without functional tokens is one step. If steps are judged too, each step's reward is placed at its closing token
    (its last token if it was not closed), except the last step's, which is part of the path's own value at the last
    token.

    Args:
        written: answers.
        values: judge of the answers.
        tokenizer: tokenizer of the policy.
        functional: opening and closing token of each behaviour, by name; empty for a policy without functional tokens.

    Raises:
        RolewiseError: if judging is impossible.
    """
    spans = [_spans(answer.ids, functional) for answer in written]
    hidden = {*tokenizer.all_special_ids, *(token for pair in functional.values() for token in pair)}
    leaves = [
        Leaf(answer.question, tuple(_steps(answer.ids, own, tokenizer, hidden)), answer.cut_off)
        for answer, own in zip(written, spans, strict=True)
    ]
    judgements = values.judge(leaves)
    return [
        _path(answer, own, judgement, has_tokens=bool(functional))
        for answer, own, judgement in zip(written, spans, judgements, strict=True)
    ]


def token_rewards(length: int, step_ends: Sequence[int], judgement: Judgement) -> list[float]:
    """Return the reward of each token of a path: the path's value at the end, and a step's reward at the step's end.

    Args:
        length: number of tokens in the path.
        step_ends: position of each step's last token.
        judgement: judgement of the path.
    """
    rewards = [0.0] * length
    if judgement.process_rewards is not None:
        for place, reward in zip(step_ends[:-1], judgement.process_rewards[:-1], strict=True):
            rewards[place] += reward
    if length:
        rewards[-1] += judgement.value
    return rewards


def _path(answer: Written, spans: Sequence[_Span], judgement: Judgement, *, has_tokens: bool) -> RolledPath:
    return RolledPath(
        prompt_ids=answer.prompt_ids,
        ids=answer.ids,
        rewards=token_rewards(len(answer.ids), [span.end for span in spans], judgement),
        outcome=judgement.value,
        right=judgement.right,
        answered=judgement.answer is not None,
        behaviours=tuple(span.behaviour for span in spans) if has_tokens else (),
    )


def _spans(ids: Sequence[int], functional: Mapping[str, tuple[int, int]]) -> list[_Span]:
    opened_by = {opening: name for name, (opening, _) in functional.items()}
    starts = [place for place, token in enumerate(ids) if token in opened_by]
    if not starts:
        return [_Span(WHOLE, 0, max(len(ids) - 1, 0))]
    spans: list[_Span] = []
    for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
        name = opened_by[ids[start]]
        closing = functional[name][1]
        end = next((place for place in range(start, stop) if ids[place] == closing), stop - 1)
        spans.append(_Span(name, 0 if not spans else start, end))
    return spans


def _steps(ids: Sequence[int], spans: Sequence[_Span], tokenizer: Any, hidden: Collection[int]) -> list[Step]:
    stops = [*(span.start for span in spans[1:]), len(ids)]
    return [
        Step(span.behaviour, str(tokenizer.decode([token for token in ids[span.start : stop] if token not in hidden])))
        for span, stop in zip(spans, stops, strict=True)
    ]
