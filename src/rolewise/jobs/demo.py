"""The job of `rolewise demo`: the main pipeline on a small real model, start to finish, on data with known roles."""

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from peft import PeftModel
from rich.progress import Progress

from rolewise.core.files import read_json, write_json
from rolewise.core.role import Role
from rolewise.data.labelled import LabelledData, LabelledSample, TokenLabels, load_labelled
from rolewise.data.readers import write_conversations
from rolewise.data.render import RenderedSample, Renderer
from rolewise.evaluation.role_losses import (
    GROUPS,
    RoleLosses,
    exact_spans,
    losses_by_role,
    paired_difference,
    token_predictions,
)
from rolewise.generator import generate
from rolewise.jobs.demo_model import fetch_demo_model
from rolewise.jobs.label import label
from rolewise.jobs.label_result import LabelResult
from rolewise.jobs.sft import fine_tune
from rolewise.jobs.sft_report import LOSS_NAMES
from rolewise.jobs.training_report import log_series
from rolewise.jobs.training_run import TrainingResult
from rolewise.labelling.labellers import LabellingContext, register_labeller
from rolewise.options.labelling import DemoOptions, LabelOptions
from rolewise.options.training import SFTOptions
from rolewise.reporting.content import REPORT_FILE
from rolewise.reporting.html import Chart, Generation, Table, write_report
from rolewise.reporting.views import check_tables, sample_views
from rolewise.training.generation import generate_texts
from rolewise.training.models import default_device, load_model, load_tokenizer
from rolewise.training.sft import WeightedSFTConfig
from rolewise.weighting import RFT

LABELLINGS: dict[str, dict[str, Any]] = {"contrast": {}, "SHAD": {"epochs": 1}, "the truth": {}}
"""Name in the table → settings of the labelling, of the method of that name."""
METHODS = {"contrast": "contrast", "SHAD": "shad", "the truth": "truth"}


class Arm(NamedTuple):
    """One fine-tuning: its weighting, the labels that it reads and the directory of its result."""

    weighting: str
    labels: str
    folder: str


ARMS = {
    "SFT": Arm("none", "contrast", "sft"),
    "RFT, contrast": Arm("rft", "contrast", "rft-contrast"),
    "RFT, true roles": Arm("rft", "the truth", "rft-truth"),
}
"""By name in the table. All train on the same samples in the same order."""


@dataclass(frozen=True)
class DemoSize:
    """Amount of data; a CPU gets as much as it can process in minutes."""

    train: int
    held_out: int
    pairs: int
    batch: int
    generation_tokens: int = 96


SIZES = {
    "cpu": DemoSize(train=40, held_out=24, pairs=20, batch=2),
    "gpu": DemoSize(train=600, held_out=120, pairs=64, batch=8),
}


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo: the summary tables and the path of the report."""

    path: Path
    tables: list[Table]


@dataclass
class _HeldOut:
    """Answers and losses of every model on the held-out samples."""

    losses: dict[str, list[list[float | None]]] = field(default_factory=dict)
    exact: dict[str, tuple[int, int]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)


def demo(options: DemoOptions, progress: Progress) -> DemoResult:
    """Label, fine-tune with SFT and with RFT on equal budgets, compare on held-out data, write the report.

    Every stage keeps its result under `options.output`, so an interrupted demo can be resumed.

    Raises:
        InputError: if the model is unavailable, or the output holds a demo with other settings.
    """
    start = time.perf_counter()
    output = Path(options.output)
    device = default_device()
    size = SIZES["cpu" if device == "cpu" else "gpu"]
    task = progress.add_task("fetch the model", total=None)
    model = options.model or fetch_demo_model(output / "model")
    progress.update(task, total=1, completed=1)

    train_file, held_out_file = (output / "data" / f"{name}-seed{options.seed}.jsonl" for name in ("train", "held-out"))
    write_conversations(generate(size.train, seed=options.seed, split="train"), train_file)
    held_out = generate(size.held_out, seed=options.seed, split="eval")
    write_conversations(held_out, held_out_file)

    register_labeller("truth", _true_roles)
    labelled = {name: _label(options, model, name, train_file, size, progress) for name in METHODS}
    runs = {
        name: _tune(options, model, name, labelled[arm.labels], size, device, progress) for name, arm in ARMS.items()
    }
    tokenizer = load_tokenizer(model)
    samples = [sample for conversation in held_out for sample in Renderer(tokenizer).render(conversation)]
    models = {"base": None, **{name: run.path for name, run in runs.items()}}
    measured = _measure(output / "held-out.json", model, models, samples, tokenizer, size, device, progress)

    shown = labelled["contrast"]
    tables = [_labellings(labelled), _comparison(measured, samples), *check_tables(shown.checks)]
    seconds = time.perf_counter() - start
    write_report(
        output / REPORT_FILE,
        title="Rolewise demo",
        subtitle=f"{Path(model).name if options.model else 'SmolLM2-135M-Instruct'}, {size.train} conversations, "
        f"{device}, {seconds / 60:.1f} minutes in this run",
        verdict=shown.checks.verdict.line if shown.checks.verdict else None,
        summary=tables,
        samples=sample_views(_most_telling(load_labelled(shown.path)), RFT()),
        threshold=shown.info.threshold,
        curves=_curves(runs),
        generations=_generations(measured, samples),
        notes=[
            "The generator makes up the conversations and knows each character's true role. Phrases, tools "
            "and values of the held-out conversations do not occur in training.",
            "SFT is plain fine-tuning: the mean loss over all tokens. RFT averages per sample and per role, then "
            "weights the roles: those that contrast found, and the true ones, to tell labels and weighting apart. "
            "All use the same samples, order, steps and seed.",
            "Exact: of the held-out runs of truly reasoning tokens (names, values, codes), the share whose every token "
            "is the most probable one, given the right tokens before it.",
            f"So few steps show that the pipeline works and how it changes each role's loss; they prove nothing about "
            f"which method is better. Seed {options.seed}.",
        ],
    )
    return DemoResult(output / REPORT_FILE, tables)


def _true_roles(samples: Sequence[RenderedSample], context: LabellingContext) -> Iterator[TokenLabels]:
    for sample in samples:
        assert sample.true_roles is not None
        yield TokenLabels.without_losses(sample.true_roles)


def _label(options: DemoOptions, model: str, name: str, data: Path, size: DemoSize, progress: Progress) -> LabelResult:
    settings = {**LABELLINGS[name], **({} if name == "the truth" else {"seed": options.seed})}
    folder = "labelled" if name == "contrast" else f"labelled-{METHODS[name]}"
    return label(
        LabelOptions(
            model=model,
            data=str(data),
            output=str(Path(options.output) / folder),
            method=METHODS[name],
            method_args={**settings, **({"min_pairs": size.pairs} if name == "SHAD" else {})},
        ),
        progress,
    )


def _tune(
    options: DemoOptions,
    model: str,
    name: str,
    labelled: LabelResult,
    size: DemoSize,
    device: str,
    progress: Progress,
) -> TrainingResult:
    tuning = SFTOptions(
        model=model, data=str(labelled.path), output=str(Path(options.output) / ARMS[name].folder), generations=0
    )
    training = WeightedSFTConfig(
        output_dir="",
        weighting=ARMS[name].weighting,
        max_length=None,
        learning_rate=1e-3,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=0.05,
        per_device_train_batch_size=size.batch,
        num_train_epochs=1,
        logging_steps=1,
        save_steps=5,
        save_total_limit=1,
        gradient_checkpointing=False,
        report_to="none",
        seed=options.seed,
        use_cpu=device == "cpu",
    )
    return fine_tune(tuning, training, progress)


def _measure(
    path: Path,
    model: str,
    adapters: dict[str, Path | None],
    samples: Sequence[RenderedSample],
    tokenizer: Any,
    size: DemoSize,
    device: str,
    progress: Progress,
) -> _HeldOut:
    """Measure losses and generate three answers with every model; results already in `path` are not computed again."""
    held_out = _HeldOut(**read_json(path)) if path.exists() else _HeldOut()
    prompts = [sample.input_ids[: sample.turns[0].start].tolist() for sample in samples[:3]]
    task = progress.add_task("measure on held-out data", total=len(adapters))
    for name, adapter in adapters.items():
        if name not in held_out.losses:
            loaded: Any = load_model(model, device=device)
            if adapter is not None:
                # Merged, so that each model is measured with the same arithmetic.
                loaded = PeftModel.from_pretrained(loaded, str(adapter)).merge_and_unload()
            found = token_predictions(loaded, samples, device=device)
            held_out.losses[name] = [[None if np.isnan(x) else round(float(x), 5) for x in row] for row, _ in found]
            truth = [sample.true_roles for sample in samples if sample.true_roles is not None]
            held_out.exact[name] = exact_spans([correct for _, correct in found], truth)
            held_out.answers[name] = generate_texts(loaded, tokenizer, prompts, size.generation_tokens)
            write_json(path, asdict(held_out))
            del loaded
            gc.collect()
        progress.advance(task)
    return held_out


def _comparison(held_out: _HeldOut, samples: Sequence[RenderedSample]) -> Table:
    truth = [sample.true_roles for sample in samples if sample.true_roles is not None]
    by_role: dict[str, RoleLosses] = {}
    rows: list[list[str | float]] = []
    for name, losses in held_out.losses.items():
        arrays = [np.array([np.nan if x is None else x for x in row], dtype=np.float32) for row in losses]
        by_role[name] = losses_by_role(arrays, truth)
        everything = np.concatenate([row[~np.isnan(row)] for row in arrays])
        cells = [f"{by_role[name].by_token[role]:.3f}" for role in GROUPS]
        right, total = held_out.exact[name]
        rows.append([name, f"{everything.mean():.3f}", *cells, f"{right} of {total} ({right / max(1, total):.0%})"])
    for name in list(ARMS)[1:]:
        differences = [paired_difference(by_role["SFT"], by_role[name], role) for role in GROUPS]
        rows.append([f"{name} − SFT", "", *(f"{difference:+.3f}" for difference in differences), ""])
    return Table(
        "Held-out loss by true role (nats per token)",
        ["model", "all tokens", "reasoning", "boilerplate", "exact"],
        rows,
        note="− SFT: mean difference over samples, with its 95 % interval.",
    )


def _labellings(labelled: dict[str, LabelResult]) -> Table:
    """Return a table of the labellings against the truth and what costs nothing."""
    rows: list[list[str | float]] = []
    for name, result in labelled.items():
        truth, verdict = result.checks.truth, result.checks.verdict
        if truth is None or verdict is None or name == "the truth":
            continue
        of_scores = next(iter(truth.auroc.values()))
        seconds = read_json(result.path / "run.json")["seconds"]["label"]
        balance = f"{truth.balanced_accuracy:.3f}"
        rows.append(
            [
                name,
                f"{of_scores:.3f}",
                balance,
                f"{truth.recall:.0%}",
                f"{verdict.rates['labels'].balanced:.2f}",
                f"{seconds:.0f} s",
            ]
        )
        if len(rows) == 1:
            regex = verdict.rates["regex"]
            rows.append(
                [
                    "regex: all but format",
                    f"{truth.auroc['regex']:.3f}",
                    f"{truth.auroc['regex'].estimate:.3f}",
                    "100%",
                    f"{regex.balanced:.2f}",
                    "0 s",
                ]
            )
            rows.append(["all boilerplate", "0.500", "0.500", "0%", "0.50", "0 s"])
    return Table(
        "Labels of the training data against the truth",
        ["labels", "AUROC", "balanced accuracy", "recall", "on sure tokens", "time"],
        rows,
        note="Balanced accuracy: mean of the shares of reasoning and of boilerplate labelled right. On sure tokens: "
        "the same, without the truth, on tokens whose role is beyond doubt.",
    )


def _most_telling(labelled: LabelledData) -> list[LabelledSample]:
    """Return the samples, first the one with the highest share of truly reasoning tokens among long ones."""

    def telling(sample: LabelledSample) -> float:
        assert sample.true_roles_T is not None
        reasoning = int((sample.true_roles_T == Role.REASONING).sum())
        return reasoning / max(80, int(sample.mask_T.sum()))

    return sorted(labelled.samples(), key=telling, reverse=True)


def _curves(runs: dict[str, TrainingResult]) -> list[Chart]:
    charts = []
    for role in LOSS_NAMES[:3]:
        series = [log_series(run.log, f"loss_{role}", name) for name, run in runs.items()]
        title = f"Training loss, {role.replace('token_mean', 'all')} tokens (by each run's own labels)"
        charts.append(Chart(title, "optimizer step", "nats per token", series))
    return charts


def _generations(held_out: _HeldOut, samples: Sequence[RenderedSample]) -> list[Generation]:
    generations = []
    for i, sample in enumerate(samples[: len(held_out.answers["base"])]):
        prompt = sample.text[: int(sample.char_start[sample.turns[0].start])]
        generations.append(Generation(prompt, [(name, answers[i]) for name, answers in held_out.answers.items()]))
    return generations
