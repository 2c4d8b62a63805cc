"""A weight per token, from its own difference of losses, against RFT's weight per group and plain fine-tuning.

    rolewise relabel --data runs/shad_agreement/Adapted-0 --output runs/labels --format-error 0.1
    python experiments/token_weights.py --model MODEL --labelled runs/labels

Fine-tunes the model on a data set that SHAD has labelled (the labels may come from another model with its tokenizer,
such as the one that `shad_agreement.py` takes for adapted), once per weighting and seed, on equal budgets. Held-out
losses by the truth, on other conversations of the generator's evaluation split, go to results/token_weights.json. What
is finished is not done again.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from rich.progress import Progress

from rolewise.cli import console
from rolewise.cli.console import run_script
from rolewise.core.files import write_json
from rolewise.core.role import Role
from rolewise.core.statistics import Interval
from rolewise.core.versions import package_versions
from rolewise.data.labelled import load_labelled
from rolewise.data.render import RenderedSample, Renderer
from rolewise.evaluation.role_losses import losses_by_role, paired_difference, token_losses
from rolewise.generator import generate
from rolewise.jobs.sft import fine_tune
from rolewise.options.training import SFTOptions
from rolewise.training.models import default_device, load_model, load_tokenizer
from rolewise.training.sft import WeightedSFTConfig

ARMS = ("none", "rft", "difference-sigmoid", "difference-softmax")
GROUPS = (Role.REASONING, Role.BOILERPLATE)


def main() -> None:
    """Run what is missing and print the differences from plain fine-tuning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--labelled", type=Path, required=True)
    parser.add_argument("--held-out", type=int, default=24, help="conversations, other ones than those labelled")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--work", type=Path, default=Path("runs/token_weights"))
    parser.add_argument("--output", type=Path, default=Path("results/token_weights.json"))
    arguments = parser.parse_args()
    if "none" not in arguments.arms:
        parser.error("the other arms are compared with none; give it too, --arms none …")

    renderer = Renderer(load_tokenizer(arguments.model))
    samples = [s for one in generate(arguments.held_out, seed=1, split="eval") for s in renderer.render(one)]
    truth = [sample.true_roles for sample in samples if sample.true_roles is not None]
    result: dict[str, Any] = {
        "held_out": len(samples),
        "trained_on": len(load_labelled(arguments.labelled).rows),
        "arms": {},
    }
    by_arm = {"base": [token_losses(load_model(arguments.model), samples)]}
    with console.progress() as progress:
        for arm in arguments.arms:
            by_arm[arm] = [run(arguments, arm, seed, samples, progress) for seed in range(arguments.seeds)]
    averaged = {arm: [np.mean(rows, axis=0) for rows in zip(*losses, strict=True)] for arm, losses in by_arm.items()}
    grouped = {arm: losses_by_role(losses, truth) for arm, losses in averaged.items()}
    for arm, found in grouped.items():
        result["arms"][arm] = {group.label: {"by_token": found.by_token[group]} for group in GROUPS}
        if arm not in ("base", "none"):
            for group in GROUPS:
                result["arms"][arm][group.label]["less_sft"] = asdict(paired_difference(grouped["none"], found, group))
    result |= {"seeds": arguments.seeds, "settings": training_settings(0), "versions": package_versions()}
    write_json(arguments.output, result)
    print_table(result)


def training_settings(seed: int) -> dict[str, Any]:
    """The trainer's settings, those of sft_vs_rft.py."""
    return {
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 0.05,
        "per_device_train_batch_size": 2,
        "num_train_epochs": 1,
        "seed": seed,
    }


def run(
    arguments: argparse.Namespace, arm: str, seed: int, samples: list[RenderedSample], progress: Progress
) -> list[np.ndarray]:
    """Fine-tune one arm with one seed; its losses (nats) on the held-out samples."""
    options = SFTOptions(
        model=arguments.model,
        data=str(arguments.labelled),
        output=str(arguments.work / f"{arm}-{seed}"),
        plugin=str(Path(__file__).with_name("difference_weights.py")),
        generations=0,
    )
    training = WeightedSFTConfig(
        output_dir="",
        weighting=arm,
        max_length=None,
        logging_steps=1,
        gradient_checkpointing=False,
        report_to="none",
        **training_settings(seed),
    )
    adapter = fine_tune(options, training, progress).path
    model = PeftModel.from_pretrained(load_model(arguments.model), str(adapter)).merge_and_unload()
    return token_losses(model, samples, device=default_device())


def print_table(result: dict[str, Any]) -> None:
    """Mean losses by role and the differences from plain fine-tuning."""
    for arm, row in result["arms"].items():
        cells = [f"{row[group.label]['by_token']:.3f}" for group in GROUPS]
        cells += [
            f"{Interval(**row[group.label]['less_sft']):+.3f}" for group in GROUPS if "less_sft" in row[group.label]
        ]
        print(f"{arm:20}" + "  ".join(cells))


if __name__ == "__main__":
    run_script(main)
