"""StableToolBench: the loop of calls, who answers them, the judge's votes, and what becomes of bad answers."""

import json
from dataclasses import replace

import pytest
from chat_server import chat_server, completion
from engines_at_hand import ScriptedEngine

from rolewise.core.errors import InputError
from rolewise.engines.base import EngineError, Sampling
from rolewise.evaluation.examples import Verdict
from rolewise.evaluation.prompting import Prompter
from rolewise.evaluation.runner import Runner
from rolewise.evaluation.suite import Answer, SuiteSettings
from rolewise.evaluation.suites import make_suite
from rolewise.evaluation.suites.stable_toolbench import DEFAULT_SUBSETS, StableToolBench
from rolewise.evaluation.suites.stable_toolbench.apis import Api, standard_category, standard_name
from rolewise.evaluation.suites.stable_toolbench.chain import MAX_TURNS
from rolewise.evaluation.suites.stable_toolbench.judge import Judgement, judge_answer, read_status

API = {
    "category_name": "Video, Images",
    "tool_name": "Sky & Sea",
    "api_name": "/weather/now",
    "api_description": "Tells /weather/now of a city",
    "required_parameters": [{"name": "City", "type": "STRING", "description": "where", "default": "Paris"}],
    "optional_parameters": [{"name": "id", "type": "NUMBER", "description": "", "default": ""}],
    "method": "GET",
}
FUNCTION = "weather_now_for_sky_sea"
OTHER = {**API, "api_name": "Tides", "required_parameters": [], "optional_parameters": []}
CACHED = {"error": "", "response": "sunny"}


def step(action, text):
    return f"Thought: let me see.\nAction: {action}\nAction Input: {text}"


def finish(answer):
    return step("Finish", json.dumps({"return_type": "give_answer", "final_answer": answer}))


CALL = step(FUNCTION, '{"city": "Paris"}')
GIVE_UP = step("Finish", '{"return_type": "give_up_and_restart"}')


class ScriptedChat:
    """Answers with what a function makes of the last message and the number of the answer."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self.checked = self.closed = 0

    def check(self):
        self.checked += 1

    def ask(self, messages, *, temperature=0.0, n=1, max_tokens=1024):
        self.asked.append((messages, temperature, n))
        return [self.answer(messages[-1]["content"], number) for number in range(n)]

    def describe(self):
        return {"kind": "scripted"}

    def close(self):
        self.closed += 1


@pytest.fixture
def settings(tmp_path):
    data = tmp_path / "data" / "eval_stabletoolbench"
    api = data / "tool_response_cache" / "Video_Images" / "sky_sea_for_Video_Images"
    api.mkdir(parents=True)
    (api / "weather_now.json").write_text(json.dumps({"{'city': 'Paris'}": CACHED, "{'city': 'Nice', 'is_id': 1}": {}}))
    tools = data / "tools" / "Video_Images"
    tools.mkdir(parents=True)
    (tools / "sky_sea.json").write_text(json.dumps({"tool_description": "All about\nthe coast. " * 50}))
    record = {"query": "How is Paris?", "query_id": 7, "api_list": [API, OTHER], "relevant APIs": []}
    for subset in DEFAULT_SUBSETS:
        (data / f"test_instruction__{subset}.jsonl").write_text(json.dumps(record) + "\n")
    return SuiteSettings(data=tmp_path / "data", cache=tmp_path / "cache")


def solved(text, number):
    return "It says so.\nStatus: Solved"


def make(settings, judge=solved, simulator=None, subsets=("G2_category",)):
    return StableToolBench(settings, ScriptedChat(judge), ScriptedChat(simulator) if simulator else None, subsets)


def play(suite, answers):
    """Play the first example with these answers, the last of them for ever; the verdict, and what was asked."""
    asked = []
    going = suite.play(suite.examples()[0])
    ask = next(going)
    while True:
        asked.append(ask)
        try:
            text = answers[min(len(asked), len(answers)) - 1]
            ask = going.send(text if isinstance(text, Answer) else Answer([text], []))
        except StopIteration as end:
            return end.value, asked


def test_names_are_spelled_as_the_server_spells_them():
    assert standard_name("Pack & Send") == "pack_send"
    assert standard_name("__2 Fast__") == "get_2_fast"
    assert standard_name("../..") == ""
    assert standard_category("Video, Images") == "Video_Images"
    assert standard_category("Artificial Intelligence/Machine Learning") == "Artificial_Intelligence_Machine_Learning"
    schema = Api.from_record(API).schema()["function"]
    assert schema["name"] == FUNCTION
    assert f"Tells {FUNCTION} of a city" in schema["description"]
    assert schema["parameters"] == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "where", "example_value": "Paris"},
            "is_id": {"type": "integer", "description": ""},
        },
        "required": ["city"],
    }
    long = Api.from_record({**API, "api_name": "x" * 80})
    assert len(long.function) == 64
    assert long.function.endswith("x_for_sky_sea")


def test_a_query_is_solved_by_a_cached_call_and_three_votes(settings):
    suite = make(settings)
    verdict, asked = play(suite, [CALL, finish("Paris is sunny.")])
    assert (verdict.score, verdict.detail["votes"]) == (1.0, ["solved"] * 3)
    assert verdict.detail["final_answer"] == "Paris is sunny."
    assert verdict.detail["answered_by"] == {"cache": 1}
    assert [s["name"] for s in verdict.detail["steps"]] == [FUNCTION, "Finish"]
    system, user = asked[0].messages
    assert FUNCTION in system["content"]
    assert "1. sky_sea: All aboutthe coast." in system["content"]
    assert user == {"role": "user", "content": "How is Paris?"}
    assert asked[1].messages[2:] == [
        {"role": "assistant", "content": CALL},
        {"role": "user", "content": f"Observation: {json.dumps(CACHED)}"},
    ]
    [(messages, temperature, n)] = suite._judge.asked
    assert (temperature, n) == (0.2, 3)
    assert "How is Paris?" in messages[0]["content"]
    assert "Paris is sunny." in messages[0]["content"]
    assert json.loads(json.dumps(verdict.detail)) == verdict.detail


def test_native_tools_go_through_the_template_and_come_back_as_messages(settings):
    call = f'I look.\n<tool_call>\n{{"name": "{FUNCTION}", "arguments": {{"city": "Paris"}}}}\n</tool_call>'
    done = '<tool_call>\n{"name": "Finish", "arguments": {"return_type": "give_answer", "final_answer": "sunny"}}\n'
    verdict, asked = play(make(replace(settings, native_tools=True)), [call, done + "</tool_call>"])
    assert verdict.score == 1
    assert [tool["function"]["name"] for tool in asked[0].tools] == [FUNCTION, "tides_for_sky_sea", "Finish"]
    assert FUNCTION not in asked[0].messages[0]["content"]
    turn, result = asked[1].messages[2:]
    assert turn["content"] == "I look."
    assert turn["tool_calls"][0]["function"] == {"name": FUNCTION, "arguments": {"city": "Paris"}}
    assert result["role"] == "tool"
    assert result["tool_call_id"] == turn["tool_calls"][0]["id"]
    assert json.loads(result["content"]) == CACHED


def test_several_calls_of_a_turn_are_carried_out_up_to_finish(settings):
    verdict, asked = play(make(settings), [f"{CALL}\n{CALL}\n{finish('a')}\n{CALL}"])
    assert len(asked) == 1
    assert verdict.detail["answered_by"] == {"cache": 2}


def test_a_call_that_the_cache_lacks_is_simulated_once_for_all_runs(settings):
    said = iter(["no JSON at all", '```json\n{"error": "", "response": {"tide": "low"}}\n```'])
    suite = make(settings, simulator=lambda text, _: next(said))
    elsewhere = step(FUNCTION, '{"city": "Rome"}')
    verdict, asked = play(suite, [elsewhere, elsewhere, finish("low")])
    assert verdict.detail["answered_by"] == {"simulator": 2}
    assert json.loads(asked[2].messages[-1]["content"].removeprefix("Observation: "))["response"] == {"tide": "low"}
    assert [temperature for _, temperature, _ in suite._simulator.asked] == [0.0, 0.5]
    question = suite._simulator.asked[0][0][-1]["content"]
    assert '{"city": "Rome"}' in question
    assert "sunny" in question  # an example of the cache
    assert "the coast" in question  # the documentation
    again = make(settings, simulator=lambda text, _: "never asked")
    assert play(again, [elsewhere, finish("low")])[0].detail["answered_by"] == {"simulator": 1}
    assert again._simulator.asked == []


@pytest.mark.parametrize("nonsense", ["", "sorry", "[1, 2]", "{}", '{"error": NaN, "response": 1}', '{"a": ' * 500])
def test_a_simulator_that_writes_no_json_gives_an_error_and_nothing_is_kept(settings, nonsense):
    suite = make(settings, simulator=lambda text, _: nonsense)
    verdict, asked = play(suite, [step(FUNCTION, '{"city": "Rome"}'), finish("?")])
    assert verdict.detail["answered_by"] == {"nobody": 1}
    assert "no answer that can be read" in asked[1].messages[-1]["content"]
    assert len(suite._simulator.asked) == 3
    assert not (settings.cache / "stable_toolbench").exists()


def test_a_simulators_bare_object_is_the_response(settings):
    _, asked = play(make(settings, simulator=lambda text, _: '{"tide": 1}'), [step("tides_for_sky_sea", "{}"), GIVE_UP])
    told = json.loads(asked[1].messages[-1]["content"].removeprefix("Observation: "))
    assert told == {"error": "", "response": {"tide": 1}}


@pytest.mark.parametrize(
    ("answer", "who", "told"),
    [
        (step("no_such_api", "{}"), "unknown function", "no function 'no_such_api'"),
        (step("", "{}"), "unknown function", "There is no function"),
        (step(FUNCTION, "Paris, please"), "unreadable input", "no JSON object"),
        (step(FUNCTION, '{"city": '), "unreadable input", "no JSON object"),
        (step(FUNCTION, '["Paris"]'), "unreadable input", "no JSON object"),
        (step(FUNCTION, '{"city": "Rome"}'), "nobody", "not available"),
        (step(FUNCTION, ""), "nobody", "not available"),
        (step("now_for_sky_sea", '{"city": "Paris"}'), "cache", "sunny"),  # the end of a name is enough
        ("I am stuck.", None, "no call that can be read"),
        ("", None, "no call that can be read"),
        (step("Finish", "{}"), None, "needs return_type"),
        (step("Finish", '{"return_type": "stop"}'), None, "needs return_type"),
        (step("Finish", '{"return_type": "give_answer"}'), None, "needs final_answer"),
    ],
)
@pytest.mark.parametrize("native", [False, True])
def test_the_model_is_told_what_is_wrong_and_goes_on(settings, answer, who, told, native):
    verdict, asked = play(make(replace(settings, native_tools=native)), [answer, finish("fine")])
    assert told in asked[1].messages[-1]["content"]
    assert verdict.detail["answered_by"] == ({who: 1} if who else {})
    assert verdict.score == 1


def test_a_broken_finish_is_read_as_toolbench_reads_it(settings):
    text = step("Finish", '{"return_type": "give_answer", "final_answer": "He said "yes" twice."}')
    assert play(make(settings), [text])[0].detail["final_answer"] == 'He said "yes" twice.'


@pytest.mark.parametrize(
    ("answers", "reason", "turns"),
    [
        ([GIVE_UP], "the model gave up", 1),
        ([CALL], f"no call of Finish in {MAX_TURNS} turns", MAX_TURNS),
        ([""], f"no call of Finish in {MAX_TURNS} turns", MAX_TURNS),
        ([CALL, Answer([], [], "the prompt is too long")], "the prompt is too long", 2),
        ([finish(" ")], "the final answer is empty", 1),
    ],
)
def test_what_never_answers_is_unsolved_without_asking_the_judge(settings, answers, reason, turns):
    suite = make(settings)
    verdict, asked = play(suite, answers)
    assert (verdict.score, verdict.reason, len(asked)) == (0.0, reason, turns)
    assert suite._judge.asked == []


def test_a_long_observation_is_cut(settings):
    suite = make(settings, simulator=lambda text, _: json.dumps({"response": "x" * 5000}))
    _, asked = play(suite, [step("tides_for_sky_sea", "{}"), GIVE_UP])
    observation = asked[1].messages[-1]["content"].removeprefix("Observation: ")
    assert len(observation) == 1024 + 3
    assert observation.endswith("xxx...")


def votes_of(texts):
    """A judge that answers with these texts in order, whatever the number asked for at a time."""
    waiting = iter(texts)
    return ScriptedChat(lambda text, number: next(waiting))


@pytest.mark.parametrize(
    ("texts", "votes", "unreadable", "score"),
    [
        (["Solved", "Unsolved", "Solved"], ("solved", "unsolved", "solved"), 0, 2 / 3),
        # The two that are unsure are asked again, now with the calls.
        (["Solved", "Unsure", "Unsure", "Unsolved", "Unsure"], ("solved", "unsolved", "unsure"), 0, 0.5),
        # What can't be read is asked again, three times in all.
        (["Solved", "hm", "", "Solved", "??", "Unsolved"], ("solved", "solved", "unsolved"), 0, 2 / 3),
        (["Solved", "hm", "hm", "hm", "hm", "hm", "hm"], ("solved",), 2, 1.0),
        (["hm"] * 9, (), 3, 0.0),
    ],
)
def test_votes_are_counted_by_the_rule_of_the_benchmark(texts, votes, unreadable, score):
    judge = votes_of(texts)
    judgement = judge_answer(judge, "q", "a", [{"name": "f", "arguments": {}, "response": "secret result"}])
    assert (judgement.votes, judgement.unreadable) == (votes, unreadable)
    assert judgement.score == pytest.approx(score)
    assert sum(n for _, _, n in judge.asked) == len(texts)
    with_calls = ["secret result" in messages[0]["content"] for messages, _, _ in judge.asked]
    assert any(with_calls) == ("Unsure" in texts)
    assert not with_calls[0]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Reason.\nStatus: Solved", "solved"),
        ('{"reason": "not solved before", "answer_status": "Unsure"}', "unsure"),
        ("**Status:** **Unsolved**", "unsolved"),
        ("status: solved … no, Status: unsolved", "unsolved"),
        ("Unsolved.", "unsolved"),
        ("It is solved or unsolved", None),
        ("resolved", None),
        ("", None),
    ],
)
def test_a_status_is_read_only_where_it_is_clear(text, status):
    assert read_status(text) == status


def test_the_judge_is_tried_before_the_first_question_and_once(settings):
    suite = make(settings, simulator=solved)
    next(suite.play(suite.examples()[0]))
    next(suite.play(suite.examples()[0]))
    assert (suite._judge.checked, suite._simulator.checked) == (1, 1)
    suite.close()
    assert (suite._judge.closed, suite._simulator.closed) == (1, 1)


def run(suite, tokenizer, answer):
    engine = ScriptedEngine(tokenizer, answer)
    examples = suite.examples()
    played = list(Runner(engine, Prompter(tokenizer), Sampling()).play(suite, examples))
    by_id = {p.example.id: p.verdict for p in played}
    return [(example, by_id[example.id]) for example in examples]


def test_the_whole_with_a_judge_and_a_simulator_on_a_server(settings, chatml_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")

    def reply(body):
        if body["model"] == "simulator":
            return completion('{"error": "", "response": "low tide"}')
        prompt = body["messages"][-1]["content"]
        return completion("Status: Solved" if "low tide" in prompt else "yes")

    def answer(prompt, sample):
        last = prompt.rsplit("<|im_start|>user\n", 1)[1]
        return finish("There is low tide.") if "low tide" in last else step("tides_for_sky_sea", "{}")

    with chat_server(reply) as server:
        options = {"url": server.url, "model": "judge", "key": "JUDGE_KEY", "simulator_model": "simulator"}
        suite = make_suite("stable_toolbench", replace(settings, judge=options))
        results = run(suite, chatml_tokenizer, answer)
        scores = suite.summarise(results)
        suite.write_official(results, tmp_path)
        version = suite.version()
        suite.close()
    assert [(score.name, score.value) for score in scores] == [("overall", 1.0), *((s, 1.0) for s in DEFAULT_SUBSETS)]
    assert scores[0].note == "mean of subsets; 3 calls answered by simulator 100%"
    assert suite.untested
    assert set(server.keys) == {"Bearer secret"}
    assert sum(body["model"] == "judge" for body in server.requests) == 1 + 3 * 3  # the try, then three votes each
    assert "secret" not in json.dumps(version)
    assert server.url not in json.dumps(version)

    converted = json.loads((tmp_path / "G2_category.json").read_text())["7"]
    assert [tool["name"] for tool in converted["available_tools"]] == [FUNCTION, "tides_for_sky_sea", "Finish"]
    node, roles = converted["answer"]["answer_details"][0], []
    while True:  # as the benchmark's `get_steps` walks it
        roles.append((node["role"], node["message"]["name"] if node["message"] else ""))
        if not node["next"]:
            break
        [node] = node["next"]
    assert roles == [("system", ""), ("user", ""), ("tool", "tides_for_sky_sea"), ("tool", "Finish")]
    assert json.loads(converted["answer"]["final_answer"])["final_answer"] == "There is low tide."


def test_the_overall_rate_is_the_mean_of_the_subsets(settings):
    suite = make(settings, subsets=("G2_category", "G1_tool"))
    first, second = suite.examples()
    detail = {"answered_by": {"cache": 3, "nobody": 1}, "unreadable_votes": 1}
    results = [
        (first, Verdict(1.0, "", detail)),
        (second, Verdict(0.5, "", detail)),
        (second, Verdict(0.0, "", detail)),
    ]
    overall, *subsets = suite.summarise(results)
    assert overall.value == pytest.approx((1 + 0.25) / 2)
    assert overall.count == 3
    assert "cache 75%, nobody 25%" in overall.note
    assert "3 of 9 votes" in overall.note
    assert [(s.name, s.value) for s in subsets] == [("G2_category", 1.0), ("G1_tool", 0.25)]


@pytest.mark.parametrize(
    ("name", "judge", "words"),
    [
        ("stable_toolbench", {}, "needs a judge: --judge url="),
        ("stable_toolbench", {"url": "http://h/v1", "model": "m", "votes": "3"}, "the judge has no option 'votes'"),
        ("stable_toolbench", {"url": "http://h/v1", "model": "m", "key": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ("stable_toolbench", {"url": "http://h/v1", "model": "m", "simulator_key": "X"}, "the simulator has no"),
        ("stable_toolbench:G9", {"url": "http://h/v1", "model": "m"}, "no subset 'G9'"),
    ],
)
def test_bad_options_are_said_in_one_line_before_anything_is_played(settings, name, judge, words):
    with pytest.raises(InputError) as error:
        make_suite(name, replace(settings, judge=judge))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_judge_without_its_key_stops_the_run_before_the_model_is_asked(settings, chatml_tokenizer):
    with chat_server(lambda body: (401, {})) as server:
        suite = make_suite("stable_toolbench", replace(settings, judge={"url": server.url, "model": "m"}))
        engine = ScriptedEngine(chatml_tokenizer, lambda prompt, sample: CALL)
        with pytest.raises(InputError, match=r"the judge .* rejects the key"):
            list(Runner(engine, Prompter(chatml_tokenizer), Sampling()).play(suite, suite.examples()))
        suite.close()
    assert engine.asked == []


def test_a_judge_that_goes_away_stops_the_run(settings):
    def gone(text, number):
        raise EngineError("the judge is gone")

    with pytest.raises(EngineError, match="gone"):
        play(make(settings, judge=gone), [finish("yes")])


@pytest.mark.parametrize("record", [{}, {"query": "q", "query_id": 1}, {"query": "q", "query_id": 1, "api_list": [{}]}])
def test_records_that_are_no_queries_are_named(settings, record):
    path = settings.data / "eval_stabletoolbench" / "test_instruction__G2_category.jsonl"
    path.write_text(path.read_text() + json.dumps(record) + "\n")
    with pytest.raises(InputError, match=r"test_instruction__G2_category.jsonl: record 2 is not a ToolBench query"):
        make(settings).examples()


@pytest.mark.parametrize("text", ["{broken", "[]"])
def test_a_broken_cache_is_named(settings, text):
    tool = settings.data / "eval_stabletoolbench/tool_response_cache/Video_Images/sky_sea_for_Video_Images"
    (tool / "weather_now.json").write_text(text)
    with pytest.raises(InputError, match=r"weather_now\.json: .*fix or remove"):
        play(make(settings), [CALL])


def test_an_empty_judgement_scores_nothing():
    assert Judgement(()).score == 0.0


def test_the_published_queries_can_be_read(data_dir, tmp_path):
    subsets = ("G1_category", "G1_instruction", "G1_tool", "G2_category", "G2_instruction", "G3_instruction")
    settings = SuiteSettings(data=data_dir, cache=tmp_path)
    if not (data_dir / "eval_stabletoolbench").is_dir():
        pytest.skip(f"no StableToolBench in {data_dir}")
    suite = make(settings, subsets=subsets)
    examples = suite.examples()
    assert len(examples) == len({example.id for example in examples}) == 765
    assert not any("not a pinned copy" in identity for identity in suite.version()["queries"].values())
    for example in examples:
        apis = [Api.from_record(record) for record in example.data["api_list"]]
        assert all(api.tool and api.name and api.category for api in apis)
        opening = next(suite.play(example))
        assert all(api.function in opening.messages[0]["content"] for api in apis)
