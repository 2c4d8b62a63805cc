"""The options of `rolewise warmup`. Imports nothing heavy, so that `--help` answers at once."""

from dataclasses import dataclass
from pathlib import Path

from rolewise.core.behaviour import BEHAVIOURS_FILE
from rolewise.core.errors import InputError
from rolewise.core.options import option, required
from rolewise.jobs.eval_options import check_server
from rolewise.jobs.options import DTYPES, WEIGHTINGS, SFTOptions


@dataclass(kw_only=True)
class WarmupOptions:
    """Rolewise's own options of `rolewise warmup`; the rest are the fields of TRL's `SFTConfig`."""

    model: str = required("Model to teach functional tokens, the one that was searched with: a directory or a hub id.")
    trees: str | None = option(None, "Trees of `rolewise search` (trees.jsonl), to make data of.", group="needed")
    data: str | None = option(None, "Or: conversations with functional tokens, made before.", group="needed")
    output: str = required("Directory to make: the model or adapter; the data stand beside it in OUTPUT-data.")
    data_only: bool = option(False, "Make the data (in OUTPUT) and train nothing.", group="options")

    merged: int = option(1, "Right and wrong paths merged by a verify step, of a question at most.", group="trees")
    plain: int = option(1, "Right paths alone, of a question at most.", group="trees")
    limit: int | None = option(None, "Samples at most; rare behaviours are kept.", group="trees")
    verify_tokens: int = option(128, "Tokens of a verify step at most.", group="trees")
    temperature: float = option(0.7, "With which verify steps are written; 0 is greedy.", group="trees")
    data_seed: int = option(0, "Of verify steps and of the choice of samples.", group="trees")
    behaviours: str | None = option(
        None,
        "Whose functional tokens: rftt or the search's YAML file; else those that the model was taught, or rftt.",
        group="trees",
    )

    weighting: str = option(
        "none",
        "none: plain loss. rft, alpha, …: by roles, which the functional tokens give for free; or a plugin's.",
        choices=WEIGHTINGS,
        group="training",
    )
    inv_tau: float = option(0.3, "rft: 1/τ.", group="training")
    alpha: float = option(0.3, "alpha: boilerplate's share of the loss.", group="training")
    lora: bool = option(False, "Tune LoRA and the functional tokens' rows; else all weights.", group="training")
    rank: int = option(16, "Rank of the LoRA matrices.", group="training")
    merge: bool = option(False, "Also write the model with the adapter merged in, to OUTPUT/merged.", group="training")
    max_length: int | None = option(None, "Samples are cut to so many tokens (3072 unless given).", group="training")
    skip_cut: bool = option(
        False,
        "Leave out samples whose answers max_length cuts (listed in OUTPUT/rejected.jsonl) instead of training on "
        "their beginnings.",
        group="training",
    )
    chat_template: str | None = option(None, "Instead of the tokenizer's: a file, or `chatml`.", group="training")
    plugin: str | None = option(None, "Python files that add weightings: a.py,b.py.", group="training")

    server: str | None = option(
        None, "Ask a server for verify steps instead of the model in this process: URL, or several.", group="server"
    )
    served_model: str | None = option(None, "Name of the model there; its first one.", group="server")
    api_key: str | None = option(None, "Environment variable with the server's key.", group="server")
    concurrency: int = option(32, "Requests under way at once, per server.", group="server")

    dtype: str = option("float32", "Of the weights: float32, bfloat16, float16.", group="machine")
    batch_size: int | None = option(None, "Verify steps written at once in this process.", group="machine")
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="machine")

    generations: int = option(3, "Prompts answered before and after, for the report.", group="report")
    generation_tokens: int = option(128, "Tokens per answer at most.", group="report")

    def __post_init__(self) -> None:
        if (self.trees is None) == (self.data is None):
            raise InputError("give trees to make the data of, or data that were made before")
        if self.data_only and self.trees is None:
            raise InputError("data_only makes data of trees; give trees")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature}; it must be 0 (greedy) or more, and finite")
        for name in ("verify_tokens", "concurrency", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if self.data_seed < 0:
            raise InputError(f"data_seed is {self.data_seed}; it must be 0 or more")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        check_server(self)
        self.of_training("")

    @property
    def behaviours_name(self) -> str:
        """The set that is meant, as `find_behaviours` takes it: the one given, the one the model was taught, RFTT's."""
        taught = Path(self.model) / BEHAVIOURS_FILE
        return self.behaviours or (str(taught) if taught.exists() else "rftt")

    def of_training(self, data: str) -> SFTOptions:
        """The options of the fine-tuning on conversations that lie at `data`.

        Raises:
            InputError: for one that does not fit.
        """
        return SFTOptions(
            model=self.model,
            data=data,
            output=self.output,
            weighting=self.weighting,
            inv_tau=self.inv_tau,
            alpha=self.alpha,
            lora=self.lora,
            rank=self.rank,
            merge=self.merge,
            max_length=self.max_length,
            skip_cut=self.skip_cut,
            chat_template=self.chat_template,
            plugin=self.plugin,
            behaviours=self.behaviours_name,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            generations=self.generations,
            generation_tokens=self.generation_tokens,
        )
