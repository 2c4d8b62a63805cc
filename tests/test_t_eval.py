"""T-Eval: its files, its rules for each ability, and its summary."""

import json
import re

import networkx
import numpy as np
import pytest
from engines_at_hand import ScriptedEngine
from hypothesis import given
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.engines.base import Sampling
from rolewise.evaluation.prompting import Prompter
from rolewise.evaluation.runner import Runner
from rolewise.evaluation.suite import SuiteSettings
from rolewise.evaluation.suites import make_suite, t_eval
from rolewise.evaluation.suites.t_eval import PARTS, TEval, rules

JSON_TEMPLATE = {"thought": "goal", "action": "name", "args": "params"}
TEXT_TEMPLATE = {
    "thought_start": "goal: ",
    "thought_end": "\n\n",
    "action_start": "name: ",
    "action_end": "\n\n",
    "args_start": "args: ",
    "args_end": "\n",
}
ACTION = {"action": "Air.search", "args": {"place": "Berlin", "limit": 3}}
STEP = {"thought": "I look for rooms.", "name": "Air.search", "args": {"place": "Berlin"}}
PLAN = [
    {"id": 0, "name": "Air.search", "args": {"place": "Berlin"}},
    {"id": 1, "name": "Mail.send", "args": {"to": "me"}},
    {"id": 2, "name": "FinishAction", "args": {}},
]
PROMPT = [
    {"role": "system", "content": "You have tools."},
    {"role": "user", "content": "Find a room."},
    {"role": "assistant", "content": "I call."},
    {"role": "function", "content": "a result"},
    {"role": "user", "content": "Go on."},
]


class WordOverlap:
    """Alike by the share of words in common."""

    def cosines(self, first, second):
        return np.array([[self.one(a, b) for b in second] for a in first], dtype=float).reshape(len(first), len(second))

    def one(self, a, b):
        a, b = set(a.split()), set(b.split())
        return len(a & b) / max(len(a | b), 1)

    def describe(self):
        return {"model": "words"}


def example(truth, **more):
    return {"origin_prompt": PROMPT, "ground_truth": truth, **more}


FILES = {
    "instruct_v2.json": {
        "0_json": example(ACTION, template=JSON_TEMPLATE, meta_data={"response_format": "json"}),
        "0_string": example(ACTION, template=TEXT_TEMPLATE, meta_data={"response_format": "string"}),
    },
    "plan_json_v2.json": {"0": example(PLAN)},
    "plan_str_v2.json": {"0": example(json.dumps(PLAN), meta={"API_list": ["Air.search", "Mail.send"]})},
    "reason_str_v2.json": {"0": example(STEP, meta_data={"response_format": "str"})},
    "retrieve_str_v2.json": {"0": example(json.dumps(STEP))},
    "understand_str_v2.json": {"0": example({**STEP, "args": "Berlin"})},
    "reason_retrieve_understand_json_v2.json": {"0": example(json.dumps(STEP))},
    "review_str_v2.json": {"0": example({"answer": "B"}, template="", meta_data={"response_format": "str"})},
}
RIGHT = {
    "instruct_json": json.dumps({"goal": "g", "name": "Air.search", "params": {"place": "Berlin", "limit": 3}}),
    "instruct_string": "goal: g\n\nname: Air.search\n\nargs: {'place': 'Berlin', 'limit': 3}\n",
    "plan_json": json.dumps(PLAN),
    # Sentences are compared with arguments as they are written.
    "plan_str": "Air.search {'place': 'Berlin'}. Mail.send {'to': 'me'}",
    "reason_str": "I look for rooms.",
    "retrieve_str": "I take Air.search",
    "understand_str": "'Berlin'",
    "rru_json": "So: " + json.dumps(STEP),
    "review_str": "Answer: B",
}


@pytest.fixture
def settings(tmp_path):
    folder = tmp_path / "eval_teval"
    folder.mkdir()
    for name, records in FILES.items():
        (folder / name).write_text(json.dumps(records))
    return SuiteSettings(data=tmp_path, cache=tmp_path / "cache")


@pytest.fixture
def no_encoder(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(t_eval, "SentenceEmbedding", refuse)


def played(suite, tokenizer, answers):
    """Results of the suite, with an answer for each category."""
    examples = suite.examples()
    waiting = {number: answers[example.category] for number, example in enumerate(examples)}
    # The engine hands the newest request back first; with one at a time the order is the examples'.
    engine = ScriptedEngine(tokenizer, lambda prompt, sample: waiting[len(engine.asked) - 1], concurrency=1)
    results = [(p.example, p.verdict) for p in Runner(engine, Prompter(tokenizer), Sampling()).play(suite, examples)]
    return engine, results


def test_right_answers_score_one_in_every_ability(settings, chatml_tokenizer):
    suite = TEval(settings, WordOverlap())
    assert suite.untested
    engine, results = played(suite, chatml_tokenizer, {**RIGHT, "plan_str": RIGHT["plan_str"]})
    scores = {score.name: score for score in suite.summarise(results)}
    assert list(scores) == ["overall", "instruct", "plan", "reason", "retrieve", "understand", "review"]
    assert all(score.note == "" for score in scores.values())
    assert {name: score.value for name, score in scores.items() if name not in ("overall", "plan")} == dict.fromkeys(
        ("instruct", "reason", "retrieve", "understand", "review"), 1.0
    )
    assert scores["retrieve"].count == 2
    prompt = engine.asked[0][0]
    assert prompt.count("<|im_start|>") == 5  # system, user, assistant, user, and the answer's header
    assert "a result\nGo on." in prompt


def test_the_overall_score_is_the_mean_of_abilities_and_an_ability_that_of_its_formats(settings, chatml_tokenizer):
    suite = TEval(settings, WordOverlap())
    half = {**RIGHT, "instruct_string": "nothing", "rru_json": "nothing", "review_str": "A"}
    _, results = played(suite, chatml_tokenizer, half)
    scores = {score.name: score.value for score in suite.summarise(results)}
    assert (scores["instruct"], scores["reason"], scores["retrieve"], scores["understand"]) == (0.5,) * 4
    assert scores["review"] == 0
    assert scores["overall"] == pytest.approx(sum(v for k, v in scores.items() if k != "overall") / 6)


@pytest.mark.usefixtures("no_encoder")
def test_without_the_embedding_model_the_rest_is_scored_and_called_partial(settings, chatml_tokenizer):
    suite = make_suite("t_eval", settings)
    assert {e.category for e in suite.examples()} == {*RIGHT} - {"plan_json", "plan_str", "reason_str"}
    _, results = played(suite, chatml_tokenizer, RIGHT)
    overall, *abilities = suite.summarise(results)
    assert overall.note == "partial: without plan, reason"
    assert overall.value == 1
    assert [score.name for score in abilities] == ["instruct", "retrieve", "understand", "review"]
    assert suite.version()["similarity"] is None
    with pytest.raises(InputError, match=r"need the model .*all-mpnet-base-v2"):
        make_suite("t_eval:plan_json+reason_str", settings)


def test_parts_are_chosen_by_name_and_the_model_is_not_asked_for_in_vain(settings, chatml_tokenizer, monkeypatch):
    monkeypatch.setattr(t_eval, "SentenceEmbedding", lambda *names: pytest.fail("not needed"))
    suite = make_suite("t_eval:review_str+retrieve_str", settings)
    assert [e.id for e in suite.examples()] == ["retrieve_str/0", "review_str/0"]
    _, results = played(suite, chatml_tokenizer, RIGHT)
    assert suite.summarise(results)[0].note.startswith("partial: without instruct, plan, reason, retrieve in rru_json")
    with pytest.raises(InputError, match="t_eval has no part 'x'; choose from instruct, "):
        make_suite("t_eval:x", settings)


def test_a_local_embedding_model_is_used(settings, monkeypatch):
    (settings.data / "all-mpnet-base-v2").mkdir()
    monkeypatch.setattr(t_eval, "SentenceEmbedding", lambda *names: (WordOverlap(), names)[0])
    assert make_suite("t_eval", settings).version()["similarity"] == {"model": "words"}
    assert {e.id.partition("/")[0] for e in make_suite("t_eval", settings).examples()} == set(PARTS)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  x  ", "x"),
        ("```json\n{}\n```", "{}"),
        ("answer<|im_end|>more", "answer"),
        ("answer\nuser\nand?", "answer"),
        ("`a`", "a"),
        ("", ""),
    ],
)
def test_predictions_are_cleaned(text, cleaned):
    assert rules.clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "opening", "closing", "value"),
    [
        ('{"a": true}', "", "", {"a": True}),
        ("{'a': None, 'b': 'it\\'s'}", "", "", {"a": None, "b": "it's"}),
        ("see {'a': 1} there", "{", "}", {"a": 1}),
        ('```json\n["x"]```', "[", "]", ["x"]),
        ({"a": 1}, "", "", {"a": 1}),
        ("3", "", "", 3),
    ],
)
def test_values_are_read_in_either_notation(text, opening, closing, value):
    assert rules.read_value(text, opening, closing) == value


@pytest.mark.parametrize(
    "text", ["", "hm", "{", "{'a': f()}", "{1: 2} and", "[" * 5000, "-" * 5000, "__import__('os')"]
)
def test_what_is_no_value_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        rules.read_value(text)
    assert rules.thought_name_and_arguments(text) == {}
    assert rules.plan_in_json(text) == []


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (RIGHT["instruct_json"], 1),
        ('{"goal": 1, "name": "Air.search", "params": {"place": "Berlin"}}', 0.5 + 0.5 * 2 / 3),
        ('{"goal": 1, "name": "other", "params": "no object"}', 0.5),
        ('{"goal": 1, "name": "Air.search"}', 0),
        ('["goal", "name", "params"]', 0),
        ("", 0),
    ],
)
def test_following_a_json_format(text, score):
    assert rules.instruct(text, JSON_TEMPLATE, ACTION, "json") == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (RIGHT["instruct_string"], 1),
        (
            "Well: goal: a\n\nname: b\n\nname: Air.search\n\nargs: {'place': 'Berlin', 'limit': '3'}\n",
            0.5 + 0.5 * 2 / 3,
        ),
        ("goal: g\n\nname: Air.search\n\nargs: Berlin\n", 0.5 + 0.5 / 3),
        ("goal: g\n\nname: Air.search\n\nargs: {}", 0.5 + 0.5 / 3),  # its end is a line's, which is stripped
        ("goal: g\n\nname: Air.search\n\nargs: {'place': 'Berlin', 'limit': 3}\nThat is all.", 1),
        ("goal: g\n\nname: Air.search\n\n", 0),  # cut off
        ("name: Air.search\n\nargs: {}\n", 0),
        ("goal: " * 2000 + "\n\nname: " * 2000, 0),
        ("", 0),
    ],
)
def test_following_a_format_of_texts(text, score):
    assert rules.instruct(text, TEXT_TEMPLATE, ACTION, "string") == pytest.approx(score)


def slow_texts(text, template):
    """As T-Eval reads them, by a greedy regular expression; fit for templates without its signs."""
    parts = ("thought", "action", "args")
    pattern = "".join(template[f"{part}_start"] + "(.*)" + template[f"{part}_end"] for part in parts)
    found = re.findall(pattern, text, re.DOTALL)
    return (found[0][1].strip(), found[0][2].strip()) if found else None


@given(st.lists(st.sampled_from(["T", "t", "A", "a", "R", "r", "x"]), max_size=14).map("".join))
def test_texts_are_read_as_by_a_greedy_expression(text):
    pieces = {"thought_start": "T", "thought_end": "t", "action_start": "A", "action_end": "a", "args_start": "R"}
    for end in ("r", ""):
        template = {**pieces, "args_end": end}
        assert rules._between(text, template) == slow_texts(text, template)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Air.search", 1),
        ("call Air.search, again Air.search", 1),
        ("Air.search or Mail.send", 0),
        ("Air.search then FinishAction", 0),
        ("Air.searching", 0),
        ("search", 0),
        ("", 0),
    ],
)
def test_retrieving_by_name(text, score):
    assert rules.retrieve_in_text(text, "Air.search") == score


def test_understanding_compares_arguments_as_texts():
    assert rules.understand({"a": 1, "b": "x", "c": 0}, {"a": "1", "b": "y"}) == 0.5
    assert rules.understand({}, {}) == 1
    assert rules.understand({"a": 1}, {}) == 0
    assert rules.understand_in_text("'\"Berlin\"'", "Berlin") == 1
    assert rules.understand_in_text("Berlin!", "Berlin") == 0


@pytest.mark.parametrize(
    ("text", "score"),
    [("Answer: B", 1), ("B", 1), ("B. because", 1), ("Answer: A", 0), ("x: y: B", 0), ("", 0), ("F", 0)],
)
def test_reviewing_by_choice(text, score):
    assert rules.review(text, "B") == score
    assert rules.review("Answer: F", "F") == 0  # no such choice


def test_a_plan_in_sentences_names_an_api_each():
    text = "First use Mail.send and Air.search. Nothing here\nThen Air.search with Berlin."
    assert rules.plan_in_text(text, ["Air.search", "Mail.send"]) == [
        {"name": "Mail.send", "id": 0, "args": "First use Mail.send and Air.search"},
        {"name": "Air.search", "id": 1, "args": "Then Air.search with Berlin."},
    ]
    assert rules.plan_in_text("", ["Air.search"]) == []


@pytest.mark.parametrize(
    "text", ['[{"id": "x", "name": "a", "args": 1}]', '[{"name": "a"}]', '{"a": 1}', "[1]", '[{"id": 1e999}]', "5"]
)
def test_plans_that_can_not_be_read_are_empty(text):
    assert rules.plan_in_json(text) == []


class FixedSimilarity:
    """Cosines from tables: one for names, then one for arguments."""

    def __init__(self, names, arguments):
        self.tables = [names, arguments]

    def cosines(self, first, second):
        return self.tables.pop(0)


def slow_f1(alike):
    """As T-Eval finds it: a matching in a graph, then the longest rising subsequence over all steps."""
    graph = networkx.Graph()
    predicted, reference = alike.shape
    for i in range(predicted):
        for j in range(reference):
            if alike[i, j] > 0.8:
                graph.add_edge(("p", i), ("r", j), weight=alike[i, j])
    partner = {}
    for a, b in networkx.max_weight_matching(graph):
        (_, i), (_, j) = sorted((a, b))
        partner[i] = j
    lengths = [1] * predicted
    for i in range(predicted):
        for k in range(i):
            if i in partner and k in partner and partner[k] < partner[i]:
                lengths[i] = max(lengths[i], lengths[k] + 1)
    recall, precision = max(lengths) / reference, max(lengths) / predicted
    return 2 * recall * precision / (recall + precision)


@pytest.mark.parametrize("seed", range(30))
def test_plans_are_matched_as_by_a_graph(seed):
    generator = np.random.default_rng(seed)
    predicted, reference = generator.integers(1, 7, size=2)
    names = generator.uniform(0.5, 1.2, size=(predicted, reference)).clip(max=1)
    arguments = generator.uniform(-1, 1, size=(predicted, reference))
    plans = [[{"name": "f", "id": i, "args": ""} for i in range(size)] for size in (predicted, reference)]
    found = rules.plan_f1(*plans, FixedSimilarity(names, arguments))
    assert found == pytest.approx(slow_f1(0.75 * names + 0.25 * arguments.clip(min=0)))


def test_a_plan_is_scored_without_its_last_finish_in_the_order_of_its_ids():
    plan = rules.plan_in_json(PLAN)
    assert rules.plan_f1(plan[::-1], plan, WordOverlap()) == 1
    swapped = [{**plan[1], "id": 0}, {**plan[0], "id": 1}]
    assert rules.plan_f1(swapped, plan, WordOverlap()) == pytest.approx(0.5)
    assert rules.plan_f1(plan[2:], plan, WordOverlap()) == 0
    assert rules.plan_f1([], plan, WordOverlap()) == 0


@pytest.mark.usefixtures("no_encoder")
@pytest.mark.parametrize("nonsense", ["", "{", "[]", "Answer:", "null", "```json"])
def test_nonsense_scores_nothing_anywhere(settings, chatml_tokenizer, nonsense):
    suite = TEval(settings, WordOverlap())
    _, results = played(suite, chatml_tokenizer, dict.fromkeys(RIGHT, nonsense))
    assert suite.summarise(results)[0].value == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("instruct_v2.json", "{", "can't be read as JSON"),
        ("instruct_v2.json", "[]", "expected a JSON object of examples"),
        ("instruct_v2.json", '{"k": []}', "example 'k' is not one of T-Eval's instruct"),
        ("instruct_v2.json", json.dumps({"k": {**FILES["instruct_v2.json"]["0_json"], "template": {}}}), "example 'k'"),
        ("plan_str_v2.json", json.dumps({"k": example(PLAN)}), "example 'k' is not one of T-Eval's plan_str"),
        ("review_str_v2.json", json.dumps({"k": example({})}), "example 'k'"),
        ("retrieve_str_v2.json", json.dumps({"k": {**example(STEP), "origin_prompt": [{"role": "x"}]}}), "example 'k'"),
    ],
)
def test_files_that_are_none_of_t_evals_are_named(settings, name, content, words):
    (settings.data / "eval_teval" / name).write_text(content)
    with pytest.raises(InputError) as error:
        TEval(settings, WordOverlap()).examples()
    assert name in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("no_encoder")
def test_files_come_from_the_hub_at_a_pinned_commit(settings, tmp_path, monkeypatch):
    asked = []

    def download(repository, name, *, repo_type, revision):
        asked.append((repository, name, repo_type, revision))
        return settings.data / "eval_teval" / name.removeprefix("data/")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    suite = make_suite("t_eval:instruct", SuiteSettings(data=None, cache=tmp_path / "cache"))
    assert len(suite.examples()) == 2
    assert asked == [("lovesnowbest/T-Eval", "data/instruct_v2.json", "dataset", suite.version()["commit"])]
