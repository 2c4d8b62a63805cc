"""The options of `rolewise search` and `rolewise solve`. Imports nothing heavy, so that `--help` answers at once."""

from dataclasses import dataclass, fields
from typing import Protocol

from rolewise.core.errors import InputError
from rolewise.core.options import option, required
from rolewise.jobs.eval_options import check_server
from rolewise.jobs.options import DTYPES, FORMAT_HELP
from rolewise.search.settings import SearchSettings

POLICIES = ("auto", "prompts", "tokens")
VOTES = ("majority", "value", "best")


@dataclass(kw_only=True)
class SearchOptions:
    """Options of `rolewise search`."""

    model: str = required(
        "A model directory, an adapter's directory, or a hub id. With --server only its tokenizer is read."
    )
    data: str = required("Questions: JSON Lines with question and answer, GSM8K, MATH, or conversations.")
    output: str = required("Directory to make: trees.jsonl, a summary and report.html with the trees.")
    policy: str = option(
        "auto",
        "prompts: the model is asked for each kind of step. tokens: it chooses by its functional tokens. auto: tokens "
        "where the tokenizer has them.",
        choices=POLICIES,
    )

    rollouts: int = option(16, "Rollouts for each question.", group="search")
    max_depth: int = option(15, "Steps of a path at most.", group="search")
    exploration: float = option(2.0, "UCT's constant.", group="search")
    step_tokens: int = option(256, "Tokens of a step at most.", group="search")
    temperature: float = option(0.8, "Of sampling; 0 is greedy.", group="search")
    top_p: float = option(0.95, "Only the likeliest tokens that make up this share.", group="search")
    top_k: int = option(40, "Only so many of the likeliest tokens; 0 for all.", group="search")
    seed: int = option(0, "The same seed gives the same trees.", group="search")
    in_flight: int = option(1, "Rollouts at once in one tree; above 1 a seed no longer fixes the tree.", group="search")
    max_tokens: int | None = option(None, "Generated tokens for each question at most.", group="search")
    max_seconds: float | None = option(None, "Seconds for each question at most.", group="search")
    early_stop: str = option(
        "never",
        "right: a tree ends with its first right answer. decided: when no vote still to come can change the majority.",
        choices=("never", "right", "decided"),
        group="search",
    )
    behaviours: str | None = option(
        None,
        "Whose steps: rftt or a YAML file; those that the model was taught, or else rftt, unless given.",
        group="search",
    )

    value: str = option("math", "Who judges paths: math, or a plugin's.", group="values")
    wrong_with_answer: float = option(0.0, "math: what a wrong answer is worth.", group="values")
    numeric: bool = option(False, "math: all answers are plain numbers, as GSM8K's.", group="values")
    process_reward: str | None = option(
        None, "Process-reward model: a model directory, a hub id, or the URL of a server.", group="values"
    )
    process_reward_format: str | None = option(
        None, "How that model reads solutions: qwen, shepherd or trl; chosen by the model unless given.", group="values"
    )
    process_reward_key: str | None = option(
        None, "Name of the environment variable with that server's key, if it wants one.", group="values"
    )

    format: str | None = option(None, FORMAT_HELP, group="data")
    limit: int | None = option(None, "Take the first so many questions only.", group="data")
    skip_invalid: bool = option(
        False, "Leave out records that can't be used (listed in OUTPUT/rejected.jsonl).", group="data"
    )
    chat_template: str | None = option(None, "Instead of the tokenizer's: a file, or `chatml`.", group="data")
    plugin: str | None = option(None, "Python files that add formats or values: a.py,b.py.", group="data")

    server: str | None = option(
        None, "Ask a server that speaks OpenAI's protocol instead: URL, or several as a,b.", group="server"
    )
    served_model: str | None = option(None, "Name of the model or adapter there; its first one.", group="server")
    api_key: str | None = option(
        None, "Name of the environment variable with the server's key, if it wants one.", group="server"
    )
    concurrency: int = option(32, "Requests under way at once, per server.", group="server")

    dtype: str = option("float32", "Of weights and arithmetic.", group="machine")
    batch_size: int | None = option(None, "Sequences generated at once in this process.", group="machine")
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="machine")

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InputError(f"policy {self.policy!r} is not known; choose one of {', '.join(POLICIES)}")
        for name in ("limit", "concurrency", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if not 0 <= self.wrong_with_answer <= 1:
            raise InputError(f"wrong_with_answer is {self.wrong_with_answer}; it must be from 0 to 1")
        check_process_reward(self)
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        check_server(self)
        self.settings()

    def settings(self) -> SearchSettings:
        """The search's own settings among them.

        Raises:
            InputError: for one that is out of range.
        """
        return SearchSettings(**{f.name: getattr(self, f.name) for f in fields(SearchSettings)})


class ProcessRewardOptions(Protocol):
    """What commands that may ask a process-reward model have in common."""

    process_reward: str | None
    process_reward_format: str | None
    process_reward_key: str | None


def check_process_reward(options: ProcessRewardOptions) -> None:
    """Refuse what is said of a process-reward model that is not asked.

    Raises:
        InputError: naming the option.
    """
    where = options.process_reward
    if options.process_reward_format is not None and where is None:
        raise InputError("process_reward_format says how a process_reward reads; give that too, or leave it out")
    if options.process_reward_key is not None and "://" not in (where or ""):
        raise InputError("process_reward_key is of a server; give its URL as process_reward, or leave it out")


@dataclass(kw_only=True)
class SolveOptions(SearchOptions):
    """Options of `rolewise solve`: those of a search, and how its paths are voted on. References are looked at only
    when the search is over."""

    data: str | None = option(  # type: ignore[assignment]  # here a question may take its place
        None, "Questions: JSON Lines with question and perhaps answer, GSM8K, MATH, or conversations.", group="needed"
    )
    question: str | None = option(None, "A single question, instead of --data.", group="needed")
    vote: str = option(
        "majority",
        "majority: the answer that most rollouts give. value: of the greatest sum of values. best: of the best path.",
        choices=VOTES,
    )
    trees: bool = option(False, "Also write the trees, for rolewise view.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.data is None) == (self.question is None):
            raise InputError("give the questions as data, or a single one as question")
        if self.question is not None and not self.question.strip():
            raise InputError("question is empty; write one, or give data")
        if self.vote not in VOTES:
            raise InputError(f"vote {self.vote!r} is not known; choose one of {', '.join(VOTES)}")
        if self.vote != "majority" and self.value == "math" and self.process_reward is None:
            raise InputError(
                f"vote {self.vote} needs values that are known without the answer; give a process_reward or a value of "
                "your own, or vote by majority"
            )
        if self.early_stop == "right":
            raise InputError("early_stop right looks at the reference, which solving must not; choose decided or never")
        if self.early_stop == "decided" and self.vote != "majority":
            raise InputError(
                f"early_stop decided counts votes, and vote {self.vote} goes by values; leave one of them out"
            )
