"""StableToolBench's files: the queries, and the model's answers in the form of its own judging scripts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sources import DataFile, read_records
from rolewise.evaluation.suites.stable_toolbench.apis import Api
from rolewise.evaluation.suites.stable_toolbench.chain import FINISH

COMMIT = "69d3145a756b52fd80c5b936d755a648cd81462f"
_SOURCE = f"https://raw.githubusercontent.com/zhichengg/StableToolBench/{COMMIT}/solvable_queries/test_instruction"
FOLDER = "eval_stabletoolbench"

_DIGESTS = {
    "G1_category": (
        "123cb9073c8b6e6473df91c8a51170277087e1c263eba2eb6077170edbe849c3",
        "f158c34611fb17e560128d081010a2acf51e934618cd0b2097f8ad11c3b50498",
    ),
    "G1_instruction": (
        "500aa0105ed451538448f6ea04f10661536b013f3e1a293840fe401688160e7c",
        "87e63b8ee5569c778e418eb51ff47fcb6489fcdeb570f43b115a25830f4e6514",
    ),
    "G1_tool": (
        "05d0c180bbec9d060fd267cc79399bda05beddd0a6d0de68b5488926a9029a1a",
        "4f75138e0c4d0b134674dd7c945c941a17217d67db77092a71f440dfe44cf08f",
    ),
    "G2_category": (
        "71e18112f7940934f159d623b1c2b4740b1b4dc58a0b596c63b8151abbf8267e",
        "f1c3884754953125e86d7bc19060b91d9870058fe0b37e39747c116d4085cb34",
    ),
    "G2_instruction": (
        "82d569cd0fc8fc742a15a3011fb5cd6a8b11e0a5b344c884602347439f43cad7",
        "dc1979a3b7d46daf71babfd3f2facf85067ec774fe3852bddabd10980b6b931c",
    ),
    "G3_instruction": (
        "f923d1a9452646bd1a415b266117d90675d0f8fc04cf014db58d3cd78c25634f",
        "81d0ca3ac081fe3764f307e03c848a29d668d8491ea14d78e8a4b84316d91c09",
    ),
}
"""Subset → SHA-256 of the source's JSON list, and of the same records as JSON Lines."""

DATA_FILES = {
    subset: DataFile(
        name=f"{subset}.json",
        url=f"{_SOURCE}/{subset}.json",
        sha256=sha256,
        local=f"{FOLDER}/test_instruction__{subset}.jsonl",
        local_sha256=lines_sha256,
    )
    for subset, (sha256, lines_sha256) in _DIGESTS.items()
}


def read_queries(path: Path) -> list[dict[str, Any]]:
    """Read the queries of a subset.

    Raises:
        InputError: naming the file and the record.
    """
    records = read_records(path)
    for number, record in enumerate(records, start=1):
        try:
            is_sound = isinstance(record["query"], str) and isinstance(record["query_id"], int | str)
            for api in record["api_list"]:
                Api.from_record(api).schema()
        except (KeyError, TypeError, AttributeError):
            is_sound = False
        if not is_sound:
            raise InputError(f"{path}: record {number} is not a ToolBench query (query, query_id, api_list); fix it")
    return records


def write_answers(results: Sequence[tuple[Example, Verdict]], folder: Path) -> None:
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
            "method": "CoT@1",
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
