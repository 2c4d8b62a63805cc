"""How far SHAD's labels agree from seed to seed and from model to model, on conversations whose truth is known.

    python experiments/shad_agreement.py --models SmolLM2=DIR Adapted=DIR Gemma=DIR --templates Gemma=FILE \\
        --seeds SmolLM2=2

Labels the same conversations of the generator's evaluation split with every model and its seeds (of folds, shuffled
pairs and tuning; 0 alone unless given), then compares each two labellings on the tokens of the first model, onto which
a labelling in other tokens is carried by `rolewise transfer`. Two thresholds are tried: 0, and for each labelling the
one that calls as many tokens reasoning as truly are, so that what is left is how they rank tokens. Writes shares and
Cohen's κ with intervals from resampling whole conversations to results/shad_agreement.json. What is finished is not
done again.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from shad_settings import auroc_where_reasoning_begins

from rolewise.cli import console
from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.core.role import Role
from rolewise.core.statistics import Interval
from rolewise.core.versions import package_versions
from rolewise.data.labelled import LabelledSample, load_labelled
from rolewise.data.readers import write_conversations
from rolewise.data.render import tokenizer_fingerprint
from rolewise.evaluation.kappa import cohen_kappa
from rolewise.generator import generate
from rolewise.jobs.label import label
from rolewise.jobs.label_result import LabelResult
from rolewise.jobs.relabel import relabel
from rolewise.jobs.transfer import transfer_labels
from rolewise.labelling.classify import is_boilerplate
from rolewise.options.labelling import LabelOptions, TransferOptions
from rolewise.training.models import load_tokenizer

TRUTH, BY_ZERO, BY_SHARE = "truth", "threshold 0", "true share"


def main() -> None:
    """Label what is missing, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=DIRECTORY")
    parser.add_argument("--templates", nargs="*", default=[], metavar="NAME=FILE", help="chat templates of models")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seeds", nargs="*", default=[], metavar="NAME=NUMBER", help="of models, how many")
    parser.add_argument("--work", type=Path, default=Path("runs/shad_agreement"), help="where the labellings are left")
    parser.add_argument("--output", type=Path, default=Path("results/shad_agreement.json"))
    arguments = parser.parse_args()

    models, templates, seeds = map(by_name, (arguments.models, arguments.templates, arguments.seeds))
    for name in [*templates, *seeds]:
        if name not in models:
            raise InputError(f"{name}: no model has this name; --models gives {', '.join(models)}")
    if not all(number.isdecimal() and int(number) for number in seeds.values()):
        raise InputError(f"--seeds {' '.join(arguments.seeds)}: give NAME=NUMBER, 1 or more")
    data = arguments.work / "conversations.jsonl"
    write_conversations(generate(arguments.samples, seed=0, split="eval"), data)
    found: dict[str, LabelResult] = {}
    with console.progress() as progress:
        for name, model in models.items():
            for seed in range(int(seeds.get(name, 1))):
                options = LabelOptions(
                    model=model,
                    data=str(data),
                    output=str(arguments.work / f"{name}-{seed}"),
                    chat_template=templates.get(name),
                    method="shad",
                    method_args={"seed": seed},
                )
                found[f"{name}, seed {seed}"] = label(options, progress)
    first_model = next(iter(models.values()))
    pairs = {}
    for rule in (BY_ZERO, BY_SHARE):
        labellings = {key: on_tokens_of(first_model, result, rule) for key, result in found.items()}
        labellings[TRUTH] = labellings[next(iter(found))]
        for a, b in combinations(labellings, 2):
            pairs[f"{a} / {b}, {rule}"] = compare(labellings[a], labellings[b], against_truth=b == TRUTH)
    result = {
        "samples": arguments.samples,
        "labellings": {key: described(result) for key, result in found.items()},
        "pairs": pairs,
        "versions": package_versions(),
    }
    write_json(arguments.output, result)
    print_tables(result)


def by_name(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` of the command line.

    Raises:
        InputError: if something else stands there.
    """
    for text in given:
        if not all(text.partition("=")):
            raise InputError(f"{text}: give NAME=VALUE")
    return dict(text.split("=", 1) for text in given)


def on_tokens_of(model: str, result: LabelResult, rule: str) -> list[LabelledSample]:
    """A labelling at a threshold, on a model's tokens."""
    path = result.path
    if rule == BY_SHARE:
        path = relabel(path, path.with_name(f"{path.name}-by-share"), threshold=threshold_of_share(result)).path
    if result.info.tokenizer != tokenizer_fingerprint(load_tokenizer(model)):
        moved = str(path.with_name(f"{path.name}-moved"))
        path = transfer_labels(TransferOptions(model=model, data=str(path), output=moved)).path
    return list(load_labelled(path).samples())


def threshold_of_share(result: LabelResult) -> float:
    """The threshold above which as many tokens lie as are truly reasoning."""
    differences, reasoning = [], []
    for sample in load_labelled(result.path).samples():
        assert sample.true_roles_T is not None
        known_T = sample.mask_T & ~np.isnan(sample.base_loss_T)
        differences.append((sample.tuned_loss_T - sample.base_loss_T)[known_T])
        reasoning.append((sample.true_roles_T == Role.REASONING)[known_T])
    return float(np.quantile(np.concatenate(differences), 1 - np.concatenate(reasoning).mean()))


def compare(
    first: Sequence[LabelledSample], second: Sequence[LabelledSample], *, against_truth: bool
) -> dict[str, Any]:
    """Agreement of two labellings, or of one with the truth that the second's tokens have."""
    matrices: list[np.ndarray] = []
    differences: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for a, b in zip(first, second, strict=True):
        of_b_T = b.true_roles_T if against_truth else b.roles_T
        assert of_b_T is not None
        sides = [a.roles_T, of_b_T]
        judged_T = a.mask_T & b.mask_T
        for roles_T in sides:
            judged_T = judged_T & ((roles_T == Role.REASONING) | is_boilerplate(roles_T))
        one, other = ((roles_T == Role.REASONING)[judged_T].astype(int) for roles_T in sides)
        matrices.append(np.bincount(2 * one + other, minlength=4).reshape(2, 2))
        both_T = judged_T & ~np.isnan(a.base_loss_T) & ~np.isnan(b.base_loss_T)
        for sample, kept in zip((a, b), differences, strict=True):
            kept.append((sample.tuned_loss_T - sample.base_loss_T)[both_T])
    found: dict[str, Any] = agreement(np.array(matrices))
    if not against_truth:
        ranks = [np.concatenate(kept) for kept in differences]
        found |= {"rank_correlation": float(spearmanr(*ranks).statistic), "tokens_with_both_losses": len(ranks[0])}
    return found


def agreement(matrices_S22: np.ndarray, resamples: int = 1000) -> dict[str, Any]:
    """Share of tokens on which two labellings agree, and κ, with intervals over samples.

    Args:
        matrices_S22: tokens of each sample by (boilerplate, reasoning) in the one and in the other labelling.
        resamples: draws of whole samples.
    """
    draws_RS = np.random.default_rng(0).multinomial(
        len(matrices_S22), np.full(len(matrices_S22), 1 / len(matrices_S22)), resamples
    )
    drawn_R22 = np.einsum("rs,sij->rij", draws_RS, matrices_S22)
    whole_22 = matrices_S22.sum(axis=0)
    measures = {"share": lambda matrix: float(np.trace(matrix) / matrix.sum()), "kappa": cohen_kappa}
    found: dict[str, Any] = {"tokens": int(whole_22.sum())}
    for name, measure in measures.items():
        low, high = np.nanquantile([measure(matrix) for matrix in drawn_R22], [0.025, 0.975])
        found[name] = asdict(Interval(measure(whole_22), float(low), float(high)))
    return found


def described(result: LabelResult) -> dict[str, Any]:
    """What one labelling is worth, and what it cost."""
    samples = list(load_labelled(result.path).samples())
    by_group = {}
    for name, group in (("reasoning", Role.REASONING), ("boilerplate", Role.BOILERPLATE)):
        member = [Role(role).group is group for role in range(len(Role))]
        losses = [s.base_loss_T[s.mask_T & np.array(member)[s.true_roles_T]] for s in samples]
        by_group[name] = float(np.nanmean(np.concatenate(losses)))
    truth, formats = result.checks.truth, result.checks.format
    assert truth is not None
    assert formats is not None
    return {
        "auroc": {name: asdict(interval) for name, interval in truth.auroc.items()},
        "auroc_where_reasoning_begins": asdict(auroc_where_reasoning_begins(samples)),
        "format_error": asdict(formats.error_rate),
        "format_tokens": formats.tokens,
        "accuracy": truth.accuracy,
        "true_share": truth.reasoning_share,
        "share_above_0": result.info.counts["reasoning"] / result.info.counts["loss_tokens"],
        "threshold_of_true_share": threshold_of_share(result),
        "base_loss": by_group,
        "loss_tokens": result.info.counts["loss_tokens"],
        "pairs": result.info.settings["pairs"],
        "seconds": json.loads((result.path / "run.json").read_text(encoding="utf-8"))["seconds"]["label"],
        "notes": result.info.notes,
    }


def print_tables(result: dict[str, Any]) -> None:
    """A line per labelling, then one per pair."""
    for key, row in result["labellings"].items():
        area = Interval(**row["auroc"]["LD"])
        begins = Interval(**row["auroc_where_reasoning_begins"])
        error = Interval(**row["format_error"])
        print(f"{key:24} LD {area:.3f}  begins {begins:.3f}  format error {error:.1%}  {row['seconds']:.0f} s")
    for key, row in result["pairs"].items():
        rank = f"  rank {row['rank_correlation']:.2f}" if "rank_correlation" in row else ""
        print(f"{key:60} share {Interval(**row['share']):.1%}  κ {Interval(**row['kappa']):.2f}{rank}")


if __name__ == "__main__":
    run_script(main)
