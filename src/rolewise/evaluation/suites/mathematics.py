r"""Mathematics: GSM8K, MATH-500, AIME 2024, AMC 2023, OlympiadBench and Minerva, zero-shot, answers in `\boxed{}`.

Answers are read and compared by `rolewise.rewards.math_answers`. OlympiadBench is its open-ended English part without
pictures, judged without the tolerance and the unit that a few of its records specify.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

from rolewise.core.errors import InputError
from rolewise.evaluation.accuracy import Score, majority, mean_score, mean_scores, pass_at_k
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sources import DataFile, FoundFile, find_file, read_records
from rolewise.evaluation.suite import Answer, Ask, Play, Suite, SuiteSettings
from rolewise.rewards.math_answers import MathJudge, MathVerdict, final_answer

_INSTRUCTION = r"Reason step by step, and put your final answer within \boxed{}."
_MAX_NEW_TOKENS = 2048

_Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Benchmark:
    """The data file of a benchmark and the reading of its records.

    Attributes:
        problem: field that holds the question.
        reference: function that returns a record's right answer, in LaTeX.
        category: function that returns a record's category.
        numeric: True if all answers are plain numbers (see `final_answer`).
    """

    title: str
    file: DataFile
    problem: str
    reference: Callable[[_Record], str]
    category: Callable[[_Record], str]
    numeric: bool


def _after_marks(record: _Record) -> str:
    """Return the answer of a GSM8K solution, which ends with `#### 42`."""
    return str(record["answer"].rpartition("####")[2].strip())


def _plain(record: _Record) -> str:
    """Return an answer field; AMC's integers are stored as floats."""
    answer = record["answer"]
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)


def _minerva_box(record: _Record) -> str:
    """Return the box of a Minerva solution; one is written in Python: `np.arcsin(10/13)`."""
    return (final_answer(record["solution"]) or "").replace("np.", "\\")


def _olympiad_answer(record: _Record) -> str:
    """Return OlympiadBench's only final answer, with a space after each comma between values: 1,300 is one number."""
    answer = str(record["final_answer"][0]).replace("$", "")
    return re.sub(r",\s*", ", ", answer) if record["is_multiple_answer"] else answer


def _simplerl_file(name: str, sha256: str, local_sha256: str | None = None) -> DataFile:
    commit = "cf1c7858bfc145a27aa733e75d930d34f0d318a6"
    return DataFile(
        name=f"{name}_test.jsonl",
        url=f"https://raw.githubusercontent.com/hkust-nlp/simpleRL-reason/{commit}"
        f"/examples/simplelr_math_eval/data/{name}/test.jsonl",
        sha256=sha256,
        local=f"math_other_eval/{name}_test.jsonl",
        local_sha256=local_sha256,
    )


_BENCHMARKS = {
    "gsm8k": _Benchmark(
        title="GSM8K",
        file=DataFile(
            name="gsm8k_test.jsonl",
            url="https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c"
            "/grade_school_math/data/test.jsonl",
            sha256="3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
            local="gsm8k/test.jsonl",
            local_sha256="752adc99f23132275139f1f7be57126b08735a55daf0c56859ee6df70abafbac",
        ),
        problem="question",
        reference=_after_marks,
        category=lambda record: "GSM8K",
        numeric=True,
    ),
    "math500": _Benchmark(
        title="MATH-500",
        file=DataFile(
            name="math500_test.jsonl",
            url="https://raw.githubusercontent.com/ZubinGou/math-evaluation-harness"
            "/db77bc6bb2a17c90ed2d63e88ebd8c40a82858c5/data/math_oai/test.jsonl",
            sha256="35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
            local="math/math500_test.jsonl",
        ),
        problem="problem",
        reference=_plain,
        category=lambda record: str(record["subject"]),
        numeric=False,
    ),
    "aime": _Benchmark(
        title="AIME 2024",
        file=_simplerl_file(
            "aime24",
            "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac",
            "187d08d68441a0bb0d0db8f6e7c5af53dbe0dc7efe9a769cd27f75d8d13f6318",
        ),
        problem="problem",
        reference=_plain,
        category=lambda record: "AIME 2024",
        numeric=True,
    ),
    "amc": _Benchmark(
        title="AMC 2023",
        file=_simplerl_file(
            "amc23",
            "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4",
            "5ed21b3a67cdca5ff9d248173c8817fd0f12a42667925f9bdd5f88906bfd699f",
        ),
        problem="problem",
        reference=_plain,
        category=lambda record: "AMC 2023",
        numeric=True,
    ),
    "olympiad": _Benchmark(
        title="OlympiadBench",
        file=_simplerl_file("olympiadbench", "bb8c1e38a16ea9eacb77530315a674d883f267fbff79183effc53681b4fcc416"),
        problem="question",
        reference=_olympiad_answer,
        category=lambda record: str(record["subfield"]),
        numeric=False,
    ),
    "minerva": _Benchmark(
        title="Minerva",
        file=_simplerl_file(
            "minerva_math",
            "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2",
            "a3db82e325d03b23e788d93fd8291e518f45d2b03e1cff1636fea7c5eaa32c39",
        ),
        problem="problem",
        reference=_minerva_box,
        category=lambda record: str(record["type"]),
        numeric=False,
    ),
}


def make(name: str, settings: SuiteSettings) -> "MathSuite":
    """Create the suite of that name.

    Raises:
        InputError: if anything follows the name.
    """
    base, colon, _ = name.partition(":")
    if colon:
        raise InputError(f"suite {name!r}: {base} takes nothing after its name")
    return MathSuite(base, settings)


class MathSuite(Suite):
    """One of the mathematics benchmarks.

    With several samples per question, `overall` is their mean (pass@1), and the summary adds unbiased pass@k and maj@k,
    the share of questions whose most frequent answer is right. Votes with equal expressions are equal (see
    `MathJudge.canonical_all`); a sample without an answer has no vote.
    """

    takes_samples = True

    def __init__(self, name: str, settings: SuiteSettings) -> None:
        self._benchmark = _BENCHMARKS[name]
        self.name = name
        self.title = self._benchmark.title
        self._settings = settings
        self._judge = MathJudge()

    @cached_property
    def _file(self) -> FoundFile:
        return find_file(self._benchmark.file, self._settings)

    def examples(self) -> Sequence[Example]:
        return [
            self._example(index, record, f"{self._file.path}: record {index + 1}")
            for index, record in enumerate(read_records(self._file.path))
        ]

    def version(self) -> dict[str, Any]:
        return {"data": self._file.identity, "instruction": _INSTRUCTION, "math-verify": version("math-verify")}

    def play(self, example: Example) -> Play:
        question = f"{example.data['problem']}\n\n{_INSTRUCTION}"
        samples = self._settings.samples
        self._judge.start(samples)  # the processes start while the model answers
        answer = yield Ask(messages=[{"role": "user", "content": question}], max_new_tokens=_MAX_NEW_TOKENS, n=samples)
        verdicts = self._verdicts(answer, example.data["reference"])
        right = [verdict.right for verdict in verdicts]
        detail: dict[str, Any] = {"answers": [verdict.answer for verdict in verdicts], "right": right}
        if samples == 1:
            return Verdict(float(right[0]), verdicts[0].reason, detail)
        elected = majority(self._votes(verdicts))
        detail["majority_right"] = elected is not None and right[elected]
        return Verdict(sum(right) / samples, answer.error or f"{sum(right)} of {samples} samples are right", detail)

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        overall, *categories = mean_scores(results)
        samples = self._settings.samples
        if samples == 1:
            return [overall, *categories]
        details = [verdict.detail for _, verdict in results]
        doublings = [2**power for power in range(1, samples.bit_length()) if 2**power < samples]
        return [
            dataclasses.replace(overall, note=f"pass@1, the mean of {samples} samples"),
            *(
                mean_score(f"pass@{k}", [pass_at_k(sum(detail["right"]), samples, k) for detail in details])
                for k in (*doublings, samples)
            ),
            mean_score(f"maj@{samples}", [float(detail["majority_right"]) for detail in details]),
            *categories,
        ]

    def close(self) -> None:
        self._judge.close()

    def _example(self, index: int, record: _Record, source: str) -> Example:
        benchmark = self._benchmark
        try:
            problem, reference = record[benchmark.problem], benchmark.reference(record)
            category = benchmark.category(record)
        except (KeyError, AttributeError, IndexError, TypeError) as error:
            raise InputError(f"{source}: not a record of {self.title} ({error!r}); use {benchmark.file.url}") from error
        if not isinstance(problem, str) or not reference:
            raise InputError(f"{source}: the problem or the answer is missing; use {benchmark.file.url}")
        return Example(f"{self.name}_{index}", category, {"problem": problem, "reference": reference})

    def _verdicts(self, answer: Answer, reference: str) -> list[MathVerdict]:
        """Return a verdict on each requested sample; missing ones are wrong."""
        pairs = [(text, reference) for text in answer.texts]
        missing = MathVerdict(False, None, answer.error or "no response")
        verdicts = self._judge.judge_all(pairs, numeric=self._benchmark.numeric)
        return verdicts + [missing] * (self._settings.samples - len(verdicts))

    def _votes(self, verdicts: Sequence[MathVerdict]) -> list[str | None]:
        """Return the vote of each sample."""
        answers = [verdict.answer for verdict in verdicts if verdict.answer is not None]
        keys = iter(self._judge.canonical_all(answers))
        return [None if verdict.answer is None else next(keys) for verdict in verdicts]
