"""Whether SHAD's LD says more of a token than how rare it is.

    python experiments/shad_rarity.py --data LABELLED [LABELLED ...]

Takes data sets that SHAD has labelled, such as those that `shad_agreement.py` leaves; no model is run. A token's rarity
is −log of its share among the loss tokens of the other conversations (half a count more for each): what counting finds,
without a model. For each set: Spearman's correlation of LD with rarity, and where the truth is known the area under the
ROC curve of LD, of rarity, and of both (the sum of their ranks), and of LD among occurrences of one and the same token,
reasoning here and boilerplate there. Intervals come from resampling whole conversations; ranks and counts are taken as
found. Writes results/shad_rarity.json.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import script
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata, spearmanr

from rolewise.core.files import write_json
from rolewise.core.role import Role
from rolewise.core.versions import package_versions
from rolewise.data.labelled import LabelledSample, load_labelled
from rolewise.evaluation.statistics import Interval, auroc
from rolewise.labelling.classify import is_boilerplate

BOTH, DIFFERENCE, WITHIN = "both", "both less rarity", "LD within a token"


@dataclass(frozen=True)
class Conversation:
    """One conversation's loss tokens whose LD is known, each array of shape (T,).

    Attributes:
        reasoning_T: by the truth; None where that is not known.
    """

    ids_T: np.ndarray
    difference_T: np.ndarray
    rarity_T: np.ndarray
    both_T: np.ndarray
    reasoning_T: np.ndarray | None


def main() -> None:
    """Measure every data set and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("results/shad_rarity.json"))
    arguments = parser.parse_args()
    found = {path.name: measure(read(path), arguments.resamples) for path in arguments.data}
    write_json(arguments.output, {"resamples": arguments.resamples, "data": found, "versions": package_versions()})
    names = list(dict.fromkeys(name for measures in found.values() for name in measures["measures"]))
    table = Table("labelling", "conversations", "tokens", *names)
    for label, result in found.items():
        shown = [Interval(**result["measures"][name]) if name in result["measures"] else None for name in names]
        cells = ["–" if interval is None else f"{interval:.3f}" for interval in shown]
        table.add_row(label, str(result["conversations"]), f"{result['tokens']:,}", *cells)
    Console(width=180).print(table)


def read(path: Path) -> list[Conversation]:
    """A labelled data set's conversations."""
    labelled = load_labelled(path)
    pairs = zip(labelled.samples(), labelled.rows["input_ids"], strict=True)
    samples, rows = zip(*((sample, np.array(ids)) for sample, ids in pairs if not sample.excluded), strict=True)
    own = [Counter(ids_T[sample.mask_T].tolist()) for ids_T, sample in zip(rows, samples, strict=True)]
    all_counts = sum(own, Counter())
    kept = [known(sample) for sample in samples]
    ids = [ids_T[kept_T] for ids_T, kept_T in zip(rows, kept, strict=True)]
    rarity = [rarities(ids_T, all_counts - counts, len(all_counts)) for ids_T, counts in zip(ids, own, strict=True)]
    difference = [
        (sample.tuned_loss_T - sample.base_loss_T)[kept_T] for sample, kept_T in zip(samples, kept, strict=True)
    ]
    ends = np.cumsum([len(ids_T) for ids_T in ids])[:-1]
    both = np.split(rankdata(np.concatenate(difference)) + rankdata(np.concatenate(rarity)), ends)
    truths = [
        None if sample.true_roles_T is None else sample.true_roles_T[kept_T] == Role.REASONING
        for sample, kept_T in zip(samples, kept, strict=True)
    ]
    return [Conversation(*columns) for columns in zip(ids, difference, rarity, both, truths, strict=True)]


def known(sample: LabelledSample) -> np.ndarray:
    """Which tokens have an LD, and a group by the truth where there is one."""
    kept_T: np.ndarray = sample.mask_T & ~np.isnan(sample.base_loss_T)
    if sample.true_roles_T is not None:
        kept_T = kept_T & ((sample.true_roles_T == Role.REASONING) | is_boilerplate(sample.true_roles_T))
    return kept_T


def rarities(ids_T: np.ndarray, elsewhere: "Counter[int]", kinds: int) -> np.ndarray:
    """−log of each token's share of the tokens counted elsewhere, in nats."""
    total = elsewhere.total() + kinds / 2
    return np.array([-np.log((elsewhere[token] + 0.5) / total) for token in ids_T.tolist()])


def measure(conversations: Sequence[Conversation], resamples: int) -> dict[str, Any]:
    """Every measure with its interval."""
    measures: dict[str, Callable[[Sequence[Conversation]], float]] = {"rank correlation of LD and rarity": correlation}
    if all(conversation.reasoning_T is not None for conversation in conversations):
        measures |= {
            "LD": lambda drawn: area(drawn, "difference_T"),
            "rarity": lambda drawn: area(drawn, "rarity_T"),
            BOTH: lambda drawn: area(drawn, "both_T"),
            DIFFERENCE: lambda drawn: area(drawn, "both_T") - area(drawn, "rarity_T"),
            WITHIN: area_within,
        }
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(conversations), len(conversations)) for _ in range(resamples)]
    found = {}
    for name, of in measures.items():
        values = [of([conversations[i] for i in draw]) for draw in draws]
        low, high = np.nanpercentile(values, [2.5, 97.5])
        found[name] = asdict(Interval(of(conversations), float(low), float(high)))
    tokens = sum(len(conversation.ids_T) for conversation in conversations)
    return {"conversations": len(conversations), "tokens": tokens, "measures": found}


def correlation(drawn: Sequence[Conversation]) -> float:
    """Spearman's rank correlation of LD and rarity."""
    difference, rarity = (
        np.concatenate([getattr(one, name) for one in drawn]) for name in ("difference_T", "rarity_T")
    )
    return float(spearmanr(difference, rarity).statistic)


def area(drawn: Sequence[Conversation], score: str) -> float:
    """Area under the ROC curve of a score, truly reasoning tokens against boilerplate."""
    return auroc(np.concatenate([getattr(one, score) for one in drawn]), truth(drawn))


def area_within(drawn: Sequence[Conversation]) -> float:
    """The chance that LD is higher at the reasoning one of two occurrences of one token; NaN without such a pair."""
    ids, difference = (np.concatenate([getattr(one, name) for one in drawn]) for name in ("ids_T", "difference_T"))
    reasoning = truth(drawn)
    pairs = won = 0.0
    for token in set(ids[reasoning].tolist()) & set(ids[~reasoning].tolist()):
        here = ids == token
        positive, negative = difference[here & reasoning], difference[here & ~reasoning]
        count = len(positive) * len(negative)
        pairs += count
        won += count * auroc(np.concatenate([positive, negative]), [True] * len(positive) + [False] * len(negative))
    return won / pairs if pairs else float("nan")


def truth(drawn: Sequence[Conversation]) -> np.ndarray:
    """Which tokens are truly reasoning, bool."""
    return np.concatenate([one.reasoning_T for one in drawn if one.reasoning_T is not None])


if __name__ == "__main__":
    script.run(main)
