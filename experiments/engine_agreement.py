"""Do two engines give the same greedy answers? Compares what two `rolewise eval` runs were answered.

    rolewise eval --model MODEL --suite bfcl,api_bank,gsm8k --limit 20 --max-new-tokens 64 --output here
    rolewise eval --model MODEL --suite bfcl,api_bank,gsm8k --limit 20 --max-new-tokens 64 --output there --server URL
    python experiments/engine_agreement.py --model MODEL --first here --second there --output results/agreement.json

The first question of every example is compared. Where two answers part, the model in this process (float32) is asked
by how much it prefers its own token: below --gap rounding may have chosen, above it something else has.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.engines.agreement import Agreement, agreement
from rolewise.jobs.engines import open_engine, open_tokenizer
from rolewise.options.answers import EvalOptions


def first_questions(run: Path) -> Iterator[tuple[str, str, list[int]]]:
    """Suite and id, prompt, and ids of the answer, of every example of a finished run."""
    for path in sorted((run / "answers").glob("*.jsonl")):
        with path.open(encoding="utf-8") as stream:
            for record in map(json.loads, stream):
                asked = record["asked"][0]
                if asked["ids"]:
                    yield f"{path.stem}/{record['id']}", asked["prompt"], asked["ids"][0]


def described(run: Path) -> dict[str, object]:
    """The engine of a run, its model without the folder that it lay in."""
    try:
        engine: dict[str, object] = json.loads((run / "run.json").read_text(encoding="utf-8"))["engine"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{run}: no finished run of rolewise eval lies here; give its --output") from error
    return {**engine, "model": Path(str(engine["model"])).name}


def summary(found: dict[str, Agreement], gap: float) -> dict[str, object]:
    """What the comparison comes to."""
    parted = [a for a in found.values() if a.gap is not None]
    tokens = sum(a.length for a in found.values())
    return {
        "examples": len(found),
        "the same answer": sum(a.gap is None and a.explained for a in found.values()),
        f"parted where the two tokens lie within {gap:g} nats": sum(a.explained for a in parted),
        "parted elsewhere": sum(not a.explained for a in found.values()),
        "largest gap at a parting": max((abs(a.gap) for a in parted if a.gap is not None), default=None),
        "median gap at a parting": statistics.median([abs(a.gap) for a in parted if a.gap is not None] or [0.0]),
        "share of tokens before the first difference": sum(a.equal for a in found.values()) / tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "first", "second", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--gap", type=float, default=1e-3)
    arguments = parser.parse_args()

    engines = {"first": described(Path(arguments.first)), "second": described(Path(arguments.second))}
    options = EvalOptions(model=arguments.model, suite="", output="")
    tokenizer = open_tokenizer(options)
    others = {key: (prompt, ids) for key, prompt, ids in first_questions(Path(arguments.second))}
    found: dict[str, Agreement] = {}
    with open_engine(options, tokenizer) as engine:
        for key, prompt, ids in first_questions(Path(arguments.first)):
            if key not in others:
                continue
            if others[key][0] != prompt:
                raise InputError(f"{key}: the two runs asked differently; make both with the same options")
            prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            found[key] = agreement(engine, prompt_ids, ids, others[key][1], gap=arguments.gap)
    if not found:
        raise InputError(f"{arguments.first} and {arguments.second} have no example in common; run the same suites")
    result = summary(found, arguments.gap)
    for name, value in result.items():
        print(f"{name:50} {value}")
    each = {key: vars(one) for key, one in found.items()}
    write_json(arguments.output, {"summary": result, "engines": engines, "examples": each})


if __name__ == "__main__":
    run_script(main)
