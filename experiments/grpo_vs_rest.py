"""GRPO against ResT and its ablations: reward, entropy, gradient variance and exact calls.

    python experiments/grpo_vs_rest.py                              # a small model made here: minutes on two cores
    python experiments/grpo_vs_rest.py --model MODEL_DIRECTORY --conversations 256 --held-out 128 --sft-steps 60 \
        --trained-on 256 --steps 60 --prompts 8 --samples 16 --tokens 160 --learning-rate 1e-5 --bf16     # a GPU

One model is fine-tuned on the generator's conversations (rlla's format) until it calls tools, but not surely. From
there each arm trains with each seed on the same prompts: GRPO, ResT, ResT as its published code weighs, and ResT's
first weights held throughout; and, what no paper has, RFT's weights of reasoning and boilerplate as SHAD tells them in
the sampled answers, with a model tuned on the shuffled fine-tuning data. On the small model every rollout takes all of
the few prompts that are trained on, so that the curves are of the policy and not of the prompts drawn. Schedules are
scaled to the length of the run. Greedy answers are then held against the reference, every argument exact, for prompts
that were trained on and for held-out ones; the intervals of these shares take the answers of all seeds as independent,
and are too narrow.

Writes results/grpo_vs_rest.json and docs/figures/grpo_vs_rest.png; what `--work` holds already is not computed again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from small_model import small_llama, train_tokenizer
from transformers import set_seed

from rolewise.cli import console
from rolewise.cli.console import run_script
from rolewise.core.files import write_json
from rolewise.core.region import Region
from rolewise.core.statistics import Interval, paired_interval, wilson
from rolewise.core.versions import package_versions
from rolewise.data.readers import write_conversations
from rolewise.generator import generate
from rolewise.jobs.grpo import train_grpo
from rolewise.jobs.label import label
from rolewise.jobs.sample import sample
from rolewise.jobs.sft import fine_tune
from rolewise.jobs.training_run import TrainingResult
from rolewise.options.answers import SampleOptions
from rolewise.options.labelling import LabelOptions
from rolewise.options.training import GRPOOptions, SFTOptions
from rolewise.roles.regions import label_regions
from rolewise.training.grpo import WeightedGRPOConfig
from rolewise.training.models import default_device, load_tokenizer, model_fingerprint
from rolewise.training.sft import WeightedSFTConfig

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

SHAD = "RFT on SHAD's roles"
ARMS = {"GRPO": "none", "ResT": "rest", "ResT, official": "rest-official", "ResT, static": "rest-static", SHAD: "rft"}
CURVES = {"reward": "reward", "entropy": "entropy, nats", "policy_gradient/variance": "variance of the policy gradient"}
LAST = 8
"""Rollouts at the end (of regions, at the beginning too) whose mean is taken."""


def main() -> None:
    """Run what is missing, print the table, draw the figure."""
    arguments = parse()
    splits = {"trained on": "trained-on", "held out": "held-out"}
    conversations = generate(arguments.conversations, seed=0, formats=("rlla",))
    write_conversations(conversations, data_of(arguments, "train"))
    write_conversations(conversations[: arguments.trained_on], data_of(arguments, "trained-on"))
    held_out = generate(arguments.held_out, seed=1, formats=("rlla",))
    write_conversations(held_out, data_of(arguments, "held-out"))
    with console.progress() as progress:
        start_model = fine_tuned(arguments, progress)
        tuned = shuffled_model(arguments, start_model, progress)
        runs = {}
        for seed in range(arguments.seeds):
            for arm in ARMS:
                runs[arm, seed] = run_arm(arguments, start_model, arm, seed, tuned, progress)
        right = {"SFT": {name: [exact(arguments, start_model, split)] for name, split in splits.items()}}
        for arm in ARMS:
            right[arm] = {
                name: [exact(arguments, runs[arm, seed].path, split) for seed in range(arguments.seeds)]
                for name, split in splits.items()
            }
    result: dict[str, Any] = {
        "arguments": {k: v for k, v in vars(arguments).items() if k != "model" and not isinstance(v, Path)},
        "model": model_fingerprint(str(start_model)),
        "device": default_device(),
        "exact": right,
        "reward": {arm: [final_reward(runs[arm, seed].log) for seed in range(arguments.seeds)] for arm in ARMS},
        "curves": {
            arm: [{name: curve(runs[arm, seed].log, name) for name in CURVES} for seed in range(arguments.seeds)]
            for arm in ARMS
        },
        "regions": {arm: regions([runs[arm, seed].log for seed in range(arguments.seeds)]) for arm in ARMS},
        "reference_shares": reference_shares(start_model, data_of(arguments, "trained-on")),
        "versions": package_versions(),
        "training_seconds": {arm: [seconds(runs[arm, seed].path) for seed in range(arguments.seeds)] for arm in ARMS},
    }
    result["against_grpo"] = {
        arm: vars(paired_interval(np.subtract(result["reward"][arm], result["reward"]["GRPO"])))
        for arm in list(ARMS)[1:]
        if arguments.seeds > 1
    }
    write_json(arguments.output, result)
    show(result)
    draw(result, arguments.figure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model directory; by default a small model is made here")
    parser.add_argument("--conversations", type=int, default=16)
    parser.add_argument("--trained-on", type=int, default=5, help="the first of them, for reinforcement")
    parser.add_argument("--held-out", type=int, default=16, help="conversations")
    parser.add_argument("--sft-steps", type=int, default=150, help="of 8 conversations")
    parser.add_argument("--sft-learning-rate", type=float, help="default: 3e-3 for the small model, else 2e-5")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="rollouts")
    parser.add_argument("--prompts", type=int, default=4, help="prompts of a rollout")
    parser.add_argument("--samples", type=int, default=32, help="responses to each")
    parser.add_argument("--tokens", type=int, default=80, help="tokens of a response at most")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("runs/grpo_vs_rest"))
    parser.add_argument("--output", type=Path, default=Path("results/grpo_vs_rest.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/grpo_vs_rest.png"))
    return parser.parse_args()


def data_of(arguments: argparse.Namespace, split: str) -> Path:
    work: Path = arguments.work
    return work / f"{split}.jsonl"


def small_model(folder: Path) -> None:
    """A Llama of two layers with random weights, and a byte-pair tokenizer of the generator's texts."""
    set_seed(0)
    texts = [m["content"] for c in generate(64, seed=0, formats=("rlla",)) for m in c.messages]
    tokenizer = train_tokenizer(texts, 1500)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    small_llama(tokenizer, **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fine_tuned(arguments: argparse.Namespace, progress: Progress) -> Path:
    """The model that all arms start from."""
    small = arguments.work / "small"
    if arguments.model is None and not small.exists():
        small_model(small)
    rate = arguments.sft_learning_rate or (2e-5 if arguments.model else 3e-3)
    options = SFTOptions(
        model=str(arguments.model or small),
        data=str(data_of(arguments, "train")),
        output=str(arguments.work / "sft"),
        lora=False,
        tool_format="rlla",
        generations=0,
    )
    training = WeightedSFTConfig(
        output_dir="",
        weighting="none",
        max_length=None,
        max_steps=arguments.sft_steps,
        learning_rate=rate,
        per_device_train_batch_size=8,
        gradient_checkpointing=False,
        bf16=arguments.bf16,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
    )
    return fine_tune(options, training, progress).path


def shuffled_model(arguments: argparse.Namespace, model: Path, progress: Progress) -> Path:
    """The model after tuning on shuffled pairs of the conversations that it was fine-tuned on."""
    options = LabelOptions(
        model=str(model),
        data=str(data_of(arguments, "train")),
        output=str(arguments.work / "shad"),
        tool_format="rlla",
        method="shad",
        keep_tuned=True,
        method_args={"min_pairs": 8},
    )
    return label(options, progress).path / "tuned-0"


def run_arm(
    arguments: argparse.Namespace, model: Path, arm: str, seed: int, tuned: Path, progress: Progress
) -> TrainingResult:
    """The result of one arm with one seed."""
    roles = "shad" if arm == SHAD else "regions"
    rollout = arguments.prompts * arguments.samples
    options = GRPOOptions(
        model=str(model),
        data=str(data_of(arguments, "trained-on")),
        output=str(arguments.work / f"{list(ARMS).index(arm)}-{seed}"),
        shad_model=str(tuned) if arm == SHAD else None,
        reward="rest-constant",
        lora=False,
        generations=0,
    )
    training = WeightedGRPOConfig(
        output_dir="",
        weighting=ARMS[arm],
        roles=roles,
        gradient_variance=True,
        call_format="rlla",
        max_steps=arguments.steps,
        per_device_train_batch_size=rollout,
        num_generations=arguments.samples,
        max_completion_length=arguments.tokens,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        bf16=arguments.bf16,
        logging_steps=1,
        save_steps=arguments.steps,
        report_to="none",
        seed=seed,
    )
    return train_grpo(options, training, progress, say=lambda _: None)


def exact(arguments: argparse.Namespace, model: Path, split: str) -> dict[str, float]:
    """Prompts whose greedy answer makes the reference's calls, every argument exact."""
    found = sample(
        SampleOptions(
            model=str(model),
            data=str(data_of(arguments, split)),
            output=str(arguments.work / "exact" / f"{Path(model).name}-{split}"),
            samples=1,
            temperature=0.0,
            max_new_tokens=2 * arguments.tokens,
            tool_format="rlla",
            dtype="bfloat16" if arguments.bf16 else "float32",
        )
    ).summary
    return {"right": found.right, "of": found.questions}


def curve(log: list[dict[str, Any]], name: str) -> list[float]:
    """A number of the log, rollout by rollout."""
    return [float(entry[name]) for entry in log if name in entry]


def regions(logs: list[list[dict[str, Any]]]) -> dict[str, dict[str, list[float]]]:
    """Each region's share of the sampled tokens and its weight, at the first rollouts and the last, over all seeds."""
    names = sorted({name for log in logs for entry in log for name in entry if name.startswith(("share/", "weight/"))})
    found: dict[str, dict[str, list[float]]] = {}
    for name in names:
        kind, _, region = name.partition("/")
        curves = [curve(log, name) for log in logs]
        ends = [float(np.mean([values[part] for values in curves])) for part in (slice(LAST), slice(-LAST, None))]
        found.setdefault(region, {})[kind] = ends
    return found


def reference_shares(model: Path, data: Path) -> dict[str, float]:
    """Each region's share of the answers with calls that the prompts trained on have for references."""
    tokenizer = load_tokenizer(str(model))
    messages = [m for line in data.read_text(encoding="utf-8").splitlines() for m in json.loads(line)["messages"]]
    answers = [m["content"] for m in messages if m["role"] == "assistant" and "<tool_call>" in m["content"]]
    ids = [[*tokenizer(answer)["input_ids"], tokenizer.eos_token_id] for answer in answers]
    regions_T = np.concatenate(label_regions(ids, tokenizer, "rlla"))
    return {region.label: float((regions_T == region).mean()) for region in Region if (regions_T == region).any()}


def seconds(run: Path) -> float:
    """Of its training, whenever that was."""
    return float(json.loads((run / "run.json").read_text(encoding="utf-8"))["seconds"]["train"])


def final_reward(log: list[dict[str, Any]]) -> float:
    return float(np.mean(curve(log, "reward")[-LAST:]))


def show(result: dict[str, Any]) -> None:
    """The table for people."""
    table = Table(title="GRPO and ResT", title_justify="left")
    for heading in ("", "reward at the end", "less GRPO's", "exact, trained on", "exact, held out"):
        table.add_column(heading)
    for arm in ("SFT", *ARMS):
        rewards = result["reward"].get(arm)
        against = result["against_grpo"].get(arm)
        cells = ["" if rewards is None else f"{np.mean(rewards):.2f}"]
        cells.append("" if against is None else format(Interval(**against), "+.2f"))
        for counts in result["exact"][arm].values():
            right, of = (sum(count[key] for count in counts) for key in ("right", "of"))
            cells.append(f"{wilson(right, of):.1%}")
        table.add_row(arm, *cells)
    Console().print(table)


def draw(result: dict[str, Any], path: Path) -> None:
    """Mean curves over seeds, each with its seeds behind it."""
    figure, axes = plt.subplots(1, len(CURVES), figsize=(12, 3.4), layout="constrained")
    for axis, (name, title) in zip(axes, CURVES.items(), strict=True):
        for number, arm in enumerate(ARMS):
            seeds = [run[name] for run in result["curves"][arm]]
            for values in seeds:
                axis.plot(range(1, len(values) + 1), values, color=f"C{number}", alpha=0.2, linewidth=0.8)
            axis.plot(range(1, len(seeds[0]) + 1), np.mean(seeds, axis=0), color=f"C{number}", label=arm)
        axis.set_title(title)
        axis.set_xlabel("rollout")
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_script(main)
