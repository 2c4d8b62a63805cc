"""Rule-based rewards for tool calls, for TRL's trainers: ToolRL's (arXiv 2504.13958) and ResT's (2509.21826).

A reward is called with the completions and the data set's columns; one column holds the reference, either a complete
response or a JSON list of calls (see `read_reference`). The step of the schedule is TRL's.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from rolewise.core.errors import InputError
from rolewise.core.rollouts import rollout_at
from rolewise.data.tool_calls import CALL_FORMATS, calls_from_openai, parse_response, write_calls
from rolewise.rewards.call_matching import GRANULARITIES, Granularity, correctness
from rolewise.rewards.reference_calls import Reference, read_calls, read_reference
from rolewise.rewards.response_format import FORMAT_RULES, FormatRule, has_format

_DYNAMIC_STEPS, _TWO_STAGE_STEPS, _LENGTH_STEPS = 150, 30, 105
_LENGTH_WORDS, _FIRST_LENGTH_WORDS, _LAST_LENGTH_WORDS = 512, 384, 640

_CHOICES = {
    "format_rule": FORMAT_RULES,
    "granularity": GRANULARITIES,
    "schedule": ("constant", "dynamic", "two-stage"),
    "length": ("none", "constant", "dynamic"),
    "call_format": tuple(CALL_FORMATS),
}


@dataclass(frozen=True, kw_only=True)
class ToolCallRules:
    """Rules of the rewards.

    Attributes:
        format_rule: see `has_format`; "rest" and "toolrl" apply to rlla's tags.
        granularity: see `correctness`; the last three are ToolRL's ablations.
        schedule: "constant": format in [0, 1], correctness in [−m, m]. "dynamic" (ResT's; ToolRL's ablation): see
            `format_range` and `correctness_range`. "two-stage" (ToolRL's ablation): correctness in [−1, 1] for 30
            steps, then [−3, 3] and format in [0, ½].
        correctness_max: m; ToolRL's ablation "equal max" uses 1. Other schedules have their own range.
        length: reward for long thoughts, ToolRL's ablation: "constant" requires 512 words, "dynamic" 384 at first and
            640 from step 105 on; "none" disables it.
        schedule_steps: length that replaces the published length of a schedule (150 steps, 30 and 105), for runs of
            other lengths; None keeps it.
        steps_per_rollout: optimizer steps per rollout; schedules count rollouts.
        call_format: format of responses and references.
        reference_column: column of the data set with the references.

    Raises:
        InputError: for an unknown choice, or options that conflict.
    """

    format_rule: FormatRule = "rest"
    granularity: Granularity = "original"
    schedule: Literal["constant", "dynamic", "two-stage"] = "constant"
    correctness_max: float = 3.0
    length: Literal["none", "constant", "dynamic"] = "none"
    schedule_steps: int | None = None
    steps_per_rollout: Fraction | int = 1
    call_format: str = "rlla"
    reference_column: str = "reference"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} {getattr(self, name)!r} is not known; choose one of {', '.join(choices)}")
        if self.format_rule != "parts" and self.call_format != "rlla":
            raise InputError(
                f"the format rule {self.format_rule!r} is for rlla's tags, but calls are {self.call_format}; choose "
                "the format rule parts"
            )
        if not 0 < self.correctness_max < float("inf"):
            raise InputError(f"correctness_max is {self.correctness_max}; give a number above 0")
        if self.schedule != "constant" and self.correctness_max != 3:
            raise InputError(f"correctness_max is for the constant schedule; {self.schedule!r} has its own range")
        for name in ("schedule_steps", "steps_per_rollout"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")

    def format_range(self, step: int) -> tuple[float, float]:
        """Return the least and the greatest format reward at a rollout step.

        "dynamic": from −2 + 2t/150, at most −1, to 2 − t/150, at least 1.
        """
        if self.schedule == "dynamic":
            part = step / (self.schedule_steps or _DYNAMIC_STEPS)
            return min(-2 + 2 * part, -1.0), max(2 - part, 1.0)
        return 0.0, 0.5 if self._in_second_stage(step) else 1.0

    def correctness_range(self, step: int) -> tuple[float, float]:
        """Return the least and the greatest correctness reward at a rollout step. "dynamic": ±(2 + t/150), at most
        ±3."""
        if self.schedule == "dynamic":
            greatest = min(2 + step / (self.schedule_steps or _DYNAMIC_STEPS), 3.0)
        elif self.schedule == "two-stage":
            greatest = 3.0 if self._in_second_stage(step) else 1.0
        else:
            greatest = self.correctness_max
        return -greatest, greatest

    def length_words(self, step: int) -> float:
        """Return the number of words of thought that earn the full length reward at a rollout step."""
        if self.length == "dynamic":
            part = min(step / (self.schedule_steps or _LENGTH_STEPS), 1.0)
            return _FIRST_LENGTH_WORDS + (_LAST_LENGTH_WORDS - _FIRST_LENGTH_WORDS) * part
        return _LENGTH_WORDS

    def _in_second_stage(self, step: int) -> bool:
        return self.schedule == "two-stage" and step >= (self.schedule_steps or _TWO_STAGE_STEPS)


def format_reward(text: str, reference: Reference, rules: ToolCallRules, step: int = 0) -> float:
    """Return the greatest reward of the step if the response has its reference's parts, else the least."""
    least, greatest = rules.format_range(step)
    return greatest if has_format(text, reference.parts, rules.format_rule, rules.call_format) else least


def correctness_reward(text: str, reference: Reference, rules: ToolCallRules, step: int = 0) -> float:
    """Scale `correctness` to the step's range; return its least for unparseable calls, 0 if none is required."""
    if not reference.calls:
        return 0.0
    least, greatest = rules.correctness_range(step)
    calls = read_calls(text, rules.call_format)
    return (
        least if calls is None else least + (greatest - least) * correctness(reference.calls, calls, rules.granularity)
    )


def length_reward(text: str, rules: ToolCallRules, step: int = 0) -> float:
    """Return words of the last thought over required words, rounded to hundredths, at most 1; 0 if it never ends."""
    thought = _last_thought(text, rules.call_format)
    return min(round(len(thought.split()) / rules.length_words(step), 2), 1.0)


def _last_thought(text: str, call_format: str) -> str:
    if call_format == "rlla":  # ToolRL's rule: both tags are present, in any order
        if "<think>" not in text or "</think>" not in text:
            return ""
        return text[text.rindex("<think>") + len("<think>") :].partition("</think>")[0]
    ended = [segment for segment in parse_response(text, call_format).segments[:-1] if segment.kind == "thought"]
    return text[ended[-1].start : ended[-1].end] if ended else ""


class _Reward(ABC):
    """Base class of rewards that TRL calls with completions and columns, and that return a number for each completion.

    Attributes:
        reads_sampled_text: True to request the sampled ids' text from Rolewise's trainer; in some formats special
            tokens mark the call.
    """

    reads_sampled_text = True

    def __init__(self, rules: ToolCallRules) -> None:
        self.rules = rules

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float]:
        rules = self.rules
        references = columns.get(rules.reference_column)
        if references is None:
            raise InputError(
                f"the data has no column {rules.reference_column!r} with references; add it or name another column"
            )
        step = rollout_at(getattr(columns.get("trainer_state"), "global_step", 0), rules.steps_per_rollout)
        sources = columns.get("source") or [
            f"record {number} of this batch" for number in range(1, len(references) + 1)
        ]
        return [
            self.reward(completion_text(completion, rules.call_format), self._reference(reference, source), step)
            for completion, reference, source in zip(completions, references, sources, strict=True)
        ]

    def check_data(self, data: Any, name: str) -> None:
        """Read every reference of a data set, so that an invalid one stops a run before it begins.

        Args:
            data: a `datasets.Dataset`; one without the column passes, because a rollout may supply it.
            name: name of the data, for messages.

        Raises:
            InputError: with the record and its field.
        """
        column = self.rules.reference_column
        if column not in data.column_names:
            return
        sources = data["source"] if "source" in data.column_names else None
        for number, reference in enumerate(data[column]):
            where = f"{name}: record {number + 1}"
            self._reference(reference, where if sources is None else f"{where} ({sources[number]})")

    @abstractmethod
    def reward(self, text: str, reference: Reference, step: int) -> float:
        """Return the reward of one response."""

    def _reference(self, reference: Any, where: str) -> Reference:
        field = f"{where}: field {self.rules.reference_column!r}"
        if not isinstance(reference, str):
            raise InputError(f"{field}: is {type(reference).__name__}, not text; write calls as JSON text")
        try:
            return read_reference(reference, self.rules.call_format)
        except InputError as error:
            raise InputError(f"{field}: {error}") from error


class ToolCallFormat(_Reward):
    """`format_reward` for TRL."""

    def reward(self, text: str, reference: Reference, step: int) -> float:
        return format_reward(text, reference, self.rules, step)


class ToolCallCorrectness(_Reward):
    """`correctness_reward` for TRL."""

    def reward(self, text: str, reference: Reference, step: int) -> float:
        return correctness_reward(text, reference, self.rules, step)


class ThoughtLength(_Reward):
    """`length_reward` for TRL."""

    def reward(self, text: str, reference: Reference, step: int) -> float:
        return length_reward(text, self.rules, step)


def tool_call_rewards(rules: ToolCallRules | None = None) -> list[_Reward]:
    """Return TRL reward functions, to be summed with equal weights: format, correctness, and length if it is enabled.

    `WeightedGRPOTrainer` reads all references of its data before it begins, through `check_data`; with another trainer
    an invalid reference raises `InputError` when its completions are first rewarded.

        trainer = GRPOTrainer(…, reward_funcs=[*tool_call_rewards(REWARD_PRESETS["rest"]), your_own])

    Args:
        rules: rules of the rewards; None means ToolRL's constant ranges with ResT's format rule.
    """
    rules = rules or ToolCallRules()
    rewards = [ToolCallFormat(rules), ToolCallCorrectness(rules)]
    return [*rewards, ThoughtLength(rules)] if rules.length != "none" else rewards


def completion_text(completion: Any, call_format: str = "rlla") -> str:
    """Return a completion as one text; the completion is a text, or messages, of which the assistant's count.

    Thoughts and calls that a parser removed from a message (`reasoning_content`, `tool_calls`) are written back.
    """
    if isinstance(completion, str):
        return completion
    texts = [_message_text(message, call_format) for message in completion if message.get("role") == "assistant"]
    return "\n".join(texts)


def _message_text(message: dict[str, Any], call_format: str) -> str:
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(str(part.get("text", "")) for part in content)
    parts = [f"<think>{message['reasoning_content']}</think>"] if message.get("reasoning_content") else []
    parts += [content] if content else []
    calls = calls_from_openai(message.get("tool_calls") or [])
    with suppress(InputError):  # an invalid call, or one that the format can't express, is not a right one
        parts += [write_calls(calls, call_format)] if calls else []
    return "\n".join(parts)
