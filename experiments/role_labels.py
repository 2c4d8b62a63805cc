"""How well labellers tell reasoning from boilerplate where the truth is known, at the threshold that they would use.

    python experiments/role_labels.py measure --model MODEL --name smollm2 --split eval --seeds 200
    python experiments/role_labels.py measure --model MODEL --name smollm2 --split hard --seeds 200 --shad
    python experiments/role_labels.py measure --model MODEL --name smollm2 --split annotated --seeds 0
    python experiments/role_labels.py compare --model MODEL --name smollm2 --split eval --seeds 200 201 202 203 204

`measure` runs models: for each seed it writes the losses of the split's conversations to --work, contrast's with two
draws of histories and, with --shad, those of SHAD (its defaults). A file that exists is kept, so a stopped run resumes.
`compare` runs none: it computes every method and variant from those files, prints the table and writes
results/role_labels.json. Classes: truly reasoning tokens against boilerplate. AUROC, and at the threshold that a method
has without the truth: balanced accuracy, recall and precision of reasoning, share of sure format tokens and of all
truly format tokens (layout) labelled reasoning, and Cohen's kappa between the two draws. Intervals from resampling
whole conversations of all seeds.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from annotated import annotated_conversations
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from rolewise.cli import console
from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.core.files import write_arrays, write_json
from rolewise.core.role import Role
from rolewise.core.statistics import Interval, auroc
from rolewise.core.versions import package_versions
from rolewise.data.render import RenderedSample, Renderer
from rolewise.evaluation.kappa import cohen_kappa
from rolewise.generator import generate
from rolewise.labelling.classify import is_boilerplate
from rolewise.labelling.contrast import Contrast, ContrastLosses, loss_without_input, rarity
from rolewise.labelling.history_grid import HistoryScorer, score_grid
from rolewise.labelling.settings.contrast import HIGHEST, LOWEST, ContrastConfig
from rolewise.labelling.settings.shad import SHADConfig
from rolewise.labelling.shad import SHAD
from rolewise.labelling.words import is_punctuation, is_repeated, largest_of_word, words_of
from rolewise.roles.regex import label_format, sure_format_mask
from rolewise.training.models import load_model, load_tokenizer
from rolewise.training.token_losses import selected_losses

DRAWS = 2
RESAMPLES = 1000


@dataclass(frozen=True)
class Tokens:
    """The judged tokens of one conversation; arrays of shape (T,) over all its tokens.

    Attributes:
        known_T: tokens with a known role and all losses.
        reasoning_T, layout_T: reasoning and format by the truth.
        format_T, sure_T: format by the regex, and by its sure rules.
        scores: per method, what its threshold decides on.
    """

    known_T: np.ndarray
    reasoning_T: np.ndarray
    layout_T: np.ndarray
    format_T: np.ndarray
    sure_T: np.ndarray
    scores: dict[str, np.ndarray]


@dataclass(frozen=True)
class Method:
    """A method to compare: its name, its score, and the threshold or share that it labels reasoning by.

    Attributes:
        score: key of `Tokens.scores`; with " 2" behind it, the second draw's.
        threshold: labels tokens above it; None: the share of tokens that `like` labels.
        like: method whose share of reasoning a method without a threshold takes over.
    """

    name: str
    score: str
    threshold: float | None
    like: str = "contrast"


def measure(arguments: argparse.Namespace) -> None:
    """Write the losses of every seed."""
    tokenizer = load_tokenizer(arguments.model)
    renderer = Renderer(tokenizer)
    model = None
    for seed in arguments.seeds:
        samples = rendered(arguments, renderer, seed)
        work = arguments.work / f"{arguments.split}-{seed}" / arguments.name
        with console.progress() as progress:
            for draw in range(DRAWS):
                config = ContrastConfig(histories=arguments.histories, seed=draw)
                contrast = Contrast(arguments.model, config)
                plan = contrast.plan(samples)
                output = work / f"contrast-{draw}.npz"
                if output.exists():
                    continue
                model = model or load_model(arguments.model, device=plan.device)
                scorer = HistoryScorer(model, batch_tokens=plan.batch_tokens, limit=None)
                task = progress.add_task(f"seed {seed}, draw {draw}", total=plan.tokens_to_score)
                for tokens in score_grid(plan.shards, samples, scorer, work / f"shards-{draw}"):
                    progress.advance(task, tokens)
                losses = ContrastLosses(plan.shards, samples, work / f"shards-{draw}", arguments.histories)
                arrays = {f"own{i}": own_T for i, (own_T, _) in enumerate(losses)}
                arrays |= {f"other{i}": other_KT for i, (_, other_KT) in enumerate(losses)}
                write_arrays(output, **arrays)
            output = work / "entropy.npz"
            if not output.exists():
                model = model or load_model(arguments.model)
                write_arrays(output, **{f"{i}": entropies(model, sample) for i, sample in enumerate(samples)})
            output = work / "shad.npz"
            if arguments.shad and not output.exists():
                labels, _ = SHAD(arguments.model, SHADConfig()).label(samples, work / "shad", progress)
                write_arrays(output, **{f"{i}": label.tuned_loss_T for i, label in enumerate(labels)})


def rendered(arguments: argparse.Namespace, renderer: Renderer, seed: int) -> list[RenderedSample]:
    """The split's conversations as samples; `annotated`: real answers, whose roles outside the annotation are PLAIN."""
    if arguments.split == "annotated":
        conversations = annotated_conversations(arguments.data)
        return [sample for conversation in conversations for sample in renderer.render(conversation)]
    conversations = generate(arguments.conversations, seed=seed, split=arguments.split, **formats_of(arguments))
    return [sample for conversation in conversations for sample in renderer.render(conversation)]


def formats_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The formats asked for, as an argument of `generate`."""
    return {"formats": arguments.formats} if arguments.formats else {}


def entropies(model: torch.nn.Module, sample: RenderedSample) -> np.ndarray:
    """Entropy of the prediction of every loss token, nats; float32, shape (T,)."""
    ids_1T = torch.from_numpy(sample.input_ids.astype(np.int64))[None].to(next(model.parameters()).device)
    labels_1T = ids_1T.masked_fill(~torch.from_numpy(sample.loss_mask).to(ids_1T.device), -100)
    with torch.inference_mode():
        head = model.get_output_embeddings()
        losses = selected_losses(model, head, {"input_ids": ids_1T}, labels_1T)
    return np.asarray(losses.entropy_BT[0].cpu())


def tokens_of(samples: Sequence[RenderedSample], work: Path, rng: np.random.Generator) -> list[Tokens]:
    """Every method's scores of the conversations of one seed."""
    counts = [Counter(sample.input_ids[sample.loss_mask].tolist()) for sample in samples]
    everywhere = sum(counts, Counter())
    draws = [np.load(work / f"contrast-{draw}.npz") for draw in range(DRAWS)]
    entropy = np.load(work / "entropy.npz")
    shad = np.load(work / "shad.npz") if (work / "shad.npz").exists() else None
    found = []
    for i, (sample, own) in enumerate(zip(samples, counts, strict=True)):
        spans = [(int(sample.char_start[t.start]), int(sample.char_end[t.end - 1])) for t in sample.turns]
        place = (sample.text, sample.char_start, sample.char_end, spans)
        format_T = label_format(*place) == Role.FORMAT
        words = words_of(*place[:3], sample.turns)
        repeated_T = is_repeated(words, len(format_T))
        marks_T = is_punctuation(*place[:3], words)
        rarity_T = rarity(sample.input_ids, everywhere, own)
        base_T = draws[0][f"own{i}"]

        decided = partial(floored, format_T, repeated_T)
        scores = {
            "random": rng.random(len(format_T)),
            "base loss": base_T,
            "entropy": entropy[f"{i}"],
            "rarity": rarity_T,
            "regex": (~format_T).astype(float),
            "regex + rarity": decided(rarity_T, copies=False),
            "regex + copies": decided(np.ones(len(format_T)), lowest=0),
            "regex + copies + rarity": decided(rarity_T),
            "regex + copies + base loss": decided(largest_of_word(base_T, words)),
        }
        for draw, name in enumerate(("", " 2")):
            for estimator in ("mean", "mixture", "posterior", "best"):
                for histories in (1, 2, 4):
                    other_KT = draws[draw][f"other{i}"][:histories]
                    without_T = np.full(len(format_T), np.nan)
                    for turn in sample.turns:
                        part = slice(turn.start, turn.end)
                        without_T[part] = loss_without_input(other_KT[:, part], estimator)
                    token_T = np.clip(without_T - base_T, LOWEST, HIGHEST)
                    word_T = largest_of_word(token_T, words)
                    label = f"contrast {estimator} K={histories}"
                    scores[f"{label}, tokens, nothing else{name}"] = token_T
                    scores[f"{label}, words, nothing else{name}"] = word_T
                    scores[f"{label}, words, rules{name}"] = decided(word_T, copies=False)
                    scores[f"{label}, words, rules, copies, no punctuation{name}"] = decided(word_T)
                    scores[f"{label}, words, rules, copies{name}"] = np.where(marks_T, LOWEST, decided(word_T))
                    for weight in (0.25, 0.5):
                        summed_T = word_T + weight * rarity_T
                        scores[f"{label}, words, {weight} rarity{name}"] = summed_T
                        scores[f"{label}, words, rules, copies, {weight} rarity{name}"] = decided(summed_T)
        if shad is not None:
            difference_T = shad[f"{i}"] - base_T
            scores["SHAD"] = difference_T
            pooled_T = largest_of_word(difference_T, words)
            scores["SHAD, words"] = pooled_T
            scores["SHAD, words, rules, copies"] = decided(pooled_T)
        truth_T = sample.true_roles
        if truth_T is None:
            raise InputError(f"{sample.source}: its true roles are not known")
        reasoning_T = truth_T == Role.REASONING
        known_T = sample.loss_mask & (reasoning_T | is_boilerplate(truth_T)) & ~np.isnan(base_T)
        layout_T = truth_T == Role.FORMAT
        found.append(Tokens(known_T, reasoning_T, layout_T, format_T, sure_format_mask(*place), scores))
    return found


def floored(
    format_T: np.ndarray,
    repeated_T: np.ndarray,
    score_T: np.ndarray,
    *,
    rules: bool = True,
    copies: bool = True,
    lowest: float = LOWEST,
) -> np.ndarray:
    """The scores with the lowest where rules or an earlier occurrence of the word decide."""
    return np.where((format_T & rules) | (repeated_T & copies), lowest, score_T)


def methods(found: Sequence[Tokens], arguments: argparse.Namespace) -> list[Method]:
    """The methods to compare: the default of contrast first, whose share those without a threshold take over."""
    threshold = arguments.threshold
    default = f"contrast {arguments.estimator} K=4, words, rules, copies"
    chosen = [
        Method("contrast", default, threshold),
        *(
            Method(f"contrast, {estimator}", f"contrast {estimator} K=4, words, rules, copies", threshold)
            for estimator in ("mean", "mixture", "posterior", "best")
            if estimator != arguments.estimator
        ),
        *(
            Method(f"contrast, K={k}", f"contrast {arguments.estimator} K={k}, words, rules, copies", threshold)
            for k in (1, 2)
        ),
        Method(
            "contrast without punctuation",
            f"contrast {arguments.estimator} K=4, words, rules, copies, no punctuation",
            threshold,
        ),
        Method("contrast without copies", f"contrast {arguments.estimator} K=4, words, rules", threshold),
        Method("contrast, words alone", f"contrast {arguments.estimator} K=4, words, nothing else", threshold),
        Method("contrast, tokens alone", f"contrast {arguments.estimator} K=4, tokens, nothing else", threshold),
        Method("contrast + 0.5 rarity, words alone", f"contrast {arguments.estimator} K=4, words, 0.5 rarity", None),
        *(Method(f"contrast + {w} rarity", f"{default}, {w} rarity", None) for w in (0.25, 0.5)),
        Method("SHAD", "SHAD", 0.0),
        Method("SHAD, words", "SHAD, words", 0.0),
        Method("SHAD, words, rules, copies", "SHAD, words, rules, copies", 0.0),
        Method("regex", "regex", 0.5),
        Method("regex + copies", "regex + copies", 0.5),
        Method("rarity", "rarity", None),
        Method("regex + rarity", "regex + rarity", None),
        Method("regex + copies + rarity", "regex + copies + rarity", None),
        Method("regex + copies + base loss", "regex + copies + base loss", None),
        Method("base loss", "base loss", None),
        Method("entropy", "entropy", None),
        Method("random", "random", None),
    ]
    return [method for method in chosen if method.score in found[0].scores]


def compare(arguments: argparse.Namespace) -> None:
    """Print and write the table of every method."""
    renderer = Renderer(load_tokenizer(arguments.model))
    rng = np.random.default_rng(0)
    found: list[Tokens] = []
    for seed in arguments.seeds:
        samples = rendered(arguments, renderer, seed)
        found += tokens_of(samples, arguments.work / f"{arguments.split}-{seed}" / arguments.name, rng)
    draws = [rng.integers(0, len(found), len(found)) for _ in range(RESAMPLES)]
    table = Table(
        "method", "AUROC", "balanced accuracy", "recall", "precision", "format error", "layout", "kappa", "share"
    )
    results: dict[str, Any] = {}
    labels: dict[str, list[np.ndarray]] = {}
    compared = {method.name: method for method in methods(found, arguments)}
    for method in compared.values():
        labels[method.name] = labelled(found, method, labels)
        second = Method("", f"{method.score} 2", method.threshold)
        again = (
            labelled(found, second, labels)
            if second.score in found[0].scores and method.threshold is not None
            else None
        )
        results[method.name] = measured(found, method, labels[method.name], again, draws)
        shown = results[method.name]
        table.add_row(method.name, *(_text(shown[name]) for name in list(shown)))
    for other in ("regex + rarity", "regex + copies + rarity", "regex", "SHAD"):
        if other in labels:
            gain = gained(found, (compared["contrast"], compared[other]), labels, draws)
            results[f"contrast less {other}"] = {name: asdict(interval) for name, interval in gain.items()}
            Console().print(f"contrast less {other}: " + ", ".join(f"{n} {v:+.3f}" for n, v in gain.items()))
    Console(width=200).print(table)
    kept = sum(int(one.known_T.sum()) for one in found)
    Console().print(f"{len(found)} conversations, {kept:,} tokens")
    write_json(
        arguments.output,
        {
            "model": arguments.name,
            "split": arguments.split,
            "formats": arguments.formats,
            "seeds": arguments.seeds,
            "threshold": arguments.threshold,
            "tokens": kept,
            "methods": results,
            "versions": package_versions(),
        },
    )


def labelled(found: Sequence[Tokens], method: Method, labels: dict[str, list[np.ndarray]]) -> list[np.ndarray]:
    """Whether each judged token is labelled reasoning, per conversation."""
    scores = [one.scores[method.score][one.known_T] for one in found]
    threshold = method.threshold
    if threshold is None:
        share = np.concatenate(labels[method.like]).mean()
        # Ties are broken at random, so that the share is met.
        every = np.concatenate(scores)
        ranks = rankdata(every + 1e-9 * np.random.default_rng(0).random(every.size))
        above = ranks > every.size * (1 - share)
        return np.split(above, np.cumsum([len(score) for score in scores])[:-1])
    return [score > threshold for score in scores]


def measured(
    found: Sequence[Tokens],
    method: Method,
    chosen: Sequence[np.ndarray],
    again: Sequence[np.ndarray] | None,
    draws: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Every measure of a method, with its interval where it comes from conversations."""
    truth = [one.reasoning_T[one.known_T] for one in found]
    sure = [one.sure_T[one.known_T] for one in found]
    scores = [one.scores[method.score][one.known_T] for one in found]

    def area(drawn: Sequence[int]) -> float:
        return auroc(_of(scores, drawn), _of(truth, drawn))

    def accuracy(drawn: Sequence[int]) -> float:
        return balanced(_of(chosen, drawn), _of(truth, drawn))

    def recall(drawn: Sequence[int]) -> float:
        return float(_of(chosen, drawn)[_of(truth, drawn)].mean())

    def precision(drawn: Sequence[int]) -> float:
        return float(_of(truth, drawn)[_of(chosen, drawn)].mean()) if _of(chosen, drawn).any() else float("nan")

    everything = range(len(found))
    results: dict[str, Any] = {}
    for name, of in (("AUROC", area), ("balanced accuracy", accuracy), ("recall", recall), ("precision", precision)):
        results[name] = asdict(bootstrap(of, everything, draws))
    checked = _of(chosen, everything)[_of(sure, everything)]
    results["format error"] = float(checked.mean()) if checked.size else float("nan")
    layout = _of(chosen, everything)[_of([one.layout_T[one.known_T] for one in found], everything)]
    results["layout error"] = float(layout.mean()) if layout.size else float("nan")
    results["kappa"] = float("nan")
    if again is not None:
        pairs = _of(chosen, everything), _of(again, everything)
        matrix = np.array([[((pairs[0] == a) & (pairs[1] == b)).sum() for b in (0, 1)] for a in (0, 1)])
        results["kappa"] = cohen_kappa(matrix)
    results["share"] = float(_of(chosen, everything).mean())
    return results


def gained(
    found: Sequence[Tokens],
    pair_of: tuple[Method, Method],
    labels: dict[str, list[np.ndarray]],
    draws: Sequence[np.ndarray],
) -> dict[str, Interval]:
    """How much more one method has than another, with the same conversations drawn for both."""
    truth = [each.reasoning_T[each.known_T] for each in found]
    pair = [[each.scores[method.score][each.known_T] for each in found] for method in pair_of]

    def area(drawn: Sequence[int]) -> float:
        a, b = (auroc(_of(scores, drawn), _of(truth, drawn)) for scores in pair)
        return a - b

    def accuracy(drawn: Sequence[int]) -> float:
        a, b = (balanced(_of(labels[method.name], drawn), _of(truth, drawn)) for method in pair_of)
        return a - b

    return {
        "AUROC": bootstrap(area, range(len(found)), draws),
        "balanced accuracy": bootstrap(accuracy, range(len(found)), draws),
    }


def balanced(chosen: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the shares of each group that are labelled right."""
    return float((chosen[truth].mean() + (~chosen[~truth]).mean()) / 2)


def bootstrap(of: Callable[[Sequence[int]], float], whole: Sequence[int], draws: Sequence[np.ndarray]) -> Interval:
    """The measure of all conversations, and its 95 % interval from those drawn."""
    values = [of(draw.tolist()) for draw in draws]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(of(whole), float(low), float(high))


def _of(parts: Sequence[np.ndarray], drawn: Sequence[int]) -> np.ndarray:
    return np.concatenate([parts[i] for i in drawn])


def _text(value: Any) -> str:
    return f"{Interval(**value):.3f}" if isinstance(value, dict) else ("–" if np.isnan(value) else f"{value:.3f}")


def main() -> None:
    """Measure or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("measure", "compare"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True, help="the model's name in --work")
    parser.add_argument("--split", default="eval")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of --split annotated")
    parser.add_argument("--formats", nargs="*", help="output formats; default: the split's")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--conversations", type=int, default=48)
    parser.add_argument("--histories", type=int, default=4)
    parser.add_argument("--shad", action="store_true", help="also label with SHAD")
    parser.add_argument("--estimator", default=ContrastConfig.estimator)
    parser.add_argument("--threshold", type=float, default=ContrastConfig.threshold)
    parser.add_argument("--work", type=Path, default=Path("runs/role_labels"))
    parser.add_argument("--output", type=Path, default=Path("results/role_labels.json"))
    arguments = parser.parse_args()
    {"measure": measure, "compare": compare}[arguments.step](arguments)


if __name__ == "__main__":
    run_script(main)
