"""The options of `rolewise grpo`. Imports nothing heavy, so that `--help` answers at once."""

import importlib.util
import math
from dataclasses import dataclass

from rolewise.core.errors import InputError
from rolewise.core.options import option, required
from rolewise.jobs.options import DTYPES, FORMAT_HELP

OF_THE_TRAINER = (
    "weighting",
    "ramp",
    "ramp_length",
    "region_weights",
    "static_step",
    "roles",
    "inv_tau",
    "alpha",
    "call_format",
    "gradient_variance",
    "trust_remote_code",
)
"""Options that are fields of `WeightedGRPOConfig` too, and stand here for their help."""
_WITH_END_POINTS = ("rest", "rest-static", "rest-entropy")
READ_BY = {
    **dict.fromkeys(("ramp", "ramp_length", "region_weights"), _WITH_END_POINTS),
    "static_step": ("rest-static",),
}
"""Options that only some weightings read."""


@dataclass(kw_only=True)
class GRPOOptions:
    """Rolewise's own options of `rolewise grpo`; the rest are the fields of TRL's `GRPOConfig`."""

    model: str = required("Model to train: a directory or a hub id; best one that was fine-tuned on such calls.")
    data: str = required("Conversations with tool calls; each assistant turn that calls is a prompt with a reference.")
    output: str = required("Directory to make: the model or adapter with its report.")

    weighting: str = option(
        "rest",
        "none: plain GRPO. rest: by region, structure first, thought later. rest-official: the paper's code. "
        "rest-static: without the curriculum. rest-entropy: by measured entropy; or a plugin's.",
        group="weights",
    )
    ramp: str = option("linear", "How rest's weights move: linear, cosine or step.", group="weights")
    ramp_length: float = option(1.0, "Up to 1: so much of the run; above: so many rollouts.", group="weights")
    region_weights: str | None = option(
        None, "Start and end points that differ from rest's: think=0.2:1,tool_name=1.5.", group="weights"
    )
    static_step: int = option(0, "rest-static: the rollout whose weights hold throughout.", group="weights")
    roles: str = option(
        "regions",
        "What tokens are weighted by: regions of tool calls, or shad: reasoning and boilerplate, by losses under a "
        "model tuned on shuffled pairs (weighting rest, rft or alpha).",
        group="weights",
    )
    shad_model: str | None = option(
        None, "roles shad: that model or adapter, as `rolewise label --keep-tuned` leaves it.", group="weights"
    )
    threshold: float = option(
        0.0, "roles shad: a loss that rises by more than this (nats) means reasoning.", group="weights"
    )
    inv_tau: float = option(0.3, "rft: 1/τ of the softmax of both groups' losses.", group="weights")
    alpha: float = option(0.3, "alpha: boilerplate's share of a response's weight.", group="weights")
    gradient_variance: bool = option(
        False,
        "Log an estimate of the policy gradient's variance, of one layer.",
        group="weights",
    )

    reward: str = option("rest", "rest, toolrl, or a plugin's; several are summed: rest,mine.", group="reward")
    format_rule: str | None = option(None, "Format: rest, toolrl or parts; default: the reward's.", group="reward")
    granularity: str | None = option(
        None, "Correctness: original, finegrained, intermediate or coarse (ToolRL's ablations).", group="reward"
    )
    schedule: str | None = option(None, "Ranges over the run: constant, dynamic or two-stage.", group="reward")
    schedule_steps: int | None = option(None, "Rollouts that a schedule takes; default: as published.", group="reward")
    correctness_max: float | None = option(None, "Greatest correctness of a constant schedule (3).", group="reward")
    length_reward: str | None = option(None, "Long thoughts: none, constant or dynamic.", group="reward")

    eval_data: str | None = option(None, "Conversations whose reward is measured while training.", group="data")
    format: str | None = option(None, FORMAT_HELP, group="data")
    call_format: str = option("rlla", "How responses write calls: rlla, hermes, llama3, …", group="data")
    chat_template: str | None = option(None, "Instead of the tokenizer's: a file, or `chatml`.", group="data")
    tool_format: str | None = option(
        None,
        "How prompts write tools: hermes, rlla or react; default: rlla for rlla calls, else the template's own.",
        group="data",
    )
    answers: bool = option(False, "Also take turns that answer without a call.", group="data")
    max_prompt_length: int = option(2048, "Longer prompts are left out.", group="data")
    limit: int | None = option(None, "Read so many conversations at most.", group="data")
    skip_invalid: bool = option(
        False, "Leave out records that can't be used (listed in OUTPUT/rejected.jsonl).", group="data"
    )
    plugin: str | None = option(None, "Python files that add formats or rewards: a.py,b.py.", group="data")

    lora: bool = option(True, "Tune a LoRA adapter; --no-lora tunes all weights.", group="model")
    rank: int = option(16, "Rank of the LoRA matrices.", group="model")
    load_in_4bit: bool = option(False, "QLoRA: the base in 4 bits; needs bitsandbytes and a GPU.", group="model")
    merge: bool = option(False, "Also write the model with the adapter merged in, to OUTPUT/merged.", group="model")
    dtype: str = option("float32", "Of the weights: float32, bfloat16, float16.", group="model")
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="model")

    generations: int = option(3, "Prompts answered before and after, for the report.", group="report")

    def __post_init__(self) -> None:
        if self.load_in_4bit and not self.lora:
            raise InputError("load_in_4bit tunes an adapter on a frozen base; leave --no-lora out")
        if self.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
            raise InputError("load_in_4bit needs bitsandbytes; install it: pip install 'rolewise[qlora]'")
        if self.merge and not self.lora:
            raise InputError("merge joins an adapter with its base; with --no-lora there is nothing to merge")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        if (self.roles == "shad") != (self.shad_model is not None):
            raise InputError("roles shad and shad_model need one another: give both, or neither")
        if not math.isfinite(self.threshold):
            raise InputError(f"threshold is {self.threshold}; it is a finite number of nats")
        for name, least in (("rank", 1), ("max_prompt_length", 1), ("generations", 0), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}; it must be at least {least}")
