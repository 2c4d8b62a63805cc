"""Writer of answers in the format of StableToolBench's own judging scripts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.core.files import write_json
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suites.toolbench_apis import Api
from rolewise.evaluation.suites.toolbench_chain import FINISH

_METHOD = "CoT@1"


def write_converted_answers(results: Sequence[tuple[Example, Verdict]], folder: Path) -> None:
    """Write `SUBSET.json` as `convert_to_answer_format.py` does, for `eval_pass_rate.py` and `eval_preference.py`.

    Raises:
        InputError: if the folder can't be written.
    """
    subsets: dict[str, dict[str, Any]] = {}
    for example, verdict in results:
        subsets.setdefault(example.category, {})[str(example.data["query_id"])] = _converted(example, verdict)
    for subset, answers in subsets.items():
        write_json(folder / f"{subset}.json", answers)


def _converted(example: Example, verdict: Verdict) -> dict[str, Any]:
    apis = [Api.from_record(record).schema() for record in example.data["api_list"]]
    steps = verdict.detail["steps"]
    final_answer = verdict.detail["final_answer"]
    finish = {"return_type": "give_answer", "final_answer": final_answer}
    return {
        "query": example.data["query"],
        "available_tools": [schema["function"] for schema in (*apis, FINISH)],
        "answer": {
            "method": _METHOD,
            "total_steps": len(steps) + 2,
            "final_answer": "" if final_answer is None else json.dumps(finish, ensure_ascii=False),
            "answer_details": [_nested(steps)],
        },
    }


def _nested(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the chain as nested nodes, each in the `next` of the previous one: system, user, then the calls."""
    node: dict[str, Any] | None = None
    for step in reversed(steps):
        arguments = step["arguments"]
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        message = {"name": step["name"], "arguments": written, "response": step["response"]}
        node = {"role": "tool", "message": message, "next": [node] if node else []}
    user = {"role": "user", "message": "", "next": [node] if node else []}
    return {"role": "system", "message": "", "next": [user]}
