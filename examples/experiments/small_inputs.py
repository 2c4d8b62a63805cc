"""What small.yaml and rest_small.yaml read: conversations whose true roles are known, and SmolLM2-135M-Instruct.

python examples/experiments/small_inputs.py [FOLDER]
"""

import argparse
from pathlib import Path

from rolewise import InputError, generate, write_conversations
from rolewise.jobs.demo_model import fetch_demo_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=Path("runs/small-inputs"))
folder = parser.parse_args().folder
try:
    write_conversations(generate(32, seed=0, split="train"), folder / "train.jsonl")
    # The held-out split shares no tool, phrase or value with the other.
    write_conversations(generate(16, seed=0, split="eval"), folder / "held-out.jsonl")
    write_conversations(generate(64, seed=1, split="train", formats=("rlla",)), folder / "rlla-train.jsonl")
    write_conversations(generate(16, seed=1, split="eval", formats=("rlla",)), folder / "rlla-held-out.jsonl")
    model = Path(fetch_demo_model(folder / "model"))
except InputError as error:
    parser.exit(2, f"{parser.prog}: {error}\n")
if model != folder / "model":  # the hub keeps it in its own cache
    (folder / "model").symlink_to(model.resolve())
