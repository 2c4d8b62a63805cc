"""Option groups that several commands share, each declared once."""

import importlib.util
from dataclasses import dataclass

from rolewise.core.errors import InputError
from rolewise.core.launch import launched
from rolewise.core.options import Dtype, Options, option, required, split_list
from rolewise.training.settings import MAX_LENGTH


@dataclass(kw_only=True)
class Output(Options, title="needed"):
    """Output of a command."""

    output: str = required("Directory to create.")


@dataclass(kw_only=True)
class Data(Options, title="needed"):
    """Input of a command."""

    data: str = required("Labelled data set.", several=True)


@dataclass(kw_only=True)
class Places(Data, Output):
    """Input and output of a command."""


@dataclass(kw_only=True)
class Model(Options, title="needed"):
    """The model that a command loads."""

    model: str = required("Model directory, adapter directory or hub id. With --server, read only its tokenizer.")


@dataclass(kw_only=True)
class Machine(Options, title="machine"):
    """Numeric precision of the loaded model."""

    dtype: Dtype = option("float32", "Weight and compute dtype.")


@dataclass(kw_only=True)
class HubCode(Options, title="machine"):
    """Permission to run a model's own code."""

    trust_remote_code: bool = option(False, "Run code from the model's repository.")


@dataclass(kw_only=True)
class Batches(Options, title="machine"):
    """Batch size for generation."""

    batch_size: int | None = option(None, "Sequences to generate at once in this process.", least=1)


@dataclass(kw_only=True)
class Plugin(Options, title="data"):
    """The user's plugins."""

    plugin: str | None = option(
        None,
        "Python files that register formats, weightings and other parts: a.py,b.py (in YAML a list).",
        several=True,
    )


@dataclass(kw_only=True)
class Template(Options, title="data"):
    """The chat template."""

    chat_template: str | None = option(None, "Use this template file, or `chatml`, instead of the tokenizer's.")


@dataclass(kw_only=True)
class ToolFormat(Options, title="data"):
    """Format of tools and tool calls."""

    tool_format: str | None = option(
        None, "Write tools and calls in this format where the template can't: hermes, rlla or react."
    )


@dataclass(kw_only=True)
class SkipInvalid(Options, title="data"):
    """Handling of unusable records."""

    skip_invalid: bool = option(False, "Skip unusable records (listed in OUTPUT/rejected.jsonl) instead of stopping.")


@dataclass(kw_only=True)
class SkipCut(Options, title="data"):
    """Handling of answers that `max_length` cuts."""

    skip_cut: bool = option(
        False,
        "Skip samples whose answers max_length cuts (listed in OUTPUT/rejected.jsonl) instead of using what remains.",
    )


@dataclass(kw_only=True)
class Reading(SkipInvalid):
    """Format of the records."""

    format: str | None = option(
        None,
        "Record format: messages, sharegpt, glaive, xlam, prompt-completion, trajectory, alpaca, self-instruct, "
        "question-answer or a plugin's. Detected automatically unless given.",
    )


@dataclass(kw_only=True)
class Limit(Options, title="data"):
    """Limit on the amount of data."""

    limit: int | None = option(None, "Use only the first N conversations or questions.", least=1)


@dataclass(kw_only=True)
class MaxLength(Options, title="data"):
    """Maximum sample length."""

    max_length: int = option(MAX_LENGTH, "Cut samples to this many tokens.", least=2)


@dataclass(kw_only=True)
class PromptLength(Options, title="data"):
    """Maximum prompt length."""

    max_prompt_length: int = option(2048, "Skip prompts with more tokens.", least=1)


@dataclass(kw_only=True)
class EvalData(Options, title="data"):
    """Data for evaluation during training."""

    eval_data: str | None = option(None, "Data for evaluation during training.", several=True)


@dataclass(kw_only=True)
class Server(Options, title="server"):
    """A server that generates instead of a model in this process."""

    server: str | None = option(
        None, "Use this OpenAI-compatible server instead: URL, or several as a,b.", several=True
    )
    served_model: str | None = option(None, "Model or adapter name on the server. Default: its first.")
    api_key: str | None = option(None, "Environment variable that holds the server's key.")
    concurrency: int = option(32, "Concurrent requests per server.", least=1)

    def validate(self) -> None:
        if self.server is not None and not split_list(self.server):
            raise InputError(
                f"server is {self.server!r}, which names none; give its URL, e.g. http://localhost:8000/v1"
            )
        if self.server is None:
            for name in ("served_model", "api_key"):
                if getattr(self, name) is not None:
                    raise InputError(f"{name} needs server; give the server's URL")
        elif getattr(self, "batch_size", None) is not None:
            raise InputError("batch_size applies to the model in this process; with server, set concurrency instead")


@dataclass(kw_only=True)
class Behaviours(Options, title="functional"):
    """The functional tokens."""

    behaviours: str | None = option(
        None, "Functional tokens: rftt or a YAML file. Default: the set that the model was taught, else rftt."
    )


@dataclass(kw_only=True)
class Values(Options, title="values"):
    """Value function of a search's paths."""

    value: str = option("math", "Value function of a path: math or a plugin's.")
    wrong_with_answer: float = option(0.0, "math: value of a wrong answer.")
    numeric: bool = option(False, "math: compare answers as plain numbers, as in GSM8K.")
    process_reward: str | None = option(None, "Process-reward model: model directory, hub id or server URL.")
    process_reward_format: str | None = option(
        None, "Solution format of that model: qwen, shepherd or trl. Detected automatically unless given."
    )
    process_reward_key: str | None = option(None, "Environment variable that holds that server's key.")

    def validate(self) -> None:
        if not 0 <= self.wrong_with_answer <= 1:
            raise InputError(f"wrong_with_answer is {self.wrong_with_answer}; it must be from 0 to 1")
        where = self.process_reward
        if self.process_reward_format is not None and where is None:
            raise InputError("process_reward_format needs process_reward; give that too, or leave the format out")
        if self.process_reward_key is not None and "://" not in (where or ""):
            raise InputError("process_reward_key needs a server; give its URL as process_reward, or leave the key out")


@dataclass(kw_only=True)
class Lora(Machine, title="model"):
    """Trained weights and the form in which they are saved."""

    lora: bool = option(True, "Tune a LoRA adapter; --no-lora tunes all weights.")
    rank: int = option(16, "Rank of the LoRA matrices.", least=1)
    merge: bool = option(False, "Also write the model with the adapter merged in to OUTPUT/merged.")

    def validate(self) -> None:
        if self.merge and not self.lora:
            raise InputError("merge combines an adapter with its base; without LoRA there is nothing to merge")


@dataclass(kw_only=True)
class Qlora(Lora):
    """The same, with the base in four bits."""

    load_in_4bit: bool = option(False, "QLoRA: load the base in 4 bits. Needs bitsandbytes and a GPU.")

    def validate(self) -> None:
        if self.load_in_4bit and not self.lora:
            raise InputError("load_in_4bit tunes an adapter on a frozen base; leave --no-lora out")
        if self.load_in_4bit and launched() > 1:
            raise InputError("load_in_4bit spreads the model over all available devices; start one process")
        if self.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
            raise InputError("load_in_4bit needs bitsandbytes; install it: pip install 'rolewise[qlora]'")


@dataclass(kw_only=True)
class Report(Options, title="report"):
    """Sample answers in a training report."""

    generations: int = option(3, "Prompts to answer before and after training, for the report.", least=0)


@dataclass(kw_only=True)
class AnswerLength(Report):
    """The same, for training that samples nothing itself."""

    generation_tokens: int = option(128, "Maximum tokens per such answer.", least=1)


@dataclass(kw_only=True)
class AskedModel(Model, Batches, Server, Machine, HubCode):
    """A model that answers, in this process or on a server."""


@dataclass(kw_only=True)
class Training(Model, Places, EvalData, Reading, Template, Plugin, Report, HubCode):
    """What every training from records reads and writes."""
