"""The methods compared in the papers, each as options of our commands.

Methods of SHAD+RFT (arXiv 2412.14780, table 1) are a labelling and a weighting; those of ResT (arXiv 2509.21826) apply
reinforcement learning to the original or a fine-tuned model. Everything else that a run needs (model, data, training)
is the same for all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Method:
    """A method of fine-tuning.

    Attributes:
        name: name, as in `METHODS`.
        title: title for tables.
        label: options of `rolewise label`; None for a method that needs no labels.
        sft: options of `rolewise sft`; None for a method that only reinforces.
        sample: options of `rolewise sample`, whose answers become the training data; None for the original data.
        grpo: options of `rolewise grpo`, which continues from the fine-tuned model; None for a method that only tunes.
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
        Method("regex", "Regex", {"method": "regex"}, {"weighting": "regex"}),
        Method("rho", "Rho-1", {"method": "rho"}, {"weighting": "rho"}),
        # Needs `preferences` or `reward_model` among the options of `label`.
        Method("reward", "RewardFT", {"method": "reward"}, {"weighting": "reward"}),
        Method("shad-alpha", "SHAD + α-FT", {"method": "shad"}, {"weighting": "alpha"}),
        Method("regex-rft", "Regex + RFT", {"method": "regex"}, {"weighting": "rft"}),
        Method("shad-rft", "SHAD + RFT", {"method": "shad"}, {"weighting": "rft"}),
        Method("contrast-rft", "Contrast + RFT", {"method": "contrast"}, {"weighting": "rft"}),
        Method("dft", "DFT", None, {"weighting": "dft"}),
        Method("rsft", "RSFT", None, {"weighting": "none"}, {"samples": 4}),
    )
}
"""Fine-tuning methods by name, in the order of table rows."""

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
"""Reinforcement-learning methods by name."""

JOINED = "+"
"""Separator between a fine-tuning method and the reinforcement learning that follows it, as in `sft+rest`."""


def find_method(name: str) -> Method | None:
    """Return the method called `name`, joined methods included; None if there is none."""
    first, joined, second = name.partition(JOINED)
    if not joined:
        return METHODS.get(name) or REINFORCEMENTS.get(name)
    tuned, reinforced = METHODS.get(first), REINFORCEMENTS.get(second)
    if tuned is None or reinforced is None:
        return None
    return replace(tuned, name=name, title=f"{tuned.title} → {reinforced.title}", grpo=reinforced.grpo)


def fine_tuning_of(method: Method) -> Method:
    """Return the first part of a joined method as a separate method."""
    if method == find_method(method.name):
        return METHODS[method.name.partition(JOINED)[0]]
    return replace(method, name=f"{method.name}-sft", grpo=None)
