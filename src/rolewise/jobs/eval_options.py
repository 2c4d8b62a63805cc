"""The options of `rolewise eval`. Imports nothing heavy, so that `--help` answers at once."""

import math
from dataclasses import dataclass
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.options import option, required
from rolewise.jobs.options import DTYPES, PLUGIN_HELP


@dataclass(kw_only=True)
class EvalOptions:
    """Options of `rolewise eval`."""

    model: str = required(
        "A model directory, an adapter's directory, or a hub id. With --server only its tokenizer is read."
    )
    suite: str = required(
        "Suites: a,b (in YAML a list) of bfcl, api_bank, gsm8k, math500, aime, amc, olympiad, minerva, "
        "stable_toolbench, t_eval, nexus, calls:FILE (conversations of your own), or a plugin's; some take parts, as "
        "in bfcl:simple_python+live_simple."
    )
    output: str = required("Directory to make: answers, verdicts, summary and report.")
    limit: int | None = option(None, "So many examples of each suite, spread over its categories.")
    against: str | None = option(None, "Another run's output: compare with it, example by example.")

    server: str | None = option(
        None, "Ask a server that speaks OpenAI's protocol instead: URL, or several as a,b.", group="server"
    )
    served_model: str | None = option(None, "Name of the model or adapter there; its first one.", group="server")
    api_key: str | None = option(
        None, "Name of the environment variable with the server's key, if it wants one.", group="server"
    )
    concurrency: int = option(32, "Requests under way at once, per server.", group="server")

    max_new_tokens: int | None = option(None, "Longest answer; each suite's own unless given.", group="answers")
    temperature: float = option(0.0, "0 takes the likeliest token every time.", group="answers")
    top_p: float = option(1.0, "Only the likeliest tokens that make up this share.", group="answers")
    samples: int = option(1, "Answers per question in mathematics, for pass@k and maj@k.", group="answers")
    seed: int = option(0, "Of the draw of examples and of sampling.", group="answers")

    native_tools: bool = option(
        False, "Give tools through the chat template and read calls in the model's own format.", group="prompts"
    )
    chat_template: str | None = option(None, "Instead of the tokenizer's: a file, or `chatml`.", group="prompts")
    tool_format: str | None = option(
        None, "How tools are written where the chat template can't: hermes, rlla or react.", group="prompts"
    )
    judge: str | None = option(
        None, "Judge and simulator of stable_toolbench: url=URL,model=NAME,… (in YAML a mapping).", group="prompts"
    )

    data_dir: str | None = option(None, "Folder with local copies of data sets; ROLEWISE_DATA.", group="machine")
    cache_dir: str | None = option(
        None, "Folder for what is downloaded; ROLEWISE_CACHE, or ~/.cache/rolewise.", group="machine"
    )
    dtype: str = option("float32", "Of weights and arithmetic.", group="machine")
    batch_size: int | None = option(None, "Answers generated at once in this process.", group="machine")
    plugin: str | None = option(None, PLUGIN_HELP.replace("labellers or weightings", "suites"), group="machine")
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="machine")

    def __post_init__(self) -> None:
        for name in ("limit", "max_new_tokens", "samples", "concurrency", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be 0 or more")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; it must be 0 (greedy) or more, and finite")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.samples > 1 and self.temperature == 0:
            raise InputError(f"samples is {self.samples}, but at temperature 0 all are alike; give a temperature")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        check_server(self)


def check_server(options: Any) -> None:
    """Refuse options of a served model without a server, and those of a model in this process with one.

    Raises:
        InputError: naming the option.
    """
    if options.server is None:
        for name in ("served_model", "api_key"):
            if getattr(options, name) is not None:
                raise InputError(f"{name} needs server: say where the model is served")
    elif options.batch_size is not None:
        raise InputError("batch_size is of the model in this process; with server give concurrency")
