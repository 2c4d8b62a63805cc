"""The options of `rolewise reinforce`. Imports nothing heavy, so that `--help` answers at once."""

from dataclasses import dataclass

from rolewise.core.errors import InputError
from rolewise.core.options import option, required
from rolewise.jobs.eval_options import check_server
from rolewise.jobs.options import DTYPES, FORMAT_HELP
from rolewise.jobs.search_options import check_process_reward

ROLLOUTS_FROM = ("tree", "samples", "grpo")
OF_THE_TRAINER = ("train_choices", "trust_remote_code")
"""Options that are fields of `ReinforceConfig` too, and stand here for their help."""


@dataclass(kw_only=True)
class ReinforceOptions:
    """Rolewise's own options of `rolewise reinforce`; the rest are the fields of TRL's `GRPOConfig`."""

    model: str = required("Model to train: a directory or a hub id; best one of `rolewise warmup`.")
    data: str = required("Questions: JSON Lines with question and answer, GSM8K, MATH, or conversations.")
    output: str = required("Directory to make: the model or adapter with its report.")
    rollouts_from: str = option(
        "tree",
        "tree: search by functional tokens. samples: plain sampling. Both train by REINFORCE++. grpo: TRL's GRPO.",
        choices=ROLLOUTS_FROM,
    )

    rollouts: int = option(16, "Rollouts to a question.", group="tree")
    max_depth: int = option(18, "Steps of a path at most.", group="tree")
    step_tokens: int = option(256, "Tokens of a step at most.", group="tree")
    exploration: float = option(2.0, "UCT's constant.", group="tree")
    paths: str = option(
        "random",
        "Which num_generations paths of a tree are trained on: random, or contrast (best, worst, second best, …).",
        choices=("random", "contrast"),
        group="tree",
    )
    train_choices: bool = option(
        True,
        "Train on opening tokens too, which the search chose, not only on what was sampled.",
        group="tree",
    )
    behaviours: str | None = option(
        None, "rftt or a YAML file; what the model was taught, or else rftt, unless given.", group="tree"
    )

    value: str = option("math", "Who judges paths: math, or a plugin's.", group="reward")
    wrong_with_answer: float = option(0.1, "math: what a wrong answer is worth.", group="reward")
    numeric: bool = option(False, "math: all answers are plain numbers, as GSM8K's.", group="reward")
    process_reward: str | None = option(
        None, "Process-reward model: a model directory, a hub id, or the URL of a server.", group="reward"
    )
    process_reward_format: str | None = option(
        None, "How that model reads solutions: qwen, shepherd or trl; chosen by the model unless given.", group="reward"
    )
    process_reward_key: str | None = option(
        None, "Name of the environment variable with that server's key, if it wants one.", group="reward"
    )

    eval_data: str | None = option(None, "Questions whose reward is measured while training.", group="data")
    format: str | None = option(None, FORMAT_HELP, group="data")
    chat_template: str | None = option(None, "Instead of the tokenizer's: a file, or `chatml`.", group="data")
    max_prompt_length: int = option(1024, "Longer prompts are left out.", group="data")
    limit: int | None = option(None, "Read so many questions at most.", group="data")
    skip_invalid: bool = option(
        False, "Leave out records that can't be used (listed in OUTPUT/rejected.jsonl).", group="data"
    )
    plugin: str | None = option(None, "Python files that add formats or values: a.py,b.py.", group="data")

    lora: bool = option(False, "Tune a LoRA adapter instead of all weights.", group="model")
    rank: int = option(16, "Rank of the LoRA matrices.", group="model")
    merge: bool = option(False, "Also write the model with the adapter merged in, to OUTPUT/merged.", group="model")
    dtype: str = option("float32", "Of the weights: float32, bfloat16, float16.", group="model")
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="model")

    batch_size: int | None = option(None, "tree, samples: sequences generated at once.", group="rollouts")
    server: str | None = option(
        None,
        "tree, samples: ask a server instead of the model in training; its weights stay as they are.",
        group="rollouts",
    )
    served_model: str | None = option(None, "Name of the model there; its first one.", group="rollouts")
    api_key: str | None = option(None, "Environment variable with the server's key.", group="rollouts")
    concurrency: int = option(32, "Requests under way at once, per server.", group="rollouts")

    generations: int = option(3, "Questions answered before and after, for the report.", group="report")

    def __post_init__(self) -> None:
        if self.rollouts_from not in ROLLOUTS_FROM:
            raise InputError(
                f"rollouts_from {self.rollouts_from!r} is not known; choose one of {', '.join(ROLLOUTS_FROM)}"
            )
        if self.paths not in ("random", "contrast"):
            raise InputError(f"paths {self.paths!r} is not known; choose random or contrast")
        if self.merge and not self.lora:
            raise InputError("merge joins an adapter with its base; without --lora there is nothing to merge")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        check_process_reward(self)
        if self.rollouts_from == "grpo" and (self.server is not None or self.batch_size is not None):
            raise InputError("server and batch_size are of rollouts from tree or samples; for grpo see use_vllm")
        least = {"rank": 1, "max_prompt_length": 1, "generations": 0, "limit": 1, "batch_size": 1, "concurrency": 1}
        for name, number in least.items():
            value = getattr(self, name)
            if value is not None and value < number:
                raise InputError(f"{name} is {value}; it must be at least {number}")
        check_server(self)
