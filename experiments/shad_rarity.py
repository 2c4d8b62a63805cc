"""Whether SHAD's LD says more of a token than how rare it is.

    python experiments/shad_rarity.py --data LABELLED [LABELLED ...]

Takes data sets that SHAD has labelled, such as those that `shad_agreement.py` leaves; no model is run. A token's rarity
is −log of its share among the loss tokens of the other conversations (half a count more for each): what counting finds,
without a model. For each set: Spearman's correlation of LD with rarity, and where the truth is known the area under the
ROC curve of LD, of rarity, and of both (Fisher's discriminant of their ranks, for each conversation from the others),
and that of LD among occurrences of one and the same token, reasoning here and boilerplate there, each pair or each
token counting once. Intervals come from resampling whole conversations; ranks, counts and discriminants are taken as
found. Writes results/shad_rarity.json.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata, spearmanr

from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.core.role import Role
from rolewise.core.statistics import Interval, auroc
from rolewise.core.versions import package_versions
from rolewise.data.labelled import LabelledSample, load_labelled
from rolewise.labelling.classify import is_boilerplate

BOTH, GAIN = "both", "both less rarity"
BY_PAIR, BY_TOKEN = "LD within a token, by pair", "LD within a token, by token"


@dataclass(frozen=True)
class Conversation:
    """One conversation's loss tokens whose LD is known, each array of shape (T,).

    Attributes:
        difference_T, rarity_T: LD and rarity, nats.
        reasoning_T: by the truth; None where that is not known.
        both_T: the discriminant's value; None where the truth is not known.
    """

    ids_T: np.ndarray
    difference_T: np.ndarray
    rarity_T: np.ndarray
    reasoning_T: np.ndarray | None
    both_T: np.ndarray | None = None


def main() -> None:
    """Measure every data set and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("results/shad_rarity.json"))
    arguments = parser.parse_args()
    names = [path.name for path in arguments.data]
    if len(set(names)) < len(names):
        raise InputError("two data sets have one name, by which results are told apart; rename a folder")
    if arguments.resamples < 1:
        raise InputError(f"--resamples is {arguments.resamples}; it must be at least 1")
    found = {path.name: measure(judged(read(path)), arguments.resamples) for path in arguments.data}
    write_json(arguments.output, {"resamples": arguments.resamples, "data": found, "versions": package_versions()})
    columns = list(dict.fromkeys(name for measures in found.values() for name in measures["measures"]))
    table = Table("labelling", "conversations", "tokens", *columns)
    for label, result in found.items():
        shown = [Interval(**result["measures"][name]) if name in result["measures"] else None for name in columns]
        cells = ["–" if interval is None else f"{interval:.3f}" for interval in shown]
        table.add_row(label, str(result["conversations"]), f"{result['tokens']:,}", *cells)
    Console(width=180).print(table)


def read(path: Path) -> list[Conversation]:
    """A labelled data set's conversations.

    Raises:
        InputError: for a set without SHAD's losses.
    """
    labelled = load_labelled(path)
    pairs = zip(labelled.samples(), labelled.rows["input_ids"], strict=True)
    used = [(sample, np.array(ids)) for sample, ids in pairs if not sample.excluded and known(sample).any()]
    if not used:
        raise InputError(f"{path}: no token here has an LD; give a data set that SHAD has labelled")
    own = [Counter(ids_T[sample.mask_T].tolist()) for sample, ids_T in used]
    everywhere = sum(own, Counter())
    found = []
    for (sample, ids_T), counts in zip(used, own, strict=True):
        kept_T = known(sample)
        difference_T = (sample.tuned_loss_T - sample.base_loss_T)[kept_T]
        rarity_T = rarities(ids_T[kept_T], everywhere - counts, len(everywhere))
        reasoning_T = None if sample.true_roles_T is None else sample.true_roles_T[kept_T] == Role.REASONING
        found.append(Conversation(ids_T[kept_T], difference_T, rarity_T, reasoning_T))
    return found


def judged(conversations: Sequence[Conversation]) -> list[Conversation]:
    """The same with `both_T`: the ranks of LD and rarity weighted as tells the others' groups apart best."""
    if any(conversation.reasoning_T is None for conversation in conversations):
        return list(conversations)
    ends = np.cumsum([len(conversation.ids_T) for conversation in conversations])[:-1]
    ranks = np.stack([rankdata(joined(conversations, name)) for name in ("difference_T", "rarity_T")], axis=1)
    pieces, truths = np.split(ranks, ends), np.split(truth(conversations), ends)
    found = []
    for place, conversation in enumerate(conversations):
        others_N2 = np.concatenate([*pieces[:place], *pieces[place + 1 :]])
        reasoning_N = np.concatenate([*truths[:place], *truths[place + 1 :]])
        weight_2 = discriminant(others_N2, reasoning_N)
        # Rarity's weight is one for all, so that values of different conversations compare.
        found.append(replace(conversation, both_T=pieces[place] @ (weight_2 / weight_2[1])))
    return found


def discriminant(values_N2: np.ndarray, positive_N: np.ndarray) -> np.ndarray:
    """Fisher's linear discriminant: the weights of two values that tell two groups apart best; shape (2,)."""
    groups = values_N2[positive_N], values_N2[~positive_N]
    within = sum(np.cov(group.T, ddof=0) * len(group) for group in groups)
    weights: np.ndarray = np.linalg.solve(within, groups[0].mean(axis=0) - groups[1].mean(axis=0))
    return weights


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
    found: dict[str, Any] = {
        "conversations": len(conversations),
        "tokens": sum(len(conversation.ids_T) for conversation in conversations),
    }
    if all(conversation.reasoning_T is not None for conversation in conversations):
        measures |= {
            "LD": lambda drawn: area(drawn, "difference_T"),
            "rarity": lambda drawn: area(drawn, "rarity_T"),
            BOTH: lambda drawn: area(drawn, "both_T"),
            GAIN: lambda drawn: area(drawn, "both_T") - area(drawn, "rarity_T"),
            BY_PAIR: lambda drawn: area_within(drawn, by_pair=True),
            BY_TOKEN: lambda drawn: area_within(drawn, by_pair=False),
        }
        pairs = [count for _, count in areas_within(conversations)]
        found |= {"tokens in both roles": len(pairs), "pairs of them": sum(pairs)}
        found["pairs of the two most frequent"] = sum(sorted(pairs)[-2:])
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(conversations), len(conversations)) for _ in range(resamples)]
    found["measures"] = {}
    for name, of in measures.items():
        values = [of([conversations[i] for i in draw]) for draw in draws]
        low, high = np.nanpercentile(values, [2.5, 97.5])
        found["measures"][name] = asdict(Interval(of(conversations), float(low), float(high)))
    return found


def correlation(drawn: Sequence[Conversation]) -> float:
    """Spearman's rank correlation of LD and rarity."""
    return float(spearmanr(joined(drawn, "difference_T"), joined(drawn, "rarity_T")).statistic)


def area(drawn: Sequence[Conversation], score: str) -> float:
    """Area under the ROC curve of a score, truly reasoning tokens against boilerplate."""
    return auroc(joined(drawn, score), truth(drawn))


def areas_within(drawn: Sequence[Conversation]) -> list[tuple[float, int]]:
    """For each token that stands in both roles: the chance that LD is higher at its reasoning occurrence, and pairs."""
    ids, difference, reasoning = joined(drawn, "ids_T"), joined(drawn, "difference_T"), truth(drawn)
    found = []
    for token in sorted(set(ids[reasoning].tolist()) & set(ids[~reasoning].tolist())):
        here = ids == token
        count = int(reasoning[here].sum()) * int((~reasoning[here]).sum())
        found.append((auroc(difference[here], reasoning[here]), count))
    return found


def area_within(drawn: Sequence[Conversation], *, by_pair: bool) -> float:
    """The mean of `areas_within`, each pair or each token counting once; NaN where no token stands in both roles."""
    found = areas_within(drawn)
    weights = [count if by_pair else 1 for _, count in found]
    return float(np.average([value for value, _ in found], weights=weights)) if found else float("nan")


def joined(drawn: Sequence[Conversation], name: str) -> np.ndarray:
    """An array of all conversations, one after another."""
    return np.concatenate([getattr(one, name) for one in drawn])


def truth(drawn: Sequence[Conversation]) -> np.ndarray:
    """Which tokens are truly reasoning, bool."""
    return np.concatenate([one.reasoning_T for one in drawn if one.reasoning_T is not None])


if __name__ == "__main__":
    run_script(main)
