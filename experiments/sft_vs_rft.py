"""SFT against RFT on data whose truth is known: held-out loss of reasoning and of boilerplate tokens.

    python experiments/sft_vs_rft.py --model MODEL_DIRECTORY

Labels the generator's training split and its evaluation split with SHAD, fine-tunes an adapter per arm and seed on
equal steps, and measures the evaluation split by the true roles and by SHAD's labels. Arms: SFT (mean over tokens),
SFT with a mean per sample, RFT with 1/τ = 0 (equal weight of both groups) and RFT with 1/τ = 0.3. Writes
results/sft_vs_rft.json and docs/figures/sft_vs_rft.png; what `--work` holds already is not computed again.
"""

import argparse
import gc
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from peft import PeftModel
from rich.progress import Progress

from rolewise.cli import console
from rolewise.cli.console import run_script
from rolewise.core.files import write_json
from rolewise.core.role import Role
from rolewise.core.versions import package_versions
from rolewise.data.labelled import load_labelled
from rolewise.data.readers import write_conversations
from rolewise.data.render import RenderedSample, Renderer
from rolewise.evaluation.role_losses import losses_by_role, paired_difference, token_losses
from rolewise.generator import generate
from rolewise.generator.arguments import Split
from rolewise.jobs.label import label
from rolewise.jobs.label_result import LabelResult
from rolewise.jobs.sft import fine_tune
from rolewise.jobs.training_run import Log
from rolewise.labelling.registry import LABELLERS
from rolewise.options.labelling import LabelOptions
from rolewise.options.training import SFTOptions
from rolewise.training.models import default_device, load_model, load_tokenizer
from rolewise.training.sft import WeightedSFTConfig

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

ARMS: dict[str, dict[str, Any]] = {
    "SFT": {"weighting": "none"},
    "SFT, mean per sample": {"weighting": "sample-mean"},
    "RFT, 1/τ = 0": {"weighting": "rft", "weighting_args": {"inv_tau": 0.0}},
    "RFT, 1/τ = 0.3": {"weighting": "rft", "weighting_args": {"inv_tau": 0.3}},
}
GROUPS = (Role.REASONING, Role.BOILERPLATE)

Losses = dict[tuple[str, int], list[np.ndarray]]
"""Losses (nats, shape (T,)) of the held-out samples, by arm and seed."""
Roles = Mapping[str, Sequence[np.ndarray]]
"""Roles (shape (T,)) of the held-out samples, by who gives them."""


def main() -> None:
    """Run what is missing, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", type=int, default=40, help="training conversations")
    parser.add_argument("--held-out", type=int, default=32, help="held-out conversations")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument(
        "--label-options", type=label_options, default={"epochs": 2}, help="settings of the labeller, as JSON"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/sft_vs_rft"))
    parser.add_argument("--output", type=Path, default=Path("results/sft_vs_rft.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/sft_vs_rft.png"))
    arguments = parser.parse_args()

    start = time.perf_counter()
    splits: tuple[Split, ...] = ("train", "eval")
    losses: Losses = {}
    logs: dict[tuple[str, int], Log] = {}
    with console.progress() as progress:
        labelled = {split: label_split(arguments, split, progress) for split in splits}
        for seed in range(arguments.seeds):
            for arm in ARMS:
                losses[arm, seed], logs[arm, seed] = run_arm(arguments, arm, seed, progress)
        losses["base", 0] = measure(arguments, None, arguments.work / "base.json")

    samples = held_out_samples(arguments)
    roles = {
        "truth": [sample.true_roles for sample in samples if sample.true_roles is not None],
        "SHAD": [sample.roles_T for sample in load_labelled(labelled["eval"].path).samples()],
    }
    result = {
        "arguments": {k: v for k, v in vars(arguments).items() if k != "model" and not isinstance(v, Path)},
        "model": load_labelled(labelled["train"].path).info.model_hash,
        "device": default_device(),
        "steps": logs["SFT", 0][-1]["step"],
        "means": summarise(losses, roles, arguments.seeds),
        "differences": compare(losses, roles, arguments.seeds),
        "labels": {
            split: {name: asdict(value) for name, value in found.checks.truth.auroc.items()}
            for split, found in labelled.items()
            if found.checks.truth is not None
        },
        "versions": package_versions(),
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_json(arguments.output, result)
    print_tables(result)
    draw(result, arguments.figure)


def label_options(text: str) -> dict[str, Any]:
    """Settings of SHAD, from JSON."""
    given: dict[str, Any] = json.loads(text)
    if not isinstance(given, dict) or not given.keys() <= LABELLERS.parameters("shad").keys():
        raise argparse.ArgumentTypeError(f'{text} is no JSON object of settings of SHAD, as {{"epochs": 2}}')
    return given


def label_split(arguments: argparse.Namespace, split: Split, progress: Progress) -> LabelResult:
    """Conversations of a split, labelled."""
    count = arguments.train if split == "train" else arguments.held_out
    data = arguments.work / f"{split}.jsonl"
    write_conversations(generate(count, seed=0, split=split), data)
    options = LabelOptions(
        model=arguments.model,
        data=str(data),
        output=str(arguments.work / split),
        method="shad",
        method_args=arguments.label_options,
    )
    return label(options, progress)


def run_arm(arguments: argparse.Namespace, arm: str, seed: int, progress: Progress) -> tuple[list[np.ndarray], Log]:
    """Fine-tune one arm with one seed; its losses on the held-out samples and its log."""
    name = f"{list(ARMS).index(arm)}-{seed}"
    options = SFTOptions(
        model=arguments.model,
        data=str(arguments.work / "train"),
        output=str(arguments.work / f"arm-{name}"),
        generations=0,
    )
    training = WeightedSFTConfig(
        output_dir="",
        max_length=None,
        **ARMS[arm],
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=0.05,
        per_device_train_batch_size=arguments.batch,
        num_train_epochs=arguments.epochs,
        logging_steps=1,
        save_steps=50,
        gradient_checkpointing=False,
        report_to="none",
        seed=seed,
    )
    run = fine_tune(options, training, progress)
    return measure(arguments, run.path, arguments.work / f"losses-{name}.json"), run.log


def held_out_samples(arguments: argparse.Namespace) -> list[RenderedSample]:
    """The evaluation split, rendered."""
    renderer = Renderer(load_tokenizer(arguments.model))
    conversations = generate(arguments.held_out, seed=0, split="eval")
    return [sample for conversation in conversations for sample in renderer.render(conversation)]


def measure(arguments: argparse.Namespace, adapter: Path | None, cache: Path) -> list[np.ndarray]:
    """Token losses of a model on the held-out samples."""
    if not cache.exists():
        model = load_model(arguments.model, device=default_device())
        if adapter is not None:
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        losses = token_losses(model, held_out_samples(arguments), device=default_device())
        write_json(cache, [[None if np.isnan(x) else float(x) for x in row] for row in losses])
        del model
        gc.collect()
    rows = json.loads(cache.read_text())
    return [np.array([np.nan if x is None else x for x in row], dtype=np.float32) for row in rows]


def summarise(losses: Losses, roles: Roles, seeds: int) -> dict[str, dict[str, Any]]:
    """Mean loss per token of each arm: the mean over seeds, and each seed's."""
    table: dict[str, dict[str, Any]] = {}
    for arm in ("base", *ARMS):
        table[arm] = {}
        for by, labels in roles.items():
            for group in GROUPS:
                values = [
                    losses_by_role(losses[arm, seed], labels).by_token[group]
                    for seed in range(1 if arm == "base" else seeds)
                ]
                table[arm][f"{group.label}, by {by}"] = {"mean": float(np.mean(values)), "seeds": values}
    return table


def compare(losses: Losses, roles: Roles, seeds: int) -> dict[str, dict[str, Any]]:
    """Each arm minus SFT, paired by held-out sample.

    The 95 % interval is over samples, of differences averaged over seeds: it holds for these seeds. What other seeds
    would do shows in `by_seed`, the differences that each seed gives by itself.
    """
    table: dict[str, dict[str, Any]] = {}
    for arm in list(ARMS)[1:]:
        table[arm] = {}
        for by, labels in roles.items():
            averaged = {
                name: [np.mean([losses[name, seed][i] for seed in range(seeds)], axis=0) for i in range(len(labels))]
                for name in ("SFT", arm)
            }
            grouped = {name: losses_by_role(rows, labels) for name, rows in averaged.items()}
            for group in GROUPS:
                interval = paired_difference(grouped["SFT"], grouped[arm], group)
                seeds_alone = [
                    paired_difference(
                        losses_by_role(losses["SFT", seed], labels), losses_by_role(losses[arm, seed], labels), group
                    ).estimate
                    for seed in range(seeds)
                ]
                table[arm][f"{group.label}, by {by}"] = {**asdict(interval), "by_seed": seeds_alone}
    return table


def print_tables(result: dict[str, Any]) -> None:
    """Mean losses, then differences from SFT."""
    columns = list(result["means"]["base"])
    print(f"{'held-out loss (nats per token)':32}" + "".join(f"{column:>24}" for column in columns))
    for arm, row in result["means"].items():
        print(f"{arm:32}" + "".join(f"{row[column]['mean']:24.3f}" for column in columns))
    print(f"\n{'arm − SFT, per sample, paired':32}" + "".join(f"{column:>24}" for column in columns))
    for arm, row in result["differences"].items():
        cells = [f"{row[c]['estimate']:+.3f} [{row[c]['low']:+.2f}, {row[c]['high']:+.2f}]" for c in columns]
        print(f"{arm:32}" + "".join(f"{cell:>24}" for cell in cells))
        alone = [" ".join(f"{x:+.3f}" for x in row[c]["by_seed"]) for c in columns]
        print(f"{'  each seed by itself':32}" + "".join(f"{cell:>24}" for cell in alone))


def draw(result: dict[str, Any], path: Path) -> None:
    """Each arm less SFT on held-out samples, by the truth and by SHAD's labels; small points are single seeds."""
    columns = list(next(iter(result["differences"].values())))
    figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for number, (arm, row) in enumerate(result["differences"].items()):
        places = np.arange(len(columns)) + 0.2 * (number - 1)
        estimates = np.array([row[column]["estimate"] for column in columns])
        ends = np.array([[row[column]["low"], row[column]["high"]] for column in columns]).T
        axis.errorbar(places, estimates, yerr=np.abs(ends - estimates), fmt="o", capsize=3, label=arm)
        for place, column in zip(places, columns, strict=True):
            alone = row[column]["by_seed"]
            axis.plot([place + 0.05] * len(alone), alone, ".", color=f"C{number}", markersize=4, alpha=0.5)
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_ylabel("held-out loss less SFT's\n(nats per token)")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)


if __name__ == "__main__":
    run_script(main)
