"""The methods that the papers compare, each as options of our commands.

Those of SHAD+RFT (arXiv 2412.14780, table 1) are a labelling and a weighting; those of ResT (arXiv 2509.21826) go on
by reinforcement learning, from the model as it is or as a fine-tuning left it. What else a run needs (model, data,
training) is the same for all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    Attributes:
        name: as in `METHODS`.
        title: for tables.
        label: options of `rolewise label`; None for a method that needs no labels.
        sft: options of `rolewise sft`; None for a method that only reinforces.
        sample: options of `rolewise sample`, whose answers are what is fine-tuned on; None for the data as it is.
        grpo: options of `rolewise grpo`, which goes on from the fine-tuned model; None for a method that only tunes.
    """

    name: str
    title: str
    label: Mapping[str, Any] | None
    sft: Mapping[str, Any] | None
    sample: Mapping[str, Any] | None = None
    grpo: Mapping[str, Any] | None = None


METHODS = {
    method.name: method
    for method in (
        Method("sft", "SFT", None, {"weighting": "none"}),
        Method("sft-sample-mean", "SFT, mean per sample", None, {"weighting": "sample-mean"}),
        Method("regex", "Regex", {"method": "regex"}, {"weighting": "regex", "format_weight": 0.5}),
        Method("rho", "Rho-1", {"method": "rho"}, {"weighting": "rho"}),
        # Needs `preferences` or `reward_model` among the options of `label`.
        Method("reward", "RewardFT", {"method": "reward"}, {"weighting": "reward"}),
        Method("shad-alpha", "SHAD + α-FT", {"method": "shad"}, {"weighting": "alpha", "alpha": 0.3}),
        Method("regex-rft", "Regex + RFT", {"method": "regex"}, {"weighting": "rft", "inv_tau": 0.3}),
        Method("shad-rft", "SHAD + RFT", {"method": "shad"}, {"weighting": "rft", "inv_tau": 0.3}),
        Method("dft", "DFT", None, {"weighting": "dft"}),
        Method("rsft", "RSFT", None, {"weighting": "none"}, {"samples": 4}),
    )
}
"""Fine-tuning by name; the order is that of a table's rows."""

REINFORCEMENTS = {
    method.name: method
    for method in (
        Method("grpo", "GRPO", None, None, grpo={"weighting": "none"}),
        Method("rest", "ResT", None, None, grpo={"weighting": "rest"}),
        Method("rest-official", "ResT, official", None, None, grpo={"weighting": "rest-official"}),
        Method("rest-static", "ResT, static", None, None, grpo={"weighting": "rest-static"}),
        Method("rest-entropy", "ResT, by entropy", None, None, grpo={"weighting": "rest-entropy"}),
    )
}
"""Reinforcement learning by name."""

JOINED = "+"
"""Between the names of a fine-tuning and of the reinforcement learning that goes on from it, as in `sft+rest`."""


def find_method(name: str) -> Method | None:
    """The method called `name`, a joined one too; None if there is none."""
    first, joined, second = name.partition(JOINED)
    if not joined:
        return METHODS.get(name) or REINFORCEMENTS.get(name)
    tuned, reinforced = METHODS.get(first), REINFORCEMENTS.get(second)
    if tuned is None or reinforced is None:
        return None
    return replace(tuned, name=name, title=f"{tuned.title} → {reinforced.title}", grpo=reinforced.grpo)


def fine_tuning_of(method: Method) -> Method:
    """What a joined method begins with, as a method of its own."""
    if method == find_method(method.name):
        return METHODS[method.name.partition(JOINED)[0]]
    return replace(method, name=f"{method.name}-sft", grpo=None)
