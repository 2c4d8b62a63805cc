"""Throughput of tree search in many trees at once against one node of one question at a time.

    python benchmarks/search.py --model MODEL_DIRECTORY
    python benchmarks/search.py --model MODEL_DIRECTORY --server http://localhost:8000/v1

All ways search the same questions with the same model, seeds and budget, so the trees are the same up to rounding:

- `together`: all questions in one `TreeSearch`.
- `one by one`: a `TreeSearch` for each question after the other. As each tree has one rollout under way, what is asked
  at once is what one node of it needs: its children by prompts, one step by functional tokens.
- `several in a tree`: as `together`, with `--in-flight` rollouts at once in each tree, which gives up that a seed fixes
  the tree; only where that is above 1.
- `nothing reused`: as `together`, with an engine that reads every prompt from the start; not with a server, nor with
  `--no-rereading`.

The ways take turns, the order changing from round to round; a round's ratio is of generated tokens per second. Every
way begins a round with nothing known of the questions (a server remembers what it likes). The model is loaded and
warmed up before the clock starts. Paths are judged by their last number, so that what is timed is the search. With
`--policies tokens` the functional tokens are added to the model in this process, untrained; a served one must have
them. Questions are GSM8K's test questions where `ROLEWISE_DATA` has them, otherwise made-up ones.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from record import as_json, seconds_of, write_record
from rich.console import Console
from rich.table import Table

from rolewise.cli.console import run_script
from rolewise.core.statistics import ratio_interval
from rolewise.engines.base import Engine, Sampling
from rolewise.engines.server import ServerEngine
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.rewards.math_answers import final_answer
from rolewise.search.policies import Policy, PromptPolicy, TokenPolicy
from rolewise.search.settings import SearchSettings
from rolewise.search.tree import Question, Tree
from rolewise.search.tree_search import TreeSearch
from rolewise.search.values import Judgement, Leaf
from rolewise.training.functional_tokens import add_functional_tokens
from rolewise.training.models import default_device, load_model, load_tokenizer

TOGETHER, ONE_BY_ONE, NOTHING_REUSED = "together", "one by one", "nothing reused"
SEVERAL = "several in a tree"


class LastNumber:
    """Judges a path by its final answer's text."""

    notes: list[str] = []  # noqa: RUF012 - has none to give

    def judge(self, leaves: Sequence[Leaf]) -> list[Judgement]:
        answers = [final_answer("\n".join(step.text for step in leaf.steps), numeric=True) for leaf in leaves]
        rights = [answer == leaf.question.reference for answer, leaf in zip(answers, leaves, strict=True)]
        return [Judgement(float(right), answer, right) for answer, right in zip(answers, rights, strict=True)]

    def close(self) -> None:
        pass


def find_questions(count: int) -> tuple[str, list[Question]]:
    """Where the questions come from, and the first of them."""
    file = Path(os.environ.get("ROLEWISE_DATA", "")) / "gsm8k" / "test.jsonl"
    if not file.is_file():
        texts = [
            f"Ann has {3 + i} bags of {5 + 2 * i} nuts and eats {4 + i} nuts. How many are left?" for i in range(count)
        ]
        answers = [str((3 + i) * (5 + 2 * i) - 4 - i) for i in range(count)]
        return "made up", [Question(str(i), *pair) for i, pair in enumerate(zip(texts, answers, strict=True))]
    with file.open(encoding="utf-8") as stream:
        records = [json.loads(line) for line, _ in zip(stream, range(count), strict=False)]
    return "GSM8K, test", [
        Question(str(i), record["question"], final_answer(record["answer"], numeric=True))
        for i, record in enumerate(records)
    ]


def open_engines(options: argparse.Namespace, tokenizer: Any, model: Any) -> dict[str, Engine]:
    """The engine of each way."""
    ways = [TOGETHER, ONE_BY_ONE, *([SEVERAL] if options.in_flight > 1 else [])]
    if options.server is not None:
        served = ServerEngine([options.server], tokenizer, model=options.served_model, concurrency=options.concurrency)
        return dict.fromkeys(ways, served)
    engine = TransformersEngine(model, tokenizer, batch_size=options.batch_size)
    engines: dict[str, Engine] = dict.fromkeys(ways, engine)
    if options.rereading:
        engines[NOTHING_REUSED] = TransformersEngine(model, tokenizer, batch_size=options.batch_size, prefix_mib=0)
    return engines


def search(
    way: str, engine: Engine, policy: Policy, questions: Sequence[Question], settings: SearchSettings
) -> list[Tree]:
    """The trees of all questions, in their order."""
    in_flight = settings.in_flight if way == SEVERAL else 1
    searching = TreeSearch(engine, policy, LastNumber(), replace(settings, in_flight=in_flight))
    calls = [[question] for question in questions] if way == ONE_BY_ONE else [questions]
    trees = {tree.question.id: tree for call in calls for tree in searching.run(call)}
    return [trees[question.id] for question in questions]


def same(one: Tree, other: Tree) -> bool:
    """Whether two trees have the same steps and visits; log-probabilities differ by rounding."""
    nodes = [[(node.parent, node.behaviour, node.ids, node.visits) for node in tree.nodes] for tree in (one, other)]
    return nodes[0] == nodes[1]


def measure(
    policy: Policy, engines: dict[str, Engine], questions: Sequence[Question], options: argparse.Namespace
) -> dict[str, Any]:
    """Timings and counts of one policy, as JSON values."""
    settings = SearchSettings(
        rollouts=options.rollouts,
        max_depth=options.depth,
        step_tokens=options.tokens,
        seed=options.seed,
        in_flight=options.in_flight,
    )
    seconds: dict[str, list[float]] = {way: [] for way in engines}
    trees: dict[str, list[Tree]] = {}
    usage: dict[str, dict[str, int]] = {}

    def take(way: str) -> None:
        trees[way] = search(way, engines[way], policy, questions, settings)

    for number in range(options.rounds):
        for way in engines if number % 2 else reversed(engines):
            engine = engines[way]
            before = {}
            if isinstance(engine, TransformersEngine):
                engine.forget()
                before = dict(vars(engine.usage))
            seconds[way].append(seconds_of(partial(take, way)))
            if isinstance(engine, TransformersEngine):
                usage[way] = {name: count - before[name] for name, count in vars(engine.usage).items()}

    tokens = {way: sum(tree.tokens for tree in found) for way, found in trees.items()}
    per_token = {way: [spent / tokens[way] for spent in rounds] for way, rounds in seconds.items()}
    others = [way for way in engines if way not in (TOGETHER, SEVERAL)]
    results: dict[str, Any] = {"ways": {}, "throughput_ratio": {}, "same_trees": {}}
    for way, rounds in seconds.items():
        middle = sorted(rounds)[len(rounds) // 2]
        results["ways"][way] = {
            "seconds": rounds,
            "nodes": sum(len(tree.nodes) for tree in trees[way]),
            "generated_tokens": tokens[way],
            "tokens_per_second": tokens[way] / middle,
            "rollouts_per_second": sum(len(tree.rollouts) for tree in trees[way]) / middle,
            **usage.get(way, {}),
        }
    for way in others:
        results["throughput_ratio"][way] = as_json(
            ratio_interval(per_token[way], per_token[TOGETHER], seed=options.seed)
        )
        results["same_trees"][way] = sum(map(same, trees[TOGETHER], trees[way]))
    if SEVERAL in engines:
        ratio = ratio_interval(per_token[ONE_BY_ONE], per_token[SEVERAL], seed=options.seed)
        results["several_over_one_by_one"] = as_json(ratio)
    return results


def show(console: Console, kind: str, results: dict[str, Any], questions: int) -> None:
    """Print a policy's results."""
    table = Table("way", "nodes", "tokens", "tokens/s", "rollouts/s", "prompt tokens", "of them computed", title=kind)
    for way, found in results["ways"].items():
        counts = [f"{found[name]:,}" if name in found else "–" for name in ("prompt_tokens", "computed_tokens")]
        table.add_row(
            way,
            str(found["nodes"]),
            f"{found['generated_tokens']:,}",
            f"{found['tokens_per_second']:,.1f}",
            f"{found['rollouts_per_second']:.3f}",
            *counts,
        )
    console.print(table)
    for way, ratio in results["throughput_ratio"].items():
        console.print(
            f"{TOGETHER} over {way}: {ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}] times the tokens "
            f"per second; the same trees for {results['same_trees'][way]} of {questions} questions"
        )
    if (ratio := results.get("several_over_one_by_one")) is not None:
        console.print(
            f"{SEVERAL} over {ONE_BY_ONE}: {ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}] times"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory; of a served model, where its tokenizer is")
    parser.add_argument("--policies", nargs="+", choices=["prompts", "tokens"], default=["prompts"])
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=4)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=48, help="at most so many for each step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--in-flight", type=int, default=1, help="rollouts at once in a tree, as a way of its own")
    parser.add_argument("--no-rereading", dest="rereading", action="store_false")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--server", help="URL of a server to ask instead, as http://localhost:8000/v1")
    parser.add_argument("--served-model", help="its name there, where the server has several")
    parser.add_argument("--concurrency", type=int, default=32, help="requests under way at a server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark-search.json"))
    options = parser.parse_args()
    device = "server" if options.server else default_device()
    console = Console()
    source, questions = find_questions(options.questions)
    results: dict[str, Any] = {"questions": source, "policies": {}}
    for kind in options.policies:
        tokenizer = load_tokenizer(options.model)
        model = None if options.server else load_model(options.model, dtype=options.dtype, device=device)
        if kind == "tokens" and model is not None:
            add_functional_tokens(model, tokenizer)
        policy = PromptPolicy(tokenizer) if kind == "prompts" else TokenPolicy(tokenizer)
        engines = open_engines(options, tokenizer, model)
        for engine in engines.values():
            engine.generate(
                [tokenizer(question.text)["input_ids"] for question in questions], Sampling(max_new_tokens=4)
            )
        results["policies"][kind] = measure(policy, engines, questions, options)
        for engine in engines.values():
            engine.close()
        show(console, kind, results["policies"][kind], len(questions))
    write_record(options, device, results)
    console.print(f"written to {options.output}")


if __name__ == "__main__":
    run_script(main)
