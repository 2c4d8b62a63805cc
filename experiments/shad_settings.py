"""How well SHAD tells reasoning from boilerplate on data whose truth is known, by settings of the tuning step.

    python experiments/shad_settings.py --model MODEL_DIRECTORY

Labels the generator's evaluation split with each setting and writes AUROC of LD against the truth (with an interval
from resampling whole samples), beside base loss alone and the regex, to results/shad_settings.json. A setting that
the file already holds is skipped, so a stopped run goes on. docs/figures/shad_settings.png shows all that it holds.

With `--adapt N` the base model is first fine-tuned, plainly, on N conversations of the training split (whose phrases
are not those of the evaluation split), so that it knows the formats and has learnt to read its prompt.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from transformers import AutoConfig, AutoModelForCausalLM, set_seed

from rolewise.cli import console
from rolewise.cli.console import run_script
from rolewise.core.files import write_arrays, write_json
from rolewise.core.role import Role
from rolewise.core.statistics import Interval, auroc_interval
from rolewise.core.versions import package_versions
from rolewise.data.labelled import LabelledSample, count_roles, labelled_samples
from rolewise.data.readers import write_conversations
from rolewise.data.render import Renderer
from rolewise.generator import generate
from rolewise.jobs.sft import fine_tune
from rolewise.labelling.checks import check_format, check_truth
from rolewise.labelling.classify import is_boilerplate
from rolewise.labelling.settings.shad import SHADConfig
from rolewise.labelling.shad import SHAD
from rolewise.options.training import SFTOptions
from rolewise.training.models import load_tokenizer
from rolewise.training.sft import WeightedSFTConfig

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

SETTINGS: dict[str, dict[str, Any]] = {
    "lora, lr 1e-3, batch 2 (default)": {},
    "lora, lr 1e-3, batch 2, 2 epochs": {"epochs": 2},
    "lora, lr 2e-3, batch 2": {"learning_rate": 2e-3},
    "lora, lr 2e-4, batch 4": {"learning_rate": 2e-4, "batch_size": 4},
    "lora, lr 1e-3, batch 2, 16 pairs": {"min_pairs": 16},
    "lora, lr 1e-3, batch 2, rank 4": {"rank": 4},
    "full, lr 1e-4, batch 2": {"tuning": "full"},
}


def random_model(arguments: argparse.Namespace) -> str:
    """The model's shape and tokenizer with weights drawn at random."""
    tokenizer = load_tokenizer(arguments.model)
    set_seed(arguments.seed)
    folder = arguments.work / "random-weights"
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(arguments.model)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def main() -> None:
    """Run the settings that are missing, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), choices=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--output", type=Path, default=Path("results/shad_settings.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/shad_settings.png"))
    parser.add_argument("--random-weights", action="store_true", help="a control: the model's shape, knowing nothing")
    parser.add_argument("--adapt", type=int, default=0, help="conversations that the base is fine-tuned on first")
    parser.add_argument("--work", type=Path, default=Path("runs/shad_settings"), help="where that model is left")
    parser.add_argument("--keep", type=Path, help="directory in which each setting's losses are left, as .npz")
    arguments = parser.parse_args()

    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    if arguments.random_weights and arguments.adapt:
        parser.error("--random-weights is a control of the base as it is; leave --adapt out")
    model = adapted_model(arguments) if arguments.adapt else arguments.model
    if arguments.random_weights:
        model = random_model(arguments)
    renderer = Renderer(load_tokenizer(model))
    conversations = generate(arguments.samples, seed=arguments.seed, split="eval")
    samples = [sample for conversation in conversations for sample in renderer.render(conversation)]
    for name in arguments.only:
        key = f"{name}, {arguments.samples} samples, seed {arguments.seed}"
        key += f", base adapted on {arguments.adapt}" if arguments.adapt else ""
        key += ", random weights" if arguments.random_weights else ""
        if key in results:
            continue
        start = time.perf_counter()
        config = SHADConfig(**{"seed": arguments.seed, **SETTINGS[name]})
        shad = SHAD(model, config, max_length=3072)
        plan = shad.plan(samples)
        with tempfile.TemporaryDirectory() as work, console.progress() as progress:
            labels, excluded = shad.label(samples, Path(work), progress, plan)
        if arguments.keep:
            columns = {"base": "base_loss_T", "tuned": "tuned_loss_T"}
            arrays = {k: np.concatenate([getattr(label, v) for label in labels]) for k, v in columns.items()}
            write_arrays(arguments.keep / f"{key}.npz", **arrays)
        labelled = labelled_samples(samples, labels, excluded)
        truth, formats = check_truth(labelled), check_format(labelled)
        assert truth is not None
        assert formats is not None
        results[key] = {
            "setting": name,
            "config": asdict(config),
            "adapted_on": arguments.adapt,
            "samples": len(samples),
            "pairs": [len(pairs) for pairs in plan.pairs],
            "tokens_tuned": plan.tokens_to_tune,
            "tokens_scored": plan.tokens_to_score,
            "counts": count_roles(samples, labels),
            "auroc": {score: asdict(interval) for score, interval in truth.auroc.items()},
            "auroc_where_reasoning_begins": asdict(auroc_where_reasoning_begins(labelled)),
            "accuracy": truth.accuracy,
            "format_error": asdict(formats.error_rate),
            "format_tokens": formats.tokens,
            "seconds": round(time.perf_counter() - start, 1),
            "versions": package_versions(),
        }
        write_json(arguments.output, results)
        print_table(results)
    draw(results, arguments.figure)


def auroc_where_reasoning_begins(samples: list[LabelledSample]) -> Interval:
    """LD of the first token of each reasoning span against all boilerplate.

    That token is where the value is chosen. The later tokens of a copied name or request follow from it, whatever the
    prompt says, so no loss can tell that they depend on the prompt too.
    """
    scores, positives = [], []
    for sample in samples:
        assert sample.true_roles_T is not None
        reasoning_T = sample.true_roles_T == Role.REASONING
        first_T = reasoning_T & np.r_[True, ~reasoning_T[:-1]]
        known_T = sample.mask_T & ~np.isnan(sample.base_loss_T) & (first_T | is_boilerplate(sample.true_roles_T))
        scores.append((sample.tuned_loss_T - sample.base_loss_T)[known_T])
        positives.append(first_T[known_T])
    return auroc_interval(scores, positives)


def adapted_model(arguments: argparse.Namespace) -> str:
    """The base model, fine-tuned on conversations of the training split; made once."""
    output = arguments.work / f"adapted-{arguments.adapt}"
    data = arguments.work / f"train-{arguments.adapt}.jsonl"
    write_conversations(generate(arguments.adapt, seed=0, split="train"), data)
    options = SFTOptions(model=arguments.model, data=str(data), output=str(output), merge=True, generations=0)
    training = WeightedSFTConfig(
        output_dir="",
        weighting="none",
        max_length=None,
        learning_rate=5e-4,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        per_device_train_batch_size=4,
        num_train_epochs=1,
        logging_steps=5,
        gradient_checkpointing=False,
        report_to="none",
    )
    with console.progress() as progress:
        return str(fine_tune(options, training, progress).path / "merged")


def print_table(results: dict[str, Any]) -> None:
    """One line per setting."""
    print(f"{'setting':80} {'LD':>20} {'where reasoning begins':>22} {'base loss':>10} {'regex':>6} {'format err':>10}")
    for key, result in results.items():
        first = result["auroc_where_reasoning_begins"]
        cells = [f"{r['estimate']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for r in (result["auroc"]["LD"], first)]
        base, regex = (result["auroc"][name]["estimate"] for name in ("base loss", "regex"))
        error = result["format_error"]["estimate"]
        print(f"{key:80} {cells[0]:>20} {cells[1]:>22} {base:10.3f} {regex:6.3f} {error:10.1%}", flush=True)


def draw(results: dict[str, Any], path: Path) -> None:
    """AUROC of every setting with its interval, of the base as it is and adapted, beside that of the regex."""
    rows = sorted(
        {(result["config"]["seed"], result["setting"]) for result in results.values()},
        key=lambda row: (row[0], list(SETTINGS).index(row[1])),
    )
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True)
    figure.subplots_adjust(left=0.21, right=0.99, top=0.92, bottom=0.23, wspace=0.05)
    for number, adapted_on in enumerate(sorted({result["adapted_on"] for result in results.values()})):
        runs = [result for result in results.values() if result["adapted_on"] == adapted_on]
        places = [rows.index((run["config"]["seed"], run["setting"])) + 0.16 * number for run in runs]
        label = f"LD, base adapted on {adapted_on} conversations" if adapted_on else "LD, base as it is"
        columns = [run["auroc"]["LD"] for run in runs], [run["auroc_where_reasoning_begins"] for run in runs]
        for axis, intervals in zip(axes, columns, strict=True):
            estimates = np.array([interval["estimate"] for interval in intervals])
            ends = np.array([[interval["low"], interval["high"]] for interval in intervals]).T
            axis.errorbar(
                estimates, places, xerr=np.abs(ends - estimates), fmt="o", markersize=4, capsize=2, label=label
            )
    regex = np.mean([result["auroc"]["regex"]["estimate"] for result in results.values()])
    axes[0].axvline(regex, color="C2", linestyle="--", label="regex")
    axes[0].set_yticks(range(len(rows)), [f"{setting}, seed {seed}" for seed, setting in rows], fontsize=8)
    axes[0].invert_yaxis()
    for axis, title in zip(axes, ("all tokens", "where reasoning begins"), strict=True):
        axis.axvline(0.5, color="grey", linestyle=":", label="chance")
        axis.set(title=title, xlabel="AUROC, 95 % interval")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_script(main)
