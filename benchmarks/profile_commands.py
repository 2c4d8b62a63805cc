"""Where the time of whole commands goes: the model's own work, the start-up, and the rest.

    OMP_NUM_THREADS=1 python benchmarks/profile_commands.py --model MODEL_DIRECTORY

Each command runs in a process of its own, on small data: conversations of the generator, and questions of GSM8K where
`ROLEWISE_DATA` has them, otherwise made-up ones (`eval` needs GSM8K and is left out without it). `sft` trains on what
`label` has labelled. `command_profile.py` says what is measured, and how. The model's share is of a command's time
after its start-up.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import write_record
from rich.console import Console
from rich.table import Table

from rolewise.cli.console import run_script
from rolewise.data.readers import write_conversations
from rolewise.generator import generate
from rolewise.training.models import default_device

COMMANDS = ("label", "sft", "grpo", "search", "eval")


def write_questions(path: Path, count: int) -> str:
    """Write questions with answers as JSON Lines; returns where they come from."""
    gsm8k = _gsm8k()
    if gsm8k is not None:
        lines = gsm8k.read_text(encoding="utf-8").splitlines()[:count]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return "GSM8K, test"
    with path.open("w", encoding="utf-8") as stream:
        for i in range(count):
            question = f"Ann has {3 + i} bags of {5 + 2 * i} nuts and eats {4 + i} nuts. How many are left?"
            stream.write(json.dumps({"question": question, "answer": str((3 + i) * (5 + 2 * i) - 4 - i)}) + "\n")
    return "made up"


def command_lines(options: argparse.Namespace, work: Path) -> dict[str, list[str]]:
    """The command lines without the model, and the data that they read, written to `work`."""
    conversations, questions = str(work / "conversations.jsonl"), str(work / "questions.jsonl")
    write_conversations(generate(options.samples, seed=options.seed), conversations)
    write_questions(Path(questions), options.questions)
    batch = f"--per-device-train-batch-size={options.batch}"
    lines = {
        "label": f"--data {conversations} --method shad --min-pairs {options.pairs}",
        "sft": f"--data {work / 'label'} --weighting rft --max-steps {options.sft_steps} {batch} "
        f"--generation-tokens {options.tokens}",
        "grpo": f"--data {conversations} --weighting rest --max-steps {options.grpo_steps} {batch} "
        f"--num-generations {options.batch} --max-completion-length {options.tokens}",
        "search": f"--data {questions} --numeric --rollouts {options.rollouts} --max-depth {options.depth} "
        f"--step-tokens {options.tokens // 2}",
        "eval": f"--suite gsm8k --limit {options.questions} --max-new-tokens {options.tokens}",
    }
    return {name: line.split() for name, line in lines.items()}


def run(name: str, model: str, line: list[str], work: Path) -> dict[str, Any]:
    """What `command_profile.py` finds of a command, whose output goes to `work`."""
    found = work / f"{name}.json"
    script = Path(__file__).with_name("command_profile.py")
    argv = [sys.executable, script, found, name, "--model", model, "--output", work / name, *line]
    ended = subprocess.run(list(map(str, argv)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if ended.returncode != 0:
        sys.exit(f"{name} failed:\n{ended.stderr}")
    return dict(json.loads(found.read_text(encoding="utf-8")))


def show(console: Console, profiles: dict[str, dict[str, Any]]) -> None:
    """Print all commands, and the largest items of each outside the model."""
    table = Table("command", "seconds", "start-up", "work", "forward", "backward", "optimizer", "the model's share")
    for name, profile in profiles.items():
        times = [profile["seconds"], sum(profile["start_up"].values()), profile["work_seconds"]]
        cells = [f"{seconds:.1f}" for seconds in (*times, *profile["model"].values())]
        table.add_row(name, *cells, f"{profile['model_share']:.1%}")
    console.print(table)
    for name, profile in profiles.items():
        items = Table("ours", "calls", "seconds", "share", title=f"{name}: largest items outside the model")
        for item in profile["others"]:
            items.add_row(item["ours"], item["library"], f"{item['seconds']:.2f}", f"{item['share']:.1%}")
        console.print(items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--samples", type=int, default=16, help="conversations of the generator")
    parser.add_argument("--pairs", type=int, default=8, help="shuffled pairs that label tunes on, at least")
    parser.add_argument("--sft-steps", type=int, default=8)
    parser.add_argument("--grpo-steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4, help="samples or responses of a training step")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=2, help="of search, for each question")
    parser.add_argument("--depth", type=int, default=4, help="of search")
    parser.add_argument("--tokens", type=int, default=64, help="of a response at most; half of it of search's step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark-profile.json"))
    options = parser.parse_args()
    if "sft" in options.commands and "label" not in options.commands:
        parser.error("sft trains on what label has labelled: name label too")
    console = Console()
    if "eval" in options.commands and _gsm8k() is None:
        console.print("eval is left out: ROLEWISE_DATA holds no gsm8k/test.jsonl")
        options.commands.remove("eval")
    profiles = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        lines = command_lines(options, work)
        for name in options.commands:
            profiles[name] = run(name, options.model, lines[name], work)
    show(console, profiles)
    write_record(options, default_device(), {"commands": profiles})
    console.print(f"written to {options.output}")


def _gsm8k() -> Path | None:
    file = Path(os.environ.get("ROLEWISE_DATA", "")) / "gsm8k" / "test.jsonl"
    return file if file.is_file() else None


if __name__ == "__main__":
    run_script(main)
