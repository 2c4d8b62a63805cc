"""T-Eval's data files: the examples in them and the prompts of these."""

from collections.abc import Sequence
from pathlib import Path

from rolewise.core.errors import InputError
from rolewise.core.limits import MAX_FILE_BYTES, read_text
from rolewise.data.strict_json import read_json
from rolewise.evaluation.examples import Example
from rolewise.evaluation.sources import DataFile
from rolewise.evaluation.suite import Messages
from rolewise.evaluation.suites.t_eval import rules

COMMIT = "af355ab2b62cdbae4262ac41c7529ffeae395012"
_HUB = f"https://huggingface.co/datasets/lovesnowbest/T-Eval/resolve/{COMMIT}/data"

_FILES = {
    "instruct": "instruct_v2.json",
    "plan_json": "plan_json_v2.json",
    "plan_str": "plan_str_v2.json",
    "reason_str": "reason_str_v2.json",
    "retrieve_str": "retrieve_str_v2.json",
    "understand_str": "understand_str_v2.json",
    "rru_json": "reason_retrieve_understand_json_v2.json",
    "review_str": "review_str_v2.json",
}
DATA_FILES = {
    part: DataFile(name=name, url=f"{_HUB}/{name}", sha256=None, local=f"eval_teval/{name}")
    for part, name in _FILES.items()
}


def read_examples(part: str, path: Path) -> list[Example]:
    """Read the examples of a file, which holds an object of examples by key.

    Raises:
        InputError: naming the file and the example.
    """
    try:
        records = read_json(read_text(path, MAX_FILE_BYTES, "data file", "utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(records, dict):
        raise InputError(f"{path}: expected a JSON object of examples; is it a T-Eval v2 file?")
    examples = []
    for key, record in records.items():
        try:
            category = f"instruct_{record['meta_data']['response_format']}" if part == "instruct" else part
            messages_of(record["origin_prompt"])
            rules.ability_scores(category, record, "", None)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"{path}: example {key!r} is not one of T-Eval's {part} ({type(error).__name__})"
            ) from error
        examples.append(Example(f"{part}/{key}", category, record))
    return examples


def messages_of(prompt: Sequence[dict[str, str]]) -> Messages:
    """Return a prompt in the form of chat templates: results of functions become user turns, and consecutive turns of
    one role are joined.

    T-Eval's own templates for open models do the same.
    """
    messages: Messages = []
    for number, message in enumerate(prompt):
        role = message["role"]
        if role not in ("system", "user", "assistant", "function"):
            raise ValueError(f"unknown role {role!r}")
        if role == "function" or (role == "system" and number > 0):
            role = "user"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + message["content"]
        else:
            messages.append({"role": role, "content": "" + message["content"]})
    return messages
