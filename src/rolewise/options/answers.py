"""Options of the commands that query a model: sample, eval, search and solve."""

from dataclasses import dataclass
from typing import Literal

from rolewise.core.errors import InputError
from rolewise.core.options import adapt, option, required, values_of
from rolewise.core.sampling_settings import SamplingSettings
from rolewise.options import groups
from rolewise.search.settings import SearchSettings, VoteBy


@dataclass(kw_only=True)
class SeveralAnswers(SamplingSettings, title="options"):
    """Answers per question."""

    samples: int = option(4, "Answers per question.", least=1)

    def validate(self) -> None:
        if self.samples > 1 and self.temperature == 0:
            raise InputError(
                f"samples is {self.samples}, but at temperature 0 all are the same; set a temperature above 0"
            )


@dataclass(kw_only=True)
@adapt(
    "data", help="Conversations, with the same sources as `rolewise label`; the last assistant turn is the reference."
)
@adapt("output", help="Directory to create: conversations.jsonl with right answers, all answers and a summary.")
@adapt("top_p", default=1.0)
@adapt("top_k", default=0)
class SampleOptions(
    groups.AskedModel,
    groups.Places,
    groups.Reading,
    groups.Limit,
    groups.Template,
    groups.ToolFormat,
    groups.Plugin,
    SeveralAnswers,
    title="options",
):
    """Options of `rolewise sample`."""

    check: str = option("calls", "Check for right answers: calls (equal tool calls), math or a plugin's.")
    keep: int | None = option(None, "Maximum different right answers to keep per question. Default: all.", least=1)
    max_new_tokens: int = option(512, "Maximum tokens per answer; a longer one is wrong.", least=1)


@dataclass(kw_only=True)
@adapt("output", help="Directory to create: answers, verdicts, summary and report.")
@adapt("limit", help="Examples per suite, spread over its categories.")
@adapt("temperature", default=0.0)
@adapt("samples", default=1, help="Answers per question in mathematics, for pass@k and maj@k.")
@adapt("top_p", default=1.0)
@adapt("top_k", default=0)
@adapt("seed", help="Seed of the draw of examples and of sampling.")
class EvalOptions(
    groups.AskedModel,
    groups.Output,
    groups.Limit,
    groups.Template,
    groups.ToolFormat,
    groups.Plugin,
    SeveralAnswers,
    title="options",
):
    """Options of `rolewise eval`."""

    suite: str = required(
        "Suites, a,b: bfcl, api_bank, gsm8k, math500, aime, amc, olympiad, minerva, stable_toolbench, t_eval, nexus, "
        "calls:FILE or a plugin's; some accept parts: bfcl:simple_python+live_simple.",
        several=True,
    )
    against: str | None = option(None, "Output of another run to compare with, example by example.")
    max_new_tokens: int | None = option(None, "Maximum tokens per answer. Default: each suite's own.", least=1)
    native_tools: bool = option(False, "Pass tools through the chat template; read calls in the model's own format.")
    judge: str | None = option(
        None, "Judge and simulator of stable_toolbench: url=URL,model=NAME,… (in YAML a mapping).", several=True
    )
    data_dir: str | None = option(None, "Folder with local copies of data sets. Default: ROLEWISE_DATA.")
    cache_dir: str | None = option(None, "Folder for downloads. Default: ROLEWISE_CACHE, else ~/.cache/rolewise.")


@dataclass(kw_only=True)
@adapt("data", help="Questions: JSON Lines with question and answer, GSM8K, MATH, or conversations.")
@adapt("output", help="Directory to create: trees.jsonl, a summary and report.html with the trees.")
@adapt("seed", help="Random seed; the same seed gives the same trees.")
class SearchOptions(
    groups.AskedModel,
    groups.Places,
    SearchSettings,
    groups.Behaviours,
    groups.Values,
    groups.Reading,
    groups.Limit,
    groups.Template,
    groups.Plugin,
    title="options",
):
    """Options of `rolewise search`."""

    policy: Literal["auto", "prompts", "tokens"] = option(
        "auto", "Choose steps by prompts or by functional tokens; auto: tokens where the tokenizer has them."
    )

    def settings(self) -> SearchSettings:
        """Return the settings of the search among these options."""
        return SearchSettings(**values_of(self, SearchSettings))


@dataclass(kw_only=True)
@adapt(
    "data",
    default=None,
    help="Questions: JSON Lines with question and perhaps answer, GSM8K, MATH, or conversations.",
)
class SolveOptions(SearchOptions, title="options"):
    """Options of `rolewise solve`: those of a search, plus voting on its paths. References are read only after the
    search."""

    question: str | None = option(None, "A single question, instead of --data.")
    vote: VoteBy = option(
        "majority", "Answer of most rollouts (majority), of the greatest sum of values (value) or of the best path."
    )
    trees: bool = option(False, "Also write the trees, for `rolewise view`.")

    def validate(self) -> None:
        if (self.data is None) == (self.question is None):
            raise InputError("give the questions as data, or a single one as question")
        if self.question is not None and not self.question.strip():
            raise InputError("question is empty; write one, or give data")
        if self.vote != "majority" and self.value == "math" and self.process_reward is None:
            raise InputError(
                f"vote {self.vote} needs values that do not depend on the reference; give a process_reward or your own "
                "value, or vote by majority"
            )
        if self.early_stop == "right":
            raise InputError("early_stop right reads the reference, which solving must not; choose decided or never")
        if self.early_stop == "decided" and self.vote != "majority":
            raise InputError(f"early_stop decided counts votes, but vote {self.vote} uses values; leave one out")
