"""T-Eval's rules: the score of a prediction for each ability.

They follow `teval/evaluators` and `teval/utils` of open-compass/T-Eval at commit
58f22406404d7e2a4f36856a19c7f4dc28a0a5f0. Known differences: dicts with keys that are not strings are not accepted when
a prediction is parsed as Python or JSON; the texts of an instruction's format are matched literally, not as regular
expressions, and the last may be missing at the prediction's end if it is white space; arguments are divided by their
exact number, not by it plus 1e-5; and a plan of `FinishAction` alone scores 0 where the original raises an error.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from rolewise.data.strict_json import read_json
from rolewise.data.tool_calls.python_literals import LiteralSyntaxError, read_literal
from rolewise.evaluation.sentence_embedding import Floats, Similarity

_ENDS = ("<eoa>", "<TOKENS_UNUSED_1>", "<|im_end|>", "\nuser", "\nassistant", "\nUSER", "[INST]", "<|user|>")
"""Texts with which models that fail to stop begin another turn."""

_FINISH = "FinishAction"
_DOTTED_NAME = re.compile(r"\b\w++\.\w+")

_NAME_WEIGHT, _ARGUMENTS_WEIGHT = 0.75, 0.25
_MATCH_THRESHOLD = 0.8


def ability_scores(category: str, record: dict[str, Any], text: str, similarity: Similarity | None) -> dict[str, float]:
    """Return the score of each ability that an example tests, except those that need a missing similarity."""
    reference = record["ground_truth"]
    if category.startswith("instruct_"):
        return {"instruct": instruct(text, record["template"], reference, category.removeprefix("instruct_"))}
    if category == "review_str":
        return {"review": review(text, reference["answer"])}
    if category.startswith("plan_"):
        plan = plan_in_text(text, record["meta"]["API_list"]) if category == "plan_str" else plan_in_json(text)
        return {"plan": 0.0 if similarity is None else plan_f1(plan, plan_in_json(reference), similarity)}
    return _step_scores(category, reference, text, similarity)


def clean(text: str) -> str:
    """Return a prediction in the form that is scored: without further turns and fences."""
    for end in _ENDS:
        text = text.partition(end)[0]
    return text.strip().removeprefix("```json").strip("`").strip()


def read_value(text: Any, opening: str = "", closing: str = "") -> Any:
    """Return the value of a text in Python's or JSON's notation; return other data unchanged.

    Args:
        text: prediction or reference.
        opening, closing: brackets; text before the first and after the last is ignored.

    Raises:
        ValueError: if there is no value.
    """
    if not isinstance(text, str):
        return text
    if "```json" in text:
        text = text.partition("```json")[2].strip("`")
    if opening:
        text = text[max(text.find(opening), 0) :]
    if closing:
        text = text[: text.rfind(closing) + 1]
    try:
        value, end = read_literal(text, 0)
        if not text[end:].strip():
            return value
    except LiteralSyntaxError:
        pass
    try:
        return read_json(text)
    except ValueError:
        return read_json(text.replace("'", '"'))


def instruct(text: str, template: Mapping[str, str], reference: Mapping[str, Any], response_format: str) -> float:
    """Score the following of a format: half for the format, half for the share of right action and arguments.

    Args:
        text: the prediction.
        template: names of thought, action and args in JSON, or the texts before and after each of them.
        reference: `action` and `args`.
        response_format: `json`; anything else means text.
    """
    action, arguments = reference["action"], reference["args"]
    found = (_instruct_json if response_format == "json" else _instruct_text)(text, template)
    if found is None:
        return 0.0
    given_action, given = found
    # A missing argument counts as an empty text.
    right: list[bool] = [given_action == action, *(given.get(name, "") == value for name, value in arguments.items())]
    return 0.5 + 0.5 * sum(right) / len(right)


def reason(text: str, reference: str, similarity: Similarity) -> float:
    """Return the similarity of a thought to the reference's."""
    return max(0.0, float(similarity.cosines([text], [reference])[0, 0]))


def retrieve_in_text(text: str, reference: str) -> float:
    """Return 1 if a text names the right API and no other, else 0."""
    names = [*_DOTTED_NAME.findall(text), *re.findall(_FINISH, text)]
    return float(reference in text and all(name == reference for name in names))


def understand(arguments: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """Return the share of the reference's arguments that are given with the same value, compared as texts."""
    if not reference:
        return float(not arguments)
    right = sum(name in arguments and str(arguments[name]) == str(value) for name, value in reference.items())
    return right / len(reference)


def understand_in_text(text: str, reference: str) -> float:
    """Return 1 if a text equals the reference's arguments, with or without quotes around it, else 0."""
    return float(text.strip("'").strip('"') == reference)


def review(text: str, reference: str) -> float:
    """Return 1 if the choice, the first letter after a colon, is the right one of A to E, else 0."""
    _, colon, after = text.partition(":")
    choice = (after if colon else text).strip()[:1]
    return float(choice in ("A", "B", "C", "D", "E") and choice == reference)


def thought_name_and_arguments(value: Any, *, arguments_as_text: bool = False) -> dict[str, Any]:
    """Return `thought`, `name` and `args` of a step; empty if the value is not a step.

    Args:
        value: text that holds an object, or the object.
        arguments_as_text: True to return the arguments as one text instead of an object.
    """
    try:
        step = read_value(value, "{", "}")
    except ValueError:
        return {}
    if not isinstance(step, dict):
        return {}
    arguments = step.get("args", "")
    if arguments_as_text:
        arguments = str(arguments)
    elif not isinstance(arguments, dict):
        arguments = {}
    return {"thought": str(step.get("thought", "")), "name": str(step.get("name", "")), "args": arguments}


def plan_in_json(value: Any) -> list[dict[str, Any]]:
    """Return the steps of a plan, by their ids: `name`, `id` and `args` (as text); empty if one can't be parsed."""
    try:
        steps = read_value(value, "[", "]")
        plan = [{"name": str(s["name"]), "id": int(s["id"]), "args": str(s["args"])} for s in steps]
    except (ValueError, TypeError, KeyError, OverflowError):
        return []
    return plan if isinstance(steps, list) else []


def plan_in_text(text: str, apis: Sequence[str]) -> list[dict[str, Any]]:
    """Return the steps of a plan in sentences: each sentence that names an API is a step of the first API named."""
    plan: list[dict[str, Any]] = []
    for sentence in text.replace(". ", "\n").split("\n"):
        named = [(sentence.find(api), api) for api in apis if api in sentence]
        if named:
            _, first = min(named, key=lambda found: found[0])
            plan.append({"name": first, "id": len(plan), "args": sentence})
    return plan


def plan_f1(
    predicted: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]], similarity: Similarity
) -> float:
    """Return F1 of a plan's steps: those that match steps of the reference, in the same order.

    Steps are matched one to one by the similarity of names and arguments, so that the sum is greatest; the longest
    increasing run counts. As in the original, a plan without any match still counts as one step.
    """
    predicted, reference = _steps(predicted), _steps(reference)
    if not predicted or not reference:
        return 0.0
    # The original clips cosines below at 0; clipped ones are too small to match either way.
    alike_PR = _NAME_WEIGHT * _cosines(predicted, reference, "name", similarity)
    alike_PR += _ARGUMENTS_WEIGHT * _cosines(predicted, reference, "args", similarity)
    may_match_PR = alike_PR > _MATCH_THRESHOLD
    rows, columns = linear_sum_assignment(np.where(may_match_PR, alike_PR, 0.0), maximize=True)
    matched = [column for row, column in zip(rows, columns, strict=True) if may_match_PR[row, column]]
    count = max(_longest_rising(matched), 1)
    recall, precision = count / len(reference), count / len(predicted)
    return 2 * recall * precision / (recall + precision)


def _step_scores(category: str, reference: Any, text: str, similarity: Similarity | None) -> dict[str, float]:
    """Return the scores of a step's thought, name and arguments, or of the one that the category tests."""
    wanted = thought_name_and_arguments(reference, arguments_as_text=category != "rru_json")
    if category == "retrieve_str":
        return {"retrieve": retrieve_in_text(text, wanted["name"]) if wanted else 0.0}
    if category == "understand_str":
        return {"understand": understand_in_text(text, wanted["args"]) if wanted else 0.0}
    if category == "reason_str":
        return {"reason": reason(text, wanted["thought"], similarity) if wanted and similarity else 0.0}
    step = thought_name_and_arguments(text)
    scores = {"retrieve": 0.0, "understand": 0.0}
    if step and wanted:
        scores["retrieve"] = float(step["name"] == wanted["name"])
        scores["understand"] = understand(step["args"], wanted["args"])
    if similarity is not None:
        is_sound = bool(step and wanted)
        scores["reason"] = reason(step["thought"], wanted["thought"], similarity) if is_sound else 0.0
    return scores


def _instruct_json(text: str, template: Mapping[str, str]) -> tuple[Any, dict[str, Any]] | None:
    names = [template[part] for part in ("thought", "action", "args")]
    try:
        value = read_value(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or not all(name in value for name in names):
        return None
    _, action, arguments = (value[name] for name in names)
    return action, arguments if isinstance(arguments, dict) else {}


def _instruct_text(text: str, template: Mapping[str, str]) -> tuple[str, dict[str, Any]] | None:
    found = _between(text, template)
    if found is None and not template["args_end"].strip():
        found = _between(text + template["args_end"], template)  # which is stripped from predictions
    if found is None:
        return None
    try:
        arguments = read_value(found[1])
    except ValueError:
        arguments = None
    return found[0], arguments if isinstance(arguments, dict) else {}


def _between(text: str, template: Mapping[str, str]) -> tuple[str, str] | None:
    """Return action and arguments between the template's texts; each part extends as far as the others allow."""
    behind_thought = template["thought_end"] + template["action_start"]
    behind_action = template["action_end"] + template["args_start"]
    end = text.rfind(template["args_end"])
    arguments_at = text.rfind(behind_action, 0, end) if end >= 0 else -1
    action_at = text.rfind(behind_thought, 0, arguments_at) if arguments_at >= 0 else -1
    if action_at < 0 or text.find(template["thought_start"], 0, action_at) < 0:
        return None
    action = text[action_at + len(behind_thought) : arguments_at]
    return action.strip(), text[arguments_at + len(behind_action) : end].strip()


def _steps(plan: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    steps = sorted(plan, key=lambda step: step["id"])
    return steps[:-1] if steps and steps[-1]["name"] == _FINISH else steps


def _cosines(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], part: str, similarity: Similarity
) -> Floats:
    return similarity.cosines([step[part] for step in first], [step[part] for step in second])


def _longest_rising(numbers: Sequence[int]) -> int:
    """Return the length of the longest increasing subsequence."""
    lengths: list[int] = []
    for index, number in enumerate(numbers):
        lengths.append(1 + max((lengths[i] for i in range(index) if numbers[i] < number), default=0))
    return max(lengths, default=0)
