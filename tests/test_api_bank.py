"""API-Bank: ToolRL's rule against a plain reading of it, on good, partial and malformed responses; the real data."""

import json
import random

import pytest

from rolewise.core.errors import InputError
from rolewise.evaluation.examples import Example
from rolewise.evaluation.suite import Answer, SuiteSettings
from rolewise.evaluation.suites import make_suite
from rolewise.evaluation.suites.api_bank import ApiBank

REFERENCES = [
    {"name": "AddAlarm", "parameters": {"token": "z9x8", "time": "2023-10-01 07:00:00"}},
    {"name": "Größe", "parameters": {"stadt": "Köln 🙂", "n": 1, "yes": True}},
    {"name": "Nested", "parameters": {"a": {"b": [1, {"c": None}]}, "d": 1.5}},
    {"name": "Empty", "parameters": {}},
]


def play(record, text):
    """The verdict on a response."""
    suite = ApiBank(SuiteSettings(data=None, cache=None))
    asking = suite.play(Example("Level1_0", "level-1", record))
    ask = next(asking)
    assert [message["role"] for message in ask.messages] == ["system", "user"]
    with pytest.raises(StopIteration) as ended:
        asking.send(Answer([text], []))
    return ended.value.value


def record_of(reference):
    return {"system": "Use the tools.", "user": "Set it.", "answer": [reference]}


def expected_verdict(text, reference):
    """The rule, written as plainly as possible: find the block, walk over its lines, stop where the rule stops."""
    start = text.rfind("<tool_call>")
    block = text if start < 0 else text[start + len("<tool_call>") :]
    end = block.find("</tool_call>")
    if end >= 0:
        block = block[:end]
    for line in block.strip().split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return 0
        if value is None or isinstance(value, int | float):
            return 0
        whole = "name" in value and "parameters" in value
        if whole and not isinstance(value, dict):
            return 0
        if whole and value["name"] == reference["name"] and value["parameters"] == reference["parameters"]:
            return 1
        if not whole and value == reference["parameters"]:
            return 1
    return 0


def responses(rng, reference):
    """Responses around a reference call: blocks of a few random lines in random wrappings."""
    name, parameters = reference["name"], reference["parameters"]
    good = json.dumps(reference, ensure_ascii=rng.random() < 0.5)
    without_first = dict(list(parameters.items())[1:])
    lines = [
        good,
        good,
        f"  {good}\t",
        good + "\r",
        json.dumps({"parameters": parameters, "name": name, "id": 3}),
        json.dumps(parameters),
        json.dumps({"name": name, "parameters": without_first}),
        json.dumps({"name": name, "parameters": {**parameters, "more": 1}}),
        json.dumps({"name": "Other", "parameters": parameters}),
        json.dumps({"name": name, "arguments": parameters}),
        json.dumps({"name": name, "parameters": json.dumps(parameters)}),
        json.dumps([reference]),
        json.dumps(good),
        json.dumps(json.dumps(good)),
        json.dumps(["name", "parameters"]),
        json.dumps("name parameters"),
        '{"name": "x", "name": ' + json.dumps(name) + ', "parameters": ' + json.dumps(parameters) + "}",
        '{"parameters": ' + json.dumps(parameters) + ', "parameters": {}, "name": ' + json.dumps(name) + "}",
        json.dumps(reference, indent=1),
        good[:-1],
        good + good,
        "```json",
        "No call is needed.",
        "",
        "17",
        "null",
        "true",
        "NaN",
        "{}",
        "[" * 5000,
        good.replace("1", "1.0").replace("true", "1"),
        "\u2028" + good,
        good + "\u2028" + good,
    ]
    for _ in range(4):
        block = "\n".join(rng.choices(lines, k=rng.choice([1, 1, 2, 3])))
        yield rng.choice(
            [
                f"<think> … </think>\n<tool_call>\n{block}\n</tool_call>",
                f"<tool_call>{block}</tool_call>",
                f"<tool_call>\n{block}",
                f"{block}\n</tool_call>",
                block,
                f"<tool_call>\n{block}\n</tool_call>\n<response> Done. </response>",
                f"<tool_call>\n{good}\n</tool_call>\n<tool_call>\n{block}\n</tool_call>",
                f"<tool_call>\n{block}\n</tool_call>\n{good}",
                f"<tool_call>\n<tool_call>\n{block}\n</tool_call>\n</tool_call>",
                f"<tool_call>\n{block}\n</tool_call>\n<tool_call>",
            ]
        )


def test_verdicts_are_the_rules_on_responses_of_every_kind():
    rng = random.Random(0)
    verdicts = []
    for _ in range(400):
        for reference in REFERENCES:
            for text in responses(rng, reference):
                got = play(record_of(reference), text).score
                assert got == expected_verdict(text, reference), f"{reference}: {text!r}"
                verdicts.append(got)
    assert len(verdicts) == 6400
    assert 0.1 < sum(verdicts) / len(verdicts) < 0.9  # the rule is tried on both sides


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('<tool_call>\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>', 1),
        ('{"name": "f", "parameters": {"a": 1}}', 1),
        ('<tool_call>\n{"name": "g", "parameters": {}}\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>', 1),
        ('<tool_call>\n{"a": 1}\n</tool_call>', 1),  # the name is granted
        ('<tool_call>\n5\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>', 0),  # a number ends the search
        ('<tool_call>\noops\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>', 1),  # what is no JSON does not
        ('<tool_call>\n{"name": "f", "parameters": {"a": 1}}\n</tool_call><tool_call></tool_call>', 0),
        ("", 0),
        ("\0", 0),
    ],
)
def test_single_responses(text, right):
    assert play(record_of({"name": "f", "parameters": {"a": 1}}), text).score == right


def test_an_engine_that_can_not_answer_is_wrong_and_says_why():
    suite = ApiBank(SuiteSettings(data=None, cache=None))
    asking = suite.play(Example("Level1_0", "level-1", record_of(REFERENCES[0])))
    next(asking)
    with pytest.raises(StopIteration) as ended:
        asking.send(Answer([], [], error="the prompt is longer than the context"))
    assert (ended.value.value.score, ended.value.value.reason) == (0, "the prompt is longer than the context")


def write_levels(folder, records):
    (folder / "eval_apibank").mkdir()
    for level in (1, 2, 3):
        path = folder / "eval_apibank" / f"level-{level}-api_processed.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records[level]))


def test_levels_are_counted_apart_and_together(tmp_path):
    levels = {
        1: [record_of(REFERENCES[0])] * 3,
        2: [record_of(REFERENCES[1]) | {"answer": REFERENCES[1]}],
        3: [record_of(REFERENCES[2])],
    }
    write_levels(tmp_path, levels)
    suite = make_suite("api_bank", SuiteSettings(data=tmp_path, cache=tmp_path / "cache"))
    examples = suite.examples()
    assert [example.id for example in examples] == ["Level1_0", "Level1_1", "Level1_2", "Level2_0", "Level3_0"]
    assert all("not a file that is known" in identity for identity in suite.version()["data"].values())
    answers = [REFERENCES[0], REFERENCES[0], REFERENCES[1], REFERENCES[1], REFERENCES[0]]
    results = [(e, play(e.data, json.dumps(answer))) for e, answer in zip(examples, answers, strict=True)]
    scores = {score.name: (score.value, score.count) for score in suite.summarise(results)}
    assert scores == {"overall": (0.6, 5), "level-1": (2 / 3, 3), "level-2": (1, 1), "level-3": (0, 1)}
    suite.write_official(results, tmp_path)
    official = json.loads((tmp_path / "result.json").read_text())
    assert official["Level2_0"] == {"data": levels[2][0], "tool_calls": [REFERENCES[1]]}


@pytest.mark.parametrize("broken", [{"user": 1}, {"answer": []}, {"answer": [{"name": "f"}]}, {"answer": ["f"]}])
def test_records_of_another_kind_are_refused(tmp_path, broken):
    good = [record_of(REFERENCES[0])]
    write_levels(tmp_path, {1: good, 2: [*good, good[0] | broken], 3: good})
    with pytest.raises(InputError, match=r"level-2-api_processed\.jsonl: record 2: expected system and user texts"):
        make_suite("api_bank", SuiteSettings(data=tmp_path, cache=tmp_path)).examples()


def test_nothing_may_follow_the_name(tmp_path):
    with pytest.raises(InputError, match="api_bank takes nothing after its name"):
        make_suite("api_bank:1", SuiteSettings(data=tmp_path, cache=tmp_path))


def test_the_real_references_are_right_and_other_names_wrong(data_dir, tmp_path):
    suite = make_suite("api_bank", SuiteSettings(data=data_dir, cache=tmp_path))
    examples = suite.examples()
    counts = {name: sum(e.category == name for e in examples) for name in ("level-1", "level-2", "level-3")}
    assert counts == {"level-1": 399, "level-2": 67, "level-3": 131}
    assert not any("not a file that is known" in identity for identity in suite.version()["data"].values())
    for example in examples:
        answer = example.data["answer"]
        call = answer[0] if isinstance(answer, list) else answer
        assert play(example.data, f"<tool_call>\n{json.dumps(call)}\n</tool_call>").score == 1
        assert play(example.data, json.dumps(call | {"name": call["name"] + "2"})).score == 0
