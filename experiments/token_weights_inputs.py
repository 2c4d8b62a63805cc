"""What token_weights.yaml reads: the conversations of sft_vs_rft.py, and SmolLM2-135M-Instruct.

python experiments/token_weights_inputs.py [MODEL]
"""

import sys
from pathlib import Path

from rolewise import generate, write_conversations
from rolewise.jobs.demo_model import fetch_demo_model

folder = Path("runs/token-weights-inputs")
write_conversations(generate(40, seed=0, split="train"), folder / "train.jsonl")
write_conversations(generate(24, seed=0, split="eval"), folder / "held-out.jsonl")
model = Path(sys.argv[1] if len(sys.argv) > 1 else fetch_demo_model(folder / "model"))
if model != folder / "model" and not (folder / "model").exists():
    (folder / "model").symlink_to(model.resolve())
