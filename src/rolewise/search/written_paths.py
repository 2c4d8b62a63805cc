"""What a policy wrote in one go, cut into steps at its functional tokens, judged, and made into paths."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.search.tree import Question, Step
from rolewise.search.values import Judgement, Leaf, Values
from rolewise.training.rollout_paths import RolledPath

WHOLE = "direct_answer"
"""Behaviour of what was written without functional tokens: one step that is the whole answer."""


@dataclass(frozen=True)
class Written:
    """An answer to a question, as it was sampled.

    Attributes:
        question: what was asked.
        prompt_ids: what the policy was given.
        ids: what it wrote, with the token that ended it.
        cut_off: whether it was cut off at its limit of tokens.
    """

    question: Question
    prompt_ids: Sequence[int]
    ids: Sequence[int]
    cut_off: bool


@dataclass(frozen=True)
class _Span:
    """A step: ids from `start` on, its last token at `end`; its reward stands there."""

    behaviour: str
    start: int
    end: int


def judged_paths(
    written: Sequence[Written], values: Values, tokenizer: Any, functional: Mapping[str, tuple[int, int]]
) -> list[RolledPath]:
    """Paths of answers, all judged at once.

    A step goes from an opening token up to the next one; what stands before the first belongs to the first step. An
    answer without functional tokens is one step. Where steps were judged too, each one's reward stands at its closing
    token (its last one, where it was not closed), but for the last step's, which is part of the path's own value and
    stands at the last token.

    Args:
        written: the answers.
        values: who judges.
        tokenizer: the policy's.
        functional: opening and closing token of each behaviour, by its name; empty for a policy that has none.

    Raises:
        RolewiseError: if there can be no judgements.
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
    """What each token of a path earns: the path's value at the end, and a step's reward at the step's end.

    Args:
        length: tokens of the path.
        step_ends: place of each step's last token.
        judgement: of the path.
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
