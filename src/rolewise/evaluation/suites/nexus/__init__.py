"""NexusRaven's API evaluation: a question and some Python functions, to be answered by one call.

Data: the hub's `Nexusflow/NexusRaven_API_evaluation`, at a pinned commit; its `standardized_queries` and
`standardized_api_list`, and ToolLLM's questions from `raw_queries`. The rule is that of `raven/eval/evaluator.py` and
`raven/utils.py` in nexusflowai/NexusRaven at commit f32882763bb3e220722883821919c14abdd3d156: the call is right if it
names the reference's function and, with defaults filled in, gives every argument the same value. There the functions
are executed; here calls and definitions are only parsed. JSON's `true` and `null`, and tuples for lists, are also
accepted. The prompt is our own. Untested on the hub's own files, whose SHA-256 was unavailable.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rolewise.data.tool_calls import parse_response
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sources import find_file
from rolewise.evaluation.suite import Ask, Play, Suite, SuiteSettings, chosen_parts
from rolewise.evaluation.suites.nexus.functions import Function, Parameter
from rolewise.evaluation.suites.nexus.questions import COMMIT, DATA_FILES, Question, judge_call, read_questions

__all__ = ["TASKS", "Function", "Nexus", "Parameter", "Question", "judge_call", "make"]

TASKS = ("cve_cpe", "emailrep", "virustotal", "toolalpaca", "toolllm")

_MAX_NEW_TOKENS = 400  # evaluator.py, hf_params

_SYSTEM = """\
You answer questions by calling Python functions. Write one call of the function that fits best and nothing else, its \
arguments by name and as literal values: function_name(argument="value", other=3)

The functions:

{functions}"""


def make(name: str, settings: SuiteSettings) -> Suite:
    """Create the suite; tasks follow a colon, as in `nexus:virustotal+toolllm`.

    Raises:
        InputError: for an unknown task.
    """
    return Nexus(settings, chosen_parts(name, "task", TASKS))


class Nexus(Suite):
    """NexusRaven's API evaluation; see the module's docstring."""

    name = "nexus"
    title = "Nexus"
    untested = True

    def __init__(self, settings: SuiteSettings, tasks: Sequence[str] = TASKS) -> None:
        self._native_tools = settings.native_tools
        self._tasks = tasks
        self._files = {table: find_file(file, settings) for table, file in DATA_FILES.items()}

    def examples(self) -> Sequence[Example]:
        count: Counter[str] = Counter()
        examples = []
        for task, question in read_questions({table: file.path for table, file in self._files.items()}):
            if task in self._tasks:
                examples.append(Example(f"{task}/{count[task]}", task, question))
            count[task] += 1
        return examples

    def play(self, example: Example) -> Play:
        question: Question = example.data
        messages = [{"role": "user", "content": question.prompt}]
        schemas = None
        if self._native_tools:
            schemas = [function.schema() for function in question.functions]
        else:
            functions = "\n\n".join(function.source() for function in question.functions)
            messages.insert(0, {"role": "system", "content": _SYSTEM.format(functions=functions)})
        answer = yield Ask(messages=messages, tools=schemas, max_new_tokens=_MAX_NEW_TOKENS)
        if answer.error is not None:
            return Verdict(0.0, answer.error)
        calls = parse_response(answer.text.strip("` \n"), None if self._native_tools else "python").calls
        return judge_call(question, calls[0] if calls else None)

    def version(self) -> dict[str, Any]:
        return {"tables": {table: file.identity for table, file in self._files.items()}, "commit": COMMIT}
