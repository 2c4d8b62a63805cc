"""The options of `rolewise sample`. Imports nothing heavy, so that `--help` answers at once."""

import math
from dataclasses import dataclass

from rolewise.core.errors import InputError
from rolewise.core.options import option, required
from rolewise.jobs.eval_options import check_server
from rolewise.jobs.options import DTYPES, FORMAT_HELP, PLUGIN_HELP


@dataclass(kw_only=True)
class SampleOptions:
    """Options of `rolewise sample`."""

    model: str = required(
        "A model directory, an adapter's directory, or a hub id. With --server only its tokenizer is read."
    )
    data: str = required("Conversations, sources as for `rolewise label`; the last assistant turn is the reference.")
    output: str = required("Directory to make: conversations.jsonl with right answers, all answers and a summary.")
    samples: int = option(4, "Answers to each question.")
    check: str = option("calls", "What right means: calls (equal tool calls), math (equal answer), or a plugin's.")
    keep: int | None = option(None, "At most so many different right answers to a question; all unless given.")

    format: str | None = option(None, FORMAT_HELP, group="data")
    limit: int | None = option(None, "Use the first so many conversations only.", group="data")
    skip_invalid: bool = option(
        False,
        "Leave out records that can't be used (listed in OUTPUT/rejected.jsonl) instead of stopping.",
        group="data",
    )
    chat_template: str | None = option(None, "Instead of the tokenizer's: a file, or `chatml`.", group="data")
    tool_format: str | None = option(
        None, "How tools are written where the chat template can't: hermes, rlla or react.", group="data"
    )
    plugin: str | None = option(None, PLUGIN_HELP.replace("labellers or weightings", "checkers"), group="data")

    max_new_tokens: int = option(512, "Tokens of an answer at most; a longer one is not right.", group="answers")
    temperature: float = option(0.8, "Above 0, or all answers to a question are alike.", group="answers")
    top_p: float = option(1.0, "Only the likeliest tokens that make up this share.", group="answers")
    top_k: int = option(0, "Only so many of the likeliest tokens; 0 for all.", group="answers")
    seed: int = option(0, "Of sampling.", group="answers")

    server: str | None = option(
        None, "Ask a server that speaks OpenAI's protocol instead: URL, or several as a,b.", group="server"
    )
    served_model: str | None = option(None, "Name of the model or adapter there; its first one.", group="server")
    api_key: str | None = option(
        None, "Name of the environment variable with the server's key, if it wants one.", group="server"
    )
    concurrency: int = option(32, "Requests under way at once, per server.", group="server")

    dtype: str = option("float32", "Of weights and arithmetic.", group="machine")
    batch_size: int | None = option(None, "Answers generated at once in this process.", group="machine")
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="machine")

    def __post_init__(self) -> None:
        for name in ("samples", "keep", "limit", "max_new_tokens", "concurrency", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; it must be 0 (greedy) or more, and finite")
        if self.samples > 1 and self.temperature == 0:
            raise InputError(f"samples is {self.samples}, but at temperature 0 all are alike; give a temperature")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        for name in ("top_k", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        check_server(self)
