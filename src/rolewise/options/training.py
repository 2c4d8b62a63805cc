"""Options of the training commands: sft, grpo, reinforce and warmup. The trainers' configs hold their own options."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rolewise.core.errors import InputError
from rolewise.core.options import Options, adapt, option, values_of
from rolewise.core.sampling_settings import Temperature
from rolewise.options import groups
from rolewise.search.settings import PathChoice, TreeSettings

WITHOUT_EFFECT = (
    *("output_dir", "resume_from_checkpoint", "model_init_kwargs", "chat_template_path", "truncation_mode"),
    *("push_to_hub", "hub_model_id", "hub_strategy", "trust_remote_code"),
)
"""Fields of the trainer that would be accepted and then ignored: the run sets them, or never reaches their use."""
_OUTPUT = "Directory to create, with the model or adapter and its report."


@dataclass(kw_only=True)
@adapt("model", help="Model to tune: directory or hub id.")
@adapt(
    "data",
    help="Labelled data set (from `rolewise label`), or conversations if the weighting reads no roles; same sources as "
    "`rolewise label`.",
)
@adapt("output", help=_OUTPUT)
@adapt("eval_data", help="Labelled data set for evaluation during training.")
@adapt(
    "behaviours",
    help="Add these functional tokens first: rftt or a YAML file. With LoRA, only their embedding rows are tuned.",
)
class SFTOptions(
    groups.Training,
    groups.ToolFormat,
    groups.SkipCut,
    groups.Qlora,
    groups.Behaviours,
    groups.AnswerLength,
    title="data",
):
    """Options of `rolewise sft` beside the trainer's (`WeightedSFTConfig`)."""

    eval_share: float = option(0.0, "Alternative to eval_data: hold out this share of the data.")

    def validate(self) -> None:
        if not 0 <= self.eval_share < 1:
            raise InputError(f"eval_share is {self.eval_share}; it must be at least 0 and below 1")
        if self.eval_data and self.eval_share:
            raise InputError("give eval_data or eval_share, not both")


@dataclass(kw_only=True)
class Answers(Options, title="data"):
    """Turns that answer without a call."""

    answers: bool = option(False, "Also train on turns that answer without a call.")


@dataclass(kw_only=True)
class SampledRoles(Options, title="weights"):
    """Roles of sampled tokens by SHAD or contrast."""

    shad_model: str | None = option(
        None, "roles shad: the tuned model or adapter that `rolewise label --keep-tuned` wrote."
    )
    threshold: float | None = option(
        None, "roles shad or contrast: a token with a higher score (nats) is reasoning. Default: 0, contrast 0.5."
    )

    def validate(self) -> None:
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise InputError(f"threshold is {self.threshold}; it must be a finite number of nats")


@dataclass(kw_only=True)
@adapt("model", help="Model to train: directory or hub id; preferably one fine-tuned on such calls.")
@adapt("data", help="Conversations with tool calls; each assistant turn with a call gives a prompt and its reference.")
@adapt("output", help=_OUTPUT)
@adapt("eval_data", help="Conversations for measuring the reward during training.")
@adapt(
    "tool_format",
    help="Tool format of prompts: hermes, rlla or react. Default: rlla for rlla calls, else the template's own.",
)
class GRPOOptions(
    groups.Training,
    groups.Limit,
    groups.ToolFormat,
    groups.PromptLength,
    Answers,
    groups.Qlora,
    SampledRoles,
    title="reward",
):
    """Options of `rolewise grpo` beside the trainer's (`WeightedGRPOConfig`)."""

    reward: str = option(
        "rest",
        "Reward: rest, toolrl, one of ToolRL's ablations or a plugin's; several are summed: rest,mine.",
        several=True,
    )
    schedule_steps: int | None = option(None, "Length of the reward's schedule in rollouts. Default: as published.")


@dataclass(kw_only=True)
@adapt("model", help="Model to train: directory or hub id; preferably from `rolewise warmup`.")
@adapt("data", help="Questions: JSON Lines with question and answer, GSM8K, MATH, or conversations.")
@adapt("output", help=_OUTPUT)
@adapt("eval_data", help="Questions for measuring the reward during training.")
@adapt("max_depth", default=18)
@adapt("wrong_with_answer", default=0.1)
@adapt("max_prompt_length", default=1024)
@adapt("lora", default=False, help="Tune a LoRA adapter instead of all weights.")
@adapt(
    "server", help="tree, samples: roll out on this server, whose weights stay fixed, instead of the model in training."
)
class ReinforceOptions(
    groups.Training,
    TreeSettings,
    groups.Behaviours,
    groups.Values,
    groups.Limit,
    groups.PromptLength,
    groups.Lora,
    groups.Batches,
    groups.Server,
    title="rollouts",
):
    """Options of `rolewise reinforce` beside the trainer's (`ReinforceConfig`)."""

    rollouts_from: Literal["tree", "samples", "grpo"] = option(
        "tree", "Roll out by tree search or by sampling, both for REINFORCE++; or use TRL's GRPO."
    )
    paths: PathChoice = option(
        "random",
        "Choice of num_generations paths per tree to train on: random, or contrast (best, worst, second best, …).",
    )

    def validate(self) -> None:
        if self.rollouts_from == "grpo" and (self.server is not None or self.batch_size is not None):
            raise InputError("server and batch_size apply to rollouts from tree or samples; for grpo see use_vllm")


@dataclass(kw_only=True)
@adapt("model", help="Model to teach functional tokens, the one used in the search: directory or hub id.")
@adapt("data", default=None, help="Alternative to trees: existing conversations with functional tokens.")
@adapt("output", help="Directory to create: model or adapter. The data is written next to it, to OUTPUT-data.")
@adapt("temperature", default=0.7, help="Sampling temperature of verify steps; 0 is greedy.")
@adapt("limit", help="Maximum number of samples; rare behaviors are kept.")
@adapt("lora", default=False, help="Tune LoRA and the functional tokens' rows instead of all weights.")
@adapt("server", help="Use this server for verify steps instead of the model in this process: URL, or several as a,b.")
class WarmupOptions(
    groups.AskedModel,
    groups.Places,
    groups.Limit,
    Temperature,
    groups.Behaviours,
    groups.SkipCut,
    groups.Template,
    groups.Plugin,
    groups.Lora,
    groups.AnswerLength,
    title="trees",
):
    """Options of `rolewise warmup` beside the trainer's (`WeightedSFTConfig`)."""

    trees: str | None = option(None, "Trees from `rolewise search` (trees.jsonl) to build the data from.")
    data_only: bool = option(False, "Only build the data (in OUTPUT); do not train.")
    merged: int = option(
        1, "Maximum pairs of a right and a wrong path to merge by a verify step, per question.", least=0
    )
    plain: int = option(1, "Maximum right paths to use alone, per question.", least=0)
    verify_tokens: int = option(128, "Maximum tokens per verify step.", least=1)
    data_seed: int = option(0, "Seed of verify steps and of sample selection.", least=0)

    def validate(self) -> None:
        if (self.trees is None) == (self.data is None):
            raise InputError("give trees to build the data from, or existing data")
        if self.data_only and self.trees is None:
            raise InputError("data_only builds data from trees; give trees")

    @property
    def behaviours_name(self) -> str:
        """The set to use, as accepted by `find_behaviours`: the given one, else the model's own, else RFTT's."""
        from rolewise.core.behaviour import BEHAVIOURS_FILE  # imported here, since it loads NumPy

        taught = Path(self.model) / BEHAVIOURS_FILE
        return self.behaviours or (str(taught) if taught.exists() else "rftt")

    def of_training(self, data: str) -> SFTOptions:
        """Return the options for fine-tuning on the conversations at `data`.

        Raises:
            InputError: for an invalid option.
        """
        return SFTOptions(**{**values_of(self, SFTOptions), "data": data, "behaviours": self.behaviours_name})
