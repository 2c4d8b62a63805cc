"""The whole of RFTT on made-up multi-step arithmetic: base, warm-up, reinforcement, and accuracy over rollouts.

    python experiments/rftt_arithmetic.py             # minutes to an hour on two cores, from nothing

A question is an expression of digits below 5, computed modulo 5 from left to right; a step takes its first two operands
together, as in `3+4-1` to `3+4=2-1`. The base is a small model made here, trained on steps in the very prompts that a
search by prompts uses, so that it can be searched, and on whole answers to plain questions. It is taught some of the
fifty sums wrong most of the time, so that no vote mends them, but search that knows the answers can find the way round.
Then

- search by prompts on training questions, warm-up data out of the trees, and fine-tuning on them: with functional
  tokens, with them on the right paths alone, and on the same right paths as plain text;
- reinforcement of both: with tokens by tree search and by plain sampling, without tokens by plain sampling;
- held-out questions: with tokens solved by tree search that never sees the answers, without by as many samples. A
  majority votes.

Writes results/rftt_arithmetic.json and docs/figures/rftt_arithmetic.png; what `--work` holds already is not computed
again.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import torch
import yaml
from arithmetic import SLIP, Arithmetic, first_mistake, result
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from small_model import small_llama, train_tokenizer
from transformers import PreTrainedTokenizerFast, set_seed

from rolewise.cli import console
from rolewise.cli.console import run_script
from rolewise.core.behaviour import Behaviour, BehaviourSet
from rolewise.core.files import write_json, write_text
from rolewise.core.statistics import wilson
from rolewise.core.versions import package_versions
from rolewise.evaluation.prompting import Prompter
from rolewise.jobs.reinforce import reinforce
from rolewise.jobs.sample import sample
from rolewise.jobs.search import search_trees
from rolewise.jobs.sft import fine_tune
from rolewise.jobs.solve import solve
from rolewise.jobs.training_run import TrainingResult
from rolewise.jobs.warmup import make_warmup_data
from rolewise.options.answers import SampleOptions, SearchOptions, SolveOptions
from rolewise.options.training import ReinforceOptions, SFTOptions, WarmupOptions
from rolewise.rewards.math_answers import final_answer
from rolewise.search.policies import PromptPolicy
from rolewise.search.tree import Question, Step
from rolewise.search.verdicts import verdict_prompt
from rolewise.search.warmup_data import Pair
from rolewise.training.models import default_device
from rolewise.training.reinforce import ReinforceConfig
from rolewise.training.sft import WeightedSFTConfig

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

BEHAVIOURS = BehaviourSet(
    [
        Behaviour("next_step", "the next step", ("next_step", "direct_answer", "verify", "output"), "next step"),
        Behaviour("direct_answer", "the rest at once", ("verify", "output"), "all steps", children=1, concludes=True),
        Behaviour("verify", "check the steps", ("refine", "next_step")),
        Behaviour("refine", "mend the step", ("next_step", "direct_answer", "output", "verify")),
        Behaviour("output", "the answer"),
    ],
    first=("next_step", "direct_answer"),
)
TEMPERATURE = 0.8


Source = Literal["tree", "samples", "grpo"]
"""Of the rollouts."""


def main() -> None:
    """Run what is missing, print the table, draw the figure."""
    arguments = parse()
    write_questions(arguments)
    with console.progress() as progress:
        base = arguments.work / "base"
        if not (base / "config.json").exists():
            train_base(base, arguments, progress)
        searched = search_trees(
            SearchOptions(
                model=str(base),
                data=str(arguments.work / "train.jsonl"),
                output=str(arguments.work / "searched"),
                policy="prompts",
                **search_settings(arguments),
            ),
            progress,
        )
        tuned = {"with tokens": with_tokens(arguments, base, progress), "without": without(arguments, base, progress)}
        unmerged = with_tokens(arguments, base, progress, name="unmerged", merged=0)
        curves = {"base, prompts": [solved(arguments, base, "base", progress)]}
        curves["base, sampled"] = [sampled(arguments, base, "base", progress)]
        curves["warm-up"] = [solved(arguments, tuned["with tokens"], "warm", progress)]
        curves["warm-up, right paths alone"] = [solved(arguments, unmerged, "unmerged", progress)]
        curves["warm-up, without tokens"] = [sampled(arguments, tuned["without"], "plain", progress)]
        reinforcements: dict[str, tuple[str, Source, Callable[..., Any]]] = {
            "reinforced by tree search": ("with tokens", "tree", solved),
            "reinforced by sampling": ("with tokens", "samples", solved),
            "reinforced by sampling, without tokens": ("without", "samples", sampled),
        }
        for seed in range(arguments.seeds):
            for name, (start_from, source, measure) in reinforcements.items():
                key = f"{name.replace(' ', '-').replace(',', '')}-{seed}"
                model = reinforced(arguments, tuned[start_from], source, key, seed, progress)
                curves.setdefault(name, []).append(measure(arguments, model, key, progress))
    made = json.loads((arguments.work / "warm-data" / "summary.json").read_text(encoding="utf-8"))
    summary = {
        "arguments": {k: v for k, v in vars(arguments).items() if not isinstance(v, Path)},
        "device": default_device(),
        "search": searched.summary,
        "warm_up_data": {
            key: made[key] for key in ("trees", "with_right", "with_both", "merged", "plain", "behaviours")
        },
        "accuracy": curves,
        "versions": package_versions(),
    }
    write_json(arguments.output, summary)
    show(summary)
    draw(summary, arguments.figure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-steps", type=int, default=2500, help="of 64 samples")
    parser.add_argument("--train", type=int, default=300, help="questions to search")
    parser.add_argument("--held-out", type=int, default=200, help="questions")
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--warmup-steps", type=int, default=500, help="optimizer steps of 16 samples")
    parser.add_argument("--warmup-rate", type=float, default=1e-3, help="learning rate of warm-up")
    parser.add_argument("--reinforce-steps", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of reinforcement")
    parser.add_argument("--seeds", type=int, default=3, help="of reinforcement")
    parser.add_argument("--work", type=Path, default=Path("runs/rftt_arithmetic"))
    parser.add_argument("--output", type=Path, default=Path("results/rftt_arithmetic.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/rftt_arithmetic.png"))
    return parser.parse_args()


def search_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "rollouts": arguments.rollouts,
        "max_depth": 10,
        "step_tokens": 32,
        "temperature": TEMPERATURE,
        "top_p": 1.0,
        "top_k": 0,
        "behaviours": str(arguments.work / "behaviours.yaml"),
        "batch_size": 64,
    }


def write_questions(arguments: argparse.Namespace) -> None:
    """Questions of both splits, none in both, as questions and as conversations; and the behaviours."""
    write_text(arguments.work / "behaviours.yaml", yaml.safe_dump(BEHAVIOURS.as_record(), sort_keys=False))
    drawn = Arithmetic(seed=1)
    expressions = list(dict.fromkeys(drawn.expression() for _ in range(4 * (arguments.train + arguments.held_out))))
    for split, count in (("train", arguments.train), ("held-out", arguments.held_out)):
        chosen, expressions = expressions[:count], expressions[count:]
        lines = [json.dumps({"id": text, "question": text, "answer": f"#### {result(text)}"}) for text in chosen]
        write_text(arguments.work / f"{split}.jsonl", "\n".join(lines) + "\n")


def train_base(folder: Path, arguments: argparse.Namespace, progress: Progress) -> None:
    """A Llama of two layers that answers the search's prompts, with its mistakes."""
    set_seed(0)
    arithmetic = Arithmetic(seed=0)
    tokenizer = make_tokenizer()
    policy = PromptPolicy(tokenizer, BEHAVIOURS)
    sizes = {"hidden_size": 96, "intermediate_size": 256, "num_key_value_heads": 4, "max_position_embeddings": 512}
    model = small_llama(tokenizer, **sizes).to(default_device()).train()
    prompter = Prompter(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=arguments.base_steps)
    task = progress.add_task("base model", total=arguments.base_steps)
    for step in range(arguments.base_steps):
        # Verify steps have long prompts, and batches of their own.
        rows = [
            verdict_example(arithmetic, prompter) if step % 8 == 7 else step_example(arithmetic, policy, tokenizer)
            for _ in range(64)
        ]
        ids = [
            (tokenizer(prompt)["input_ids"], tokenizer(f"{answer}<|im_end|>")["input_ids"]) for prompt, answer in rows
        ]
        length = max(len(prompt) + len(answer) for prompt, answer in ids)
        ids_BT = torch.full((len(ids), length), tokenizer.pad_token_id)
        labels_BT = torch.full_like(ids_BT, -100)
        for row, (prompt, answer) in enumerate(ids):
            end = len(prompt) + len(answer)
            ids_BT[row, :end] = torch.tensor([*prompt, *answer])
            labels_BT[row, len(prompt) : end] = torch.tensor(answer)
        loss = model(input_ids=ids_BT.to(model.device), labels=labels_BT.to(model.device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        progress.update(task, advance=1, description=f"base model · loss {loss.item():.3f}")
    tokenizer.save_pretrained(folder)
    model.eval().save_pretrained(folder)


def step_example(arithmetic: Arithmetic, policy: PromptPolicy, tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """A prompt as the search writes it, or a plain question, and an answer."""
    text = arithmetic.expression()
    question = Question(text, text, str(result(text)))
    steps = arithmetic.steps(text, SLIP, mistaken=True)
    done = arithmetic.chance.randrange(len(steps))
    before = as_steps(steps[:done])
    form = arithmetic.chance.random()
    if form < 0.4:
        return policy.prompt(question, before, "next_step"), steps[done]
    if form < 0.6:
        return policy.prompt(question, before, "direct_answer"), " ".join(steps[done:])
    asked = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    return prompt, "\n".join(steps)


def verdict_example(arithmetic: Arithmetic, prompter: Prompter) -> tuple[str, str]:
    """A prompt for a verify step, and what it should say."""
    text = arithmetic.expression()
    right = wrong = arithmetic.steps(text)
    while wrong == right:
        wrong = arithmetic.steps(text, 0.4)
    shared = next(i for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b)
    pair = Pair(
        Question(text, text, str(result(text))),
        as_steps(right[:shared]),
        as_steps(wrong[shared:]),
        as_steps(right[shared:]),
        (0, 0),
    )
    return verdict_prompt(prompter, pair), first_mistake(text, wrong)


def as_steps(texts: list[str]) -> tuple[Step, ...]:
    return tuple(Step("next_step", text) for text in texts)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Single tokens for digits, whole words for what prompts say."""
    letters = train_tokenizer([""], 600, single_digits=True)
    arithmetic = Arithmetic(seed=2)
    policy, prompter = PromptPolicy(letters, BEHAVIOURS), Prompter(letters)
    examples = [step_example(arithmetic, policy, letters) for _ in range(400)]
    examples += [verdict_example(arithmetic, prompter) for _ in range(100)]
    return train_tokenizer(["".join(pair) for pair in examples], 600, single_digits=True)


def with_tokens(
    arguments: argparse.Namespace, base: Path, progress: Progress, *, name: str = "warm", merged: int = 1
) -> Path:
    """The base tuned on warm-up data with functional tokens, with or without wrong branches that are mended."""
    options = WarmupOptions(
        model=str(base),
        trees=str(arguments.work / "searched" / "trees.jsonl"),
        output=str(arguments.work / name),
        merged=merged,
        behaviours=str(arguments.work / "behaviours.yaml"),
        verify_tokens=24,
        temperature=0.0,
        generations=0,
        batch_size=64,
    )
    data = make_warmup_data(options, progress)
    return tune(options.of_training(str(data.conversations)), arguments, progress).path


def without(arguments: argparse.Namespace, base: Path, progress: Progress) -> Path:
    """The base tuned on the right paths of the same data as plain text: no functional tokens, no mistakes."""
    lines = (arguments.work / "warm-data" / "conversations.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if record["kind"] == "plain"]
    for record in records:
        answer = record["messages"][1]
        for behaviour in BEHAVIOURS:
            answer["content"] = answer["content"].replace(behaviour.opening, "").replace(behaviour.closing, "\n")
        answer["content"] = answer["content"].strip()
    data = arguments.work / "plain.jsonl"
    write_text(data, "".join(json.dumps({"messages": record["messages"]}) + "\n" for record in records))
    options = SFTOptions(
        model=str(base),
        data=str(data),
        output=str(arguments.work / "plain"),
        lora=False,
        generations=0,
    )
    return tune(options, arguments, progress).path


def tune(options: SFTOptions, arguments: argparse.Namespace, progress: Progress) -> TrainingResult:
    training = WeightedSFTConfig(
        output_dir="",
        weighting="none",
        max_length=None,
        max_steps=arguments.warmup_steps,
        learning_rate=arguments.warmup_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=10,
        per_device_train_batch_size=16,
        gradient_checkpointing=False,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
    )
    return fine_tune(options, training, progress)


def reinforced(
    arguments: argparse.Namespace,
    model: Path,
    source: Source,
    key: str,
    seed: int,
    progress: Progress,
) -> Path:
    """A tuned model after reinforcement on the training questions."""
    training = ReinforceConfig(
        output_dir="",
        max_steps=arguments.reinforce_steps,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="constant",
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=128,
        temperature=TEMPERATURE,
        top_p=1.0,
        top_k=0,
        gradient_checkpointing=False,
        logging_steps=1,
        save_steps=arguments.reinforce_steps,
        report_to="none",
        seed=seed,
    )
    options = ReinforceOptions(
        model=str(model),
        data=str(arguments.work / "train.jsonl"),
        output=str(arguments.work / key),
        rollouts_from=source,
        rollouts=8,
        max_depth=10,
        step_tokens=32,
        behaviours=str(arguments.work / "behaviours.yaml"),
        numeric=True,
        generations=0,
        batch_size=64,
    )
    return reinforce(options, training, progress, say=lambda _: None).path


def solved(arguments: argparse.Namespace, model: Path, key: str, progress: Progress) -> list[dict[str, Any]]:
    """Accuracy over rollouts of a tree search that does not see the answers."""
    options = SolveOptions(
        model=str(model),
        data=str(arguments.work / "held-out.jsonl"),
        output=str(arguments.work / f"{key}-solved"),
        **search_settings(arguments),
    )
    curve = solve(options, progress).curve
    return [{"rollouts": point.rollouts, **asdict(point.accuracy["majority"])} for point in curve]


def sampled(arguments: argparse.Namespace, model: Path, key: str, progress: Progress) -> list[dict[str, Any]]:
    """The same of plain samples and a majority vote."""
    options = SampleOptions(
        model=str(model),
        data=str(arguments.work / "held-out.jsonl"),
        output=str(arguments.work / f"{key}-sampled"),
        check="math",
        samples=arguments.rollouts,
        temperature=TEMPERATURE,
        max_new_tokens=128,
        batch_size=64,
    )
    lines = (sample(options, progress).path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    points = []
    for count in range(1, arguments.rollouts + 1):
        right = sum(majority_is_right(record["answers"][:count], record["right"][:count]) for record in records)
        points.append({"rollouts": count, **asdict(wilson(right, len(records)))})
    return points


def majority_is_right(answers: list[str], right: list[bool]) -> bool:
    """Whether the most frequent answer is right; the first found of equals, as in a vote over a tree."""
    read = [final_answer(answer, numeric=True) for answer in answers]
    votes = Counter(answer for answer in read if answer is not None)
    if not votes:
        return False
    return right[read.index(votes.most_common(1)[0][0])]


def show(summary: dict[str, Any]) -> None:
    """Accuracy after 1, 4 and all rollouts; of reinforcement, the mean over its seeds and each seed's interval."""
    table = Table(title="Held-out questions right, by majority", title_justify="left")
    most = summary["arguments"]["rollouts"]
    shown = [1, 4, most]
    for heading in ("", *(f"{count} rollouts" for count in shown)):
        table.add_column(heading)
    for name, runs in summary["accuracy"].items():
        cells = []
        for count in shown:
            points = [next(p for p in reversed(run) if p["rollouts"] <= count) for run in runs]
            cells.append("; ".join(f"{p['estimate']:.1%} [{p['low']:.1%}, {p['high']:.1%}]" for p in points))
        table.add_row(name, *cells)
    Console().print(table)


def draw(summary: dict[str, Any], path: Path) -> None:
    """Accuracy over rollouts: means over seeds, with the Wilson intervals of a single run's questions."""
    figure, axis = plt.subplots(figsize=(6.4, 5.0), layout="constrained")
    for number, (name, runs) in enumerate(summary["accuracy"].items()):
        rollouts = [point["rollouts"] for point in runs[0]]
        ends = ("low", "estimate", "high")
        low, mean, high = (np.mean([[point[end] for point in run] for run in runs], axis=0) for end in ends)
        axis.plot(rollouts, mean, color=f"C{number}", marker="o", markersize=3, label=name)
        axis.fill_between(rollouts, low, high, color=f"C{number}", alpha=0.1, linewidth=0)
    axis.set(xlabel="rollouts (or samples) for each question", ylabel="held-out questions right")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_script(main)
