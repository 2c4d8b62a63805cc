"""Mix a training set for `rolewise grpo` from local copies, without what overlaps BFCL and API-Bank.

    python experiments/mix_tool_prompts.py --output tool_prompts.jsonl \\
        --source rlla.jsonl=400 --source toolace.json=2000 --source xlam.json=1000 \\
        --benchmark bfcl=eval_bfcl --benchmark api_bank=eval_apibank

`=N` takes N of a source's conversations, drawn with the seed; without it all are taken. A conversation is left out if
one of its user's texts shares a run of 13 words with a question of a benchmark, or holds a whole question of 5 to 12
words, or if it calls a tool that is not on offer; two whose first call answers the same prompt are one. How many each
source gave and each rule took away is printed, and written beside the output.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.data.conversation import Conversation
from rolewise.data.readers import iter_conversations, write_conversations
from rolewise.data.readers.containers import open_containers
from rolewise.data.tool_prompts import ToolPrompt, single_turn_steps, tools_not_on_offer

RUN, LEAST = 13, 5
"""Words in a row that two texts must share, and words that a shorter question must have, to overlap."""
_WORD = re.compile(r"\w+")
_RLLA_USER = re.compile(r"<user>(.*?)</user>", re.DOTALL)


def user_texts(messages: Iterable[Any]) -> Iterator[str]:
    """What the user says in messages; of rlla's record of a dialogue, each turn by itself."""
    for message in messages:
        if isinstance(message, list):
            yield from user_texts(message)
        elif isinstance(message, dict) and message.get("role") == "user":
            content = str(message.get("content") or "")
            yield from _RLLA_USER.findall(content) or [content]


def benchmarks(given: Iterable[str]) -> dict[str, "Overlap"]:
    """What finds the questions of each benchmark that is given as NAME=DIRECTORY.

    Raises:
        InputError: if a directory holds no question, for then nothing would be left out and nobody would see why.
    """
    found = {}
    for name, place in map(named, given):
        texts = list(questions(Path(place))) if place else []
        if not texts:
            raise InputError(f"--benchmark {name}={place}: no question of a benchmark lies there; give NAME=DIRECTORY")
        found[name] = Overlap(texts)
    return found


def questions(directory: Path) -> Iterator[str]:
    """The questions of a benchmark's files: BFCL's `question`, API-Bank's `user`, or a `query`."""
    for file in sorted(directory.rglob("*.json*")):
        for container in open_containers(str(file)):
            for record in container.records:
                value = record.value
                if not isinstance(value, dict):
                    continue
                if isinstance(value.get("question"), list):
                    yield from user_texts(value["question"])
                for key in ("user", "query"):
                    if isinstance(value.get(key), str):
                        yield from _RLLA_USER.findall(value[key]) or [value[key]]


class Overlap:
    """Finds questions of a benchmark in texts, by runs of words."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._runs: set[tuple[str, ...]] = set()
        self._lengths: set[int] = set()
        for text in texts:
            words = _words(text)
            length = min(RUN, len(words))
            if length >= LEAST:
                self._lengths.add(length)
                self._runs.update(_runs(words, length))

    def __contains__(self, text: str) -> bool:
        words = _words(text)
        return any(run in self._runs for length in self._lengths for run in _runs(words, length))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + length]) for i in range(len(words) - length + 1))


def with_steps(path: str, counts: Counter[str]) -> Iterator[tuple[Conversation, list[ToolPrompt]]]:
    """A source's conversations with their steps; what has none is only counted."""
    stream = iter_conversations(path, skip_invalid=True)
    for conversation in stream:
        counts["conversations"] += 1
        try:
            steps = list(single_turn_steps(conversation))
        except InputError:
            counts["refused"] += 1
            continue
        counts["without calls"] += not steps
        is_wrong = any(tools_not_on_offer(step) for step in steps)
        counts["no such tool"] += is_wrong
        if steps and not is_wrong:
            yield conversation, steps
    counts["conversations"] += len(stream.rejected)
    counts["refused"] += len(stream.rejected)


def sources(given: Iterable[str]) -> list[tuple[str, int | None]]:
    """Each FILE=N with its number, None where all are taken.

    Raises:
        InputError: if what stands there is no number.
    """
    found = [named(text) for text in given]
    for path, count in found:
        if not re.fullmatch(r"\d*", count):
            raise InputError(f"--source {path}={count}: give FILE or FILE=N, N a number of conversations")
    return [(path, int(count) if count else None) for path, count in found]


def named(text: str) -> tuple[str, str]:
    name, _, value = text.rpartition("=")
    return (name, value) if name else (value, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", action="append", required=True, metavar="FILE[=N]")
    parser.add_argument("--benchmark", action="append", default=[], metavar="NAME=DIRECTORY")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    wanted, overlaps = sources(options.source), benchmarks(options.benchmark)

    rng = random.Random(options.seed)
    kept: dict[str, Conversation] = {}
    report: dict[str, dict[str, int]] = {}
    for path, count in wanted:
        counts: Counter[str] = Counter()
        fresh: dict[str, Conversation] = {}
        for conversation, steps in with_steps(path, counts):
            found = [
                name for name, overlap in overlaps.items() if any(t in overlap for t in user_texts(steps[-1].messages))
            ]
            counts.update(f"in {name}" for name in found)
            key = json.dumps([steps[0].messages, steps[0].tools], sort_keys=True)
            counts["repeated"] += not found and (key in kept or key in fresh)
            if not found and key not in kept:
                fresh.setdefault(key, conversation)
        chosen = rng.sample(list(fresh), len(fresh) if count is None else min(count, len(fresh)))
        counts["taken"] = len(chosen)
        kept |= {key: fresh[key] for key in chosen}
        report[Path(path).name] = dict(counts)
    mixed = list(kept.values())
    if not mixed:
        raise InputError("nothing is left to write")
    rng.shuffle(mixed)
    write_conversations(mixed, options.output)

    left_out = ["refused", "without calls", "no such tool", *(f"in {name}" for name in overlaps), "repeated"]
    columns = ["conversations", *left_out, "taken"]
    table = Table("source", *columns)
    for name, numbers in report.items():
        table.add_row(name, *(str(numbers.get(column, 0)) for column in columns))
    Console().print(table)
    write_json(options.output.with_suffix(".report.json"), {"seed": options.seed, "sources": report})


if __name__ == "__main__":
    run_script(main)
