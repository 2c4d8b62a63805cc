"""NexusRaven's API evaluation: functions and questions from its tables, and the rule by which a call is right."""

import ast
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rolewise.core.errors import InputError
from rolewise.evaluation.suite import Answer, SuiteSettings
from rolewise.evaluation.suites import make_suite
from rolewise.evaluation.suites.nexus import Function, Parameter


def parameter(name, kind="str", required=True, default="None"):
    return {"name": name, "type": kind, "required": required, "default": default, "description": ""}


API_LIST = [
    {
        "dataset": "virustotal",
        "name": "report",
        "description": "Reports.\n",
        # The one without a default comes last, as it may in the table.
        "args_dicts": [
            parameter("limit", "int", required=False, default="10"),
            parameter("tags", "list", required=False, default='JSON:["a", "b"]'),
            parameter("key", "None", required=False, default=None),
            parameter("ip"),
        ],
    },
    {"dataset": "virustotal", "name": "ping", "description": "Pings.", "args_dicts": []},
    {"dataset": "emailrep", "name": "report", "description": "Another one.", "args_dicts": [parameter("email")]},
]
QUERIES = [
    {
        "prompt": "What of 1.2.3.4?",
        "python_function_name": "report",
        "python_args_dict": '{"ip": "1.2.3.4", "limit": 3}',
        "context_functions": ["report", "ping"],
        "dataset": "virustotal",
    },
    {
        "prompt": "And a@b.c?",
        "python_function_name": "report",
        "python_args_dict": '{"email": "a@b.c"}',
        "context_functions": ["report"],
        "dataset": "emailrep",
    },
]
TOOLLLM = {
    "Input": "Weather at 1.5, 2.5?",
    "Output": "weather(lat= 1.9,  lon= 2)",
    "context": [
        "def weather(lat: float, lon: float=7.7, day: ENUM=2017 - 12 - 20):\n    'Of a place.'\n    return crash()",
        "def nothing():\n    'Nothing.'\n    pass",
    ],
    "Output_Original": [],
    "ToolName": "x",
}
RAW = [
    {"dataset": "virustotal", "query_dict": "not read"},
    {"dataset": "toolllm", "query_dict": json.dumps(TOOLLLM)},
]


def write(folder, api_list=API_LIST, queries=QUERIES, raw=RAW):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("standardized_api_list", api_list), ("standardized_queries", queries), ("raw_queries", raw)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


@pytest.fixture
def settings(tmp_path):
    write(tmp_path / "eval_nexus")
    return SuiteSettings(data=tmp_path, cache=tmp_path / "cache")


def ask(suite, example):
    going = suite.play(example)
    return next(going), going


def verdict(suite, example, answer):
    _, going = ask(suite, example)
    with pytest.raises(StopIteration) as end:
        going.send(answer if isinstance(answer, Answer) else Answer([answer], []))
    return end.value.value


def test_questions_come_with_their_functions(settings):
    suite = make_suite("nexus", settings)
    assert suite.untested
    first, second, third = suite.examples()
    assert [e.id for e in (first, second, third)] == ["virustotal/0", "emailrep/0", "toolllm/0"]
    assert [f.name for f in first.data.functions] == ["report", "ping"]
    system, user = ask(suite, first)[0].messages
    assert user == {"role": "user", "content": "What of 1.2.3.4?"}
    prompt = system["content"]
    assert "def report(ip: str, limit: int = 10, tags: list = ['a', 'b'], key = None):" in prompt
    assert '"""Reports.\n"""' in prompt
    # A task's functions are its own, though another has one of the same name.
    assert [p.name for p in second.data.functions[0].parameters] == ["email"]
    assert third.data.arguments == {"lat": 1, "lon": 2, "day": "2017 - 12 - 20"}
    assert [e.id for e in make_suite("nexus:toolllm+emailrep", settings).examples()] == ["emailrep/0", "toolllm/0"]


def test_native_tools_are_schemas_and_calls_in_the_models_own_format(settings):
    suite = make_suite("nexus", replace(settings, native_tools=True))
    first = suite.examples()[0]
    question = ask(suite, first)[0]
    assert question.messages == [{"role": "user", "content": "What of 1.2.3.4?"}]
    assert question.tools[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {"ip": {"type": "string"}, "limit": {"type": "integer"}, "tags": {"type": "array"}, "key": {}},
        "required": ["ip"],
    }
    call = '<tool_call>\n{"name": "report", "arguments": {"ip": "1.2.3.4", "limit": 3}}\n</tool_call>'
    assert verdict(suite, first, call).score == 1
    assert verdict(suite, first, call.replace("3}", "4}")).reason == "wrong arguments: limit"


ANSWERS = [
    ("report(ip='1.2.3.4', limit=3)", 1),
    ("report(limit=3, ip='1.2.3.4', tags=['a', 'b'], key=None)", 1),
    ("report('1.2.3.4', 3)", 1),
    ("report('1.2.3.4', limit=3.7)", 1),  # keyword numbers are cut to integers …
    ("report('1.2.3.4', 3.7)", 0),  # … positional ones are not
    ("```python\nreport(ip='1.2.3.4', limit=3)\n```", 1),
    ("`report(ip='1.2.3.4', limit=3)`", 1),
    ("report(ip='1.2.3.4', limit=3)\nreport(ip='wrong')", 1),  # the first call counts
    ("report(ip='1.2.3.4')", 0),
    ("report(ip='1.2.3.4', limit='3')", 0),
    ("report(ip='1.2.3.4', limit=3, tags=['b', 'a'])", 0),
    ("report(limit=3)", 0),
    ("report(ip='1.2.3.4', limit=3, more=1)", 0),
    ("report('1.2.3.4', 3, ip='1.2.3.4')", 0),
    ("report('1.2.3.4', 3, ['a', 'b'], None, 5)", 0),
    ("report(ip='1.2.3.4', limit=1e999)", 0),
    ("report(ip='1.2.3.4', limit=int('3'))", 0),
    ("report(ip='1.2.3.4', limit=", 0),
    ("ping()", 0),
    ("reports(ip='1.2.3.4', limit=3)", 0),
    ("__import__('os').abort()", 0),
    ("I would report it.", 0),
    ("", 0),
]


@pytest.mark.parametrize(("answer", "score"), ANSWERS)
def test_a_call_is_right_if_its_function_and_all_arguments_are(settings, answer, score):
    suite = make_suite("nexus", settings)
    result = verdict(suite, suite.examples()[0], answer)
    assert result.score == score
    assert bool(result.reason) == (score == 0)
    json.dumps(result.detail)


def executed(source, answer):
    """Name and arguments as the official evaluation gets them: by running a stub. Fit for our own answers only."""
    space = {}
    exec(source + "\n    return locals()", space)
    call = ast.parse(answer).body[0].value
    keywords = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    keywords = {k: int(v) if isinstance(v, float) else v for k, v in keywords.items()}
    return call.func.id, space[call.func.id](*[ast.literal_eval(value) for value in call.args], **keywords)


# The official evaluation knows no fences, and one answer is not to be run.
RUNNABLE = [(answer, score) for answer, score in ANSWERS if "`" not in answer and "__import__" not in answer]


@pytest.mark.parametrize(("answer", "score"), RUNNABLE)
def test_the_rule_is_that_of_running_stubs(settings, answer, score):
    suite = make_suite("nexus", settings)
    question = suite.examples()[0].data
    source = question.functions[0].source()
    try:
        right = executed(source, answer) == ("report", question.arguments)
    except (SyntaxError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError):
        right = False
    assert right == bool(score)


@pytest.mark.parametrize(
    ("answer", "score"),
    [("weather(1.2, 2.9)", 1), ("weather(lat=1, lon=2, day='2017 - 12 - 20')", 1), ("weather(1)", 0), ("nothing()", 0)],
)
def test_toolllms_functions_cut_every_number(settings, answer, score):
    suite = make_suite("nexus:toolllm", settings)
    assert verdict(suite, suite.examples()[0], answer).score == score


def test_a_model_that_can_not_answer_is_wrong(settings):
    suite = make_suite("nexus", settings)
    result = verdict(suite, suite.examples()[0], Answer([], [], "the prompt is too long"))
    assert (result.score, result.reason) == (0.0, "the prompt is too long")


def test_defaults_that_are_required_are_not_looked_at():
    function = Function("f", "", (Parameter("a", "", True), Parameter("b", "", False, 2)))
    assert function.bind([1], {}) == {"a": 1, "b": 2}
    with pytest.raises(TypeError, match="lacks the argument a"):
        function.bind([], {"b": 1})


def test_tables_come_from_the_hub_at_a_pinned_commit(tmp_path, monkeypatch):
    write(tmp_path / "hub")
    asked = []

    def download(repository, name, *, repo_type, revision):
        asked.append((repository, name.partition("/")[0], repo_type, revision))
        return tmp_path / "hub" / f"{name.partition('/')[0]}.parquet"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    settings = SuiteSettings(data=None, cache=tmp_path / "cache")
    suite = make_suite("nexus", settings)
    assert len(suite.examples()) == 3
    commit = suite.version()["commit"]
    tables = ("standardized_queries", "standardized_api_list", "raw_queries")
    assert asked == [("Nexusflow/NexusRaven_API_evaluation", table, "dataset", commit) for table in tables]
    assert make_suite("nexus", settings).version() == suite.version()
    assert len(asked) == 3  # kept


def test_an_unknown_task_is_said(settings):
    with pytest.raises(InputError, match="nexus has no task 'x'; choose from cve_cpe, "):
        make_suite("nexus:x", settings)


@pytest.mark.parametrize(
    ("table", "rows", "words"),
    [
        (
            "queries",
            [{**QUERIES[0], "context_functions": ["nowhere"]}],
            "standardized_queries.parquet: row 1 is not a que",
        ),
        ("queries", [QUERIES[0], {**QUERIES[0], "python_args_dict": "{"}], "standardized_queries.parquet: row 2"),
        ("queries", [{**QUERIES[0], "python_args_dict": '{"x": 1}'}], "report has no argument x"),
        ("api_list", [{"dataset": "virustotal"}], "standardized_api_list.parquet: row 1 is not a function"),
        ("raw", [{"dataset": "toolllm", "query_dict": "{}"}], "raw_queries.parquet: row 1 is not a question"),
        (
            "raw",
            [{"dataset": "toolllm", "query_dict": json.dumps({**TOOLLLM, "context": ["x = 1"]})}],
            "it does not define a function",
        ),
        (
            "raw",
            [{"dataset": "toolllm", "query_dict": json.dumps({**TOOLLLM, "Output": "no call"})}],
            "row 1 is not a que",
        ),
    ],
)
def test_bad_tables_are_named(settings, table, rows, words):
    write(settings.data / "eval_nexus", **{table: rows})
    with pytest.raises(InputError) as error:
        make_suite("nexus", settings).examples()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_table_is_named(settings):
    (settings.data / "eval_nexus" / "raw_queries.parquet").write_text("<html>")
    with pytest.raises(InputError, match=r"raw_queries\.parquet: can't be read as a Parquet table"):
        make_suite("nexus", settings).examples()
