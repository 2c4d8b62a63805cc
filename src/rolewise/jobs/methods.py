"""The methods that the SHAD paper compares (arXiv 2412.14780, table 1), each as options of our commands.

A method is a labelling and a weighting. What else a run needs (model, data, training) is the same for all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    Attributes:
        name: as in `METHODS`.
        title: for tables.
        label: options of `rolewise label`; None for a method that needs no labels.
        sft: options of `rolewise sft`.
        sample: options of `rolewise sample`, whose answers are what is trained on; None for the data as it is.
    """

    name: str
    title: str
    label: Mapping[str, Any] | None
    sft: Mapping[str, Any]
    sample: Mapping[str, Any] | None = None


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
"""By name; the order is that of a table's rows."""
