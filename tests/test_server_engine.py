"""The engine for servers, against small ones that can do less, or misbehave."""

import math
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from completions_server import ABILITIES, CompletionsServer
from transformers import PreTrainedTokenizerFast

from rolewise.core.errors import InputError
from rolewise.engines.base import Completion, EngineError, Sampling
from rolewise.engines.server import ServerEngine

PROMPTS = [[70 + i, 71, 80 + 3 * i] for i in range(12)]


@pytest.fixture(scope="session")
def tokenizer(chatml_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return chatml_tokenizer


@pytest.fixture
def serve(tokenizer: PreTrainedTokenizerFast) -> Iterator[Callable[..., CompletionsServer]]:
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(CompletionsServer(tokenizer, *args, **kwargs))


@pytest.fixture
def connect(tokenizer: PreTrainedTokenizerFast) -> Iterator[Callable[..., ServerEngine]]:
    with ExitStack() as stack:

        def make(*servers: CompletionsServer, **options: Any) -> ServerEngine:
            options = {"retries": 2, **options}
            return stack.enter_context(ServerEngine([server.url for server in servers], tokenizer, **options))

        yield make


def greedy(server: CompletionsServer, prompt: list[int], count: int = 20) -> list[int]:
    return server.continuation(prompt, count, 0.0, 0)


@pytest.mark.parametrize(
    ("abilities", "source"),
    [
        (ABILITIES, "token_ids"),
        (ABILITIES - {"token_ids"}, "token_id strings"),
        ({"content", "stop", "n", "seed"}, "logprobs content"),
        (ABILITIES - {"token_ids", "token_strings"}, "text"),
    ],
)
def test_ids_come_back_however_the_server_gives_them(abilities, source, serve, connect, tokenizer):
    server = serve(abilities)
    engine = connect(server)
    assert engine.capabilities.generated_ids == source
    got = engine.generate(PROMPTS, Sampling(max_new_tokens=20))
    reasons = set()
    for prompt, [sample] in zip(PROMPTS, got, strict=True):
        expected = greedy(server, prompt)
        if source == "text":
            assert tokenizer.decode(sample.ids) == tokenizer.decode(expected)
        else:
            assert sample.ids == expected
        assert sample.finish_reason == ("stop" if expected[-1] == tokenizer.eos_token_id else "length")
        reasons.add(sample.finish_reason)
    assert reasons == {"stop", "length"}
    assert any("tokenized again" in note for note in engine.notes) == (source == "text")


def test_what_a_server_can_do_is_found_out(serve, connect):
    engine = connect(serve())
    everything = engine.capabilities
    # vLLM on a CPU dies of the question if LoRA is on, so it is put off until someone needs the answer.
    assert everything.prompt_logprobs == "not asked"
    engine.score([[70, 71]])
    assert engine.capabilities.prompt_logprobs == "prompt_logprobs"
    for name in ("logprobs", "chosen_logprobs", "n", "seed", "stop", "stop_token_ids", "top_k", "plain_sampling"):
        assert getattr(everything, name) is True, name
    nothing = connect(serve([])).capabilities
    assert nothing.generated_ids == "text"
    for name in ("logprobs", "chosen_logprobs", "n", "seed", "stop", "stop_token_ids", "top_k"):
        assert getattr(nothing, name) is False, name
    strict = connect(serve(strict=True)).capabilities
    assert not strict.plain_sampling
    assert strict.logprobs
    assert strict.generated_ids == "text"


def test_log_probabilities_belong_to_their_tokens(serve, connect):
    server = serve()
    engine = connect(server)
    [[sample]] = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=9, logprobs=True))
    assert sample.logprobs == [server.logprob(token) for token in sample.ids]
    assert engine.generate(PROMPTS[:1], Sampling(max_new_tokens=9))[0][0].logprobs is None


@pytest.mark.parametrize("lacking", ["", "prompt_logprobs", "chosen_logprobs"])
def test_scores(lacking, serve, connect):
    server = serve(ABILITIES - {lacking})
    engine = connect(server)
    assert engine.score([[70, 71, 72], [80], [90, 91]]) == [
        [server.logprob(71), server.logprob(72)],
        [],
        [server.logprob(91)],
    ]
    assert engine.capabilities.prompt_logprobs == ("echo" if lacking == "prompt_logprobs" else "prompt_logprobs")
    told = engine.next_token_logprobs([[70, 71], [80]], [[5, 9], [7]])
    assert told == [[server.logprob(5), server.logprob(9)], [server.logprob(7)]]


@pytest.mark.parametrize("abilities", [ABILITIES, ABILITIES - {"n"}])
def test_samples_of_a_prompt_are_the_same_with_and_without_n(abilities, serve, connect):
    server = serve(abilities)
    sampling = Sampling(max_new_tokens=12, temperature=1.0, n=4, seed=3)
    samples = connect(server).generate(PROMPTS[:2], sampling)
    seed = server.bodies[-1]["seed"] if "n" in abilities else None
    assert len({tuple(sample.ids) for sample in samples[0]}) == 4
    reference = connect(serve()).generate(PROMPTS[:2], sampling)
    assert [[s.ids for s in group] for group in samples] == [[s.ids for s in group] for group in reference]
    if seed is not None:
        last = server.bodies[-1]["prompt"]
        expected = [server.continuation(last, 12, 1.0, seed + i) for i in range(4)]
        assert [s.ids for s in samples[PROMPTS.index(last)]] == expected


def test_prompts_and_seeds_draw_apart(serve, connect):
    server = serve()
    engine = connect(server)
    before = len(server.bodies)
    for seed in (1, 2):
        engine.generate(PROMPTS, Sampling(max_new_tokens=2, temperature=1.0, seed=seed))
    sent = [body["seed"] for body in server.bodies[before:]]
    assert len(set(sent)) == len(sent) == 2 * len(PROMPTS)
    assert all(0 <= seed < 2**30 for seed in sent)


@pytest.mark.parametrize("abilities", [ABILITIES, ABILITIES - {"stop", "stop_token_ids"}])
def test_samples_end_where_they_should_even_if_the_server_goes_on(abilities, serve, connect, tokenizer):
    server = serve(abilities)
    engine = connect(server)
    expected = greedy(server, PROMPTS[0])
    text = tokenizer.decode(expected)
    [[by_text]] = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=20, stop=(text[3:5], "nowhere"), logprobs=True))
    assert (by_text.ids, by_text.finish_reason) == (expected[:5], "stop")
    assert len(by_text.logprobs) == 5
    end = expected[6]
    [[by_token]] = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=20, stop_token_ids=(end,)))
    assert by_token.ids == expected[: expected.index(end) + 1]
    assert by_token.finish_reason == "stop"


@pytest.mark.parametrize("abilities", [ABILITIES, {"stop"}])
def test_answers_are_cut_where_a_server_does_not_keep_to_max_tokens(abilities, serve, connect, tokenizer):
    server = serve(abilities, max_tokens=20)
    engine = connect(server)
    got = engine.generate(PROMPTS, Sampling(max_new_tokens=6))
    assert [(sample.ids, sample.finish_reason) for [sample] in got] == [
        (greedy(server, prompt, 6), "length") for prompt in PROMPTS
    ]
    told = "the server gave answers longer than max_tokens: they are truncated there"
    assert engine.notes.count(told) == 1
    # One that ends before is whole.
    engine, whole = connect(server), greedy(server, PROMPTS[0])
    assert whole[-1] == tokenizer.eos_token_id
    [[sample]] = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=len(whole)))
    assert (sample.ids, sample.finish_reason) == (whole, "stop")
    assert told not in engine.notes


def test_a_stop_text_that_llama_cpp_leaves_out_ends_the_text(serve, connect, tokenizer):
    server = serve({"content", "stop", "n", "seed"})
    engine = connect(server)
    text = tokenizer.decode(greedy(server, PROMPTS[0]))
    [[sample]] = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=20, stop=(text[3:5],), logprobs=True))
    assert (tokenizer.decode(sample.ids), sample.finish_reason) == (text[:3], "stop")


def test_tokens_that_llama_cpp_does_not_list_are_encoded_again(serve, connect, tokenizer):
    """Of a character that takes several tokens it lists the last."""
    server = serve({"content", "stop", "n", "seed"})
    engine = connect(server)
    ids = tokenizer("a 🦊b", add_special_tokens=False)["input_ids"]
    whole = [i for i in ids if "\N{REPLACEMENT CHARACTER}" not in tokenizer.decode([i])]
    last = next(ids[i] for i in range(len(ids)) if tokenizer.decode(ids[: i + 1]).endswith("🦊"))
    assert len(ids) > len(whole) + 1
    content = [{"id": i, "token": tokenizer.decode([i]), "logprob": -1.0} for i in whole]
    fox = next(i for i, entry in enumerate(content) if entry["token"] == "b")
    content.insert(fox, {"id": last, "token": "🦊", "logprob": -2.0})
    text = "".join(entry["token"] for entry in content)
    choice = {"text": text, "finish_reason": "length", "logprobs": {"content": content}}
    server.fault = lambda number, body: (200, {"choices": [choice]})
    [[sample]] = engine.generate(PROMPTS[:1], Sampling(logprobs=True))
    assert tokenizer.decode(sample.ids) == text
    assert sum(map(math.isnan, sample.logprobs)) == len(sample.ids) - len(content)
    assert any("made of several" in note for note in engine.notes)


def test_many_requests_are_under_way_at_once_over_all_servers(serve, connect):
    servers = [serve(), serve()]
    engine = connect(*servers, concurrency=3)
    assert engine.concurrency == 6
    for server in servers:
        server.delay, server.most_underway = 0.2, 0
    engine.generate(PROMPTS, Sampling(max_new_tokens=2))
    assert all(server.most_underway > 1 for server in servers)


def test_the_key_is_sent(serve, connect):
    server = serve()
    connect(server, api_key="secret")
    assert server.keys == {"Bearer secret"}


def test_a_busy_server_is_asked_again(serve, connect):
    server = serve()
    engine = connect(server)
    before = len(server.bodies)
    server.fault = lambda number, body: (429, {"error": "busy"}) if number < before + 2 else None
    [[sample]] = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=5))
    assert sample.ids == greedy(server, PROMPTS[0], 5)
    assert len(server.bodies) == before + 3


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((500, {"error": {"message": "out of\nluck"}}), r"answers 500 \(out of luck\) repeatedly"),
        ((200, None), "can't be reached"),
        ((200, {"id": 1, "object": "x"}), "no field 'choices'; it holds id, object"),
        ((200, {"choices": [{"finish_reason": "stop"}]}), r"no field 'choices\[0\].text'"),
        ((200, {"choices": []}), "0 entries in 'choices', but 1 were requested"),
        ((200, {"choices": [{"text": "a", "token_ids": [5]}]}), "ended the answer with the finish_reason None"),
        ((200, {"choices": [{"text": "a", "finish_reason": "stop"}]}), "lacks the ids of generated tokens"),
        ((200, "<html>hello</html>"), "not a JSON object"),
        ((401, {"error": "who are you?"}), r"401 \(who are you\?\); give the right api_key"),
        (
            (404, {"error": "no model tiny"}),
            r"404 \(no model tiny\); the server must serve completions of the model 'tiny'",
        ),
        ((200, {"choices": [{"text": "", "finish_reason": "stop", "token_ids": [-1]}]}), "lacks the ids of generated"),
        (
            (200, {"choices": [{"text": "", "finish_reason": "stop", "token_ids": [2**40]}]}),
            "lacks the ids of generated",
        ),
    ],
)
def test_a_server_that_misbehaves_is_named_in_one_line(reply, says, serve, connect):
    server = serve()
    engine = connect(server)
    server.fault = lambda number, body: reply
    with pytest.raises(EngineError, match=says) as raised:
        engine.generate(PROMPTS, Sampling(max_new_tokens=5))
    assert server.url in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("said", ["content_filter", "abort", "made up", 7, None])
def test_a_sample_that_the_server_breaks_off_is_that_samples_error(said, serve, connect):
    server = serve()
    engine = connect(server)

    def break_off(number, body):
        status, reply = server.answer(body)
        for choice in reply["choices"][:-1]:  # all but the last sample
            choice["finish_reason"] = said
        return status, reply

    server.fault = break_off
    asked = [(PROMPTS[0], 1), (PROMPTS[1], 3), (PROMPTS[2], 2)]
    for number, (prompt, n) in enumerate(asked):
        engine.submit(number, prompt, Sampling(max_new_tokens=4, n=n))
    done = completed(engine)
    assert done[0].error is None
    for number, (prompt, _) in enumerate(asked):
        assert [sample.ids for sample in done[number].samples] == [greedy(server, prompt, 4)]
    for number in (1, 2):
        assert done[number].error == f"{server.url} ended the answer with the finish_reason {said!r}"
    assert engine.notes == [f"the server ended answers with the finish_reason {said!r}: they count as no answer"]


@pytest.mark.parametrize("choice", [{"text": None}, {"text": "", "token_ids": None}, {"text": "ab"}])
def test_a_filter_may_leave_nothing_of_an_answer(choice, serve, connect):
    server = serve()
    engine = connect(server)
    server.fault = lambda number, body: (200, {"choices": [choice | {"finish_reason": "content_filter"}]})
    engine.submit(0, PROMPTS[0], Sampling(max_new_tokens=4, logprobs=True))
    assert completed(engine)[0].error == f"{server.url} ended the answer with the finish_reason 'content_filter'"


@pytest.mark.parametrize(("said", "means"), [("eos_token", "stop"), ("max_tokens", "length")])
def test_other_words_for_stop_and_length_are_known(said, means, serve, connect):
    server = serve()
    engine = connect(server)
    choice = {"text": "ab", "token_ids": server.letters[:2], "finish_reason": said}
    server.fault = lambda number, body: (200, {"choices": [choice]})
    [[sample]] = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=2))
    assert (sample.ids, sample.finish_reason) == (server.letters[:2], means)


def test_an_answer_that_reached_its_end_is_one_whatever_the_server_says(serve, connect, tokenizer):
    server = serve()
    engine = connect(server)
    ids = [server.letters[0], tokenizer.eos_token_id]
    choice = {"text": "a", "token_ids": ids, "finish_reason": "abort"}
    server.fault = lambda number, body: (200, {"choices": [choice]})
    [[sample]] = engine.generate(PROMPTS[:1], Sampling())
    assert (sample.ids, sample.finish_reason) == (ids, "stop")
    assert engine.notes == []


def test_a_server_that_never_says_why_it_ended_is_refused_at_the_start(serve, connect):
    server = serve()

    def silent(number, body):
        status, reply = server.answer(body)
        for choice in reply["choices"]:
            del choice["finish_reason"]
        return status, reply

    server.fault = silent
    with pytest.raises(EngineError, match=r"'choices\[\].finish_reason' None, not stop or length"):
        connect(server)


def test_log_probabilities_that_are_missing_are_an_error(serve, connect):
    server = serve()
    engine = connect(server)
    engine.score([[5, 6]])
    server.fault = lambda number, body: (200, {"choices": [{"text": "a", "finish_reason": "stop", "token_ids": [5]}]})
    with pytest.raises(EngineError, match=r"no log-probabilities in 'choices\[\].logprobs'"):
        engine.generate(PROMPTS[:1], Sampling(logprobs=True))
    with pytest.raises(EngineError, match="no log-probabilities of the prompt"):
        engine.score([[5, 6]])
    with pytest.raises(EngineError, match="lacks requested tokens"):
        engine.next_token_logprobs([[5, 6]], [[7]])


def test_when_one_of_two_servers_dies_the_other_answers(serve, connect):
    dying, lasting = serve(delay=0.02), serve(delay=0.02)
    engine = connect(dying, lasting, retries=1)
    before = len(dying.bodies)
    dying.fault = lambda number, body: (200, None) if number >= before + 2 else None
    got = engine.generate(PROMPTS, Sampling(max_new_tokens=6))
    assert [sample.ids for [sample] in got] == [greedy(lasting, prompt, 6) for prompt in PROMPTS]
    assert len(dying.bodies) > before + 2
    [note] = engine.notes
    assert note.startswith(f"server dropped: {dying.url} can't be reached")
    assert engine.describe()["urls"] == [lasting.url]
    lasting.fault = lambda number, body: (503, {"error": "no more"})
    with pytest.raises(EngineError, match=r"503 \(no more\) repeatedly; all 2 servers have failed"):
        engine.generate(PROMPTS, Sampling(max_new_tokens=6))


def completed(engine: ServerEngine) -> dict[Any, Completion]:
    """What comes back of all that was handed in."""
    done: dict[Any, Completion] = {}
    while some := engine.collect():
        done |= {completion.key: completion for completion in some}
    return done


def fails_at(prompt: list[int], reply: tuple[int, Any]) -> Callable[[int, dict[str, Any]], tuple[int, Any] | None]:
    return lambda number, body: reply if body["prompt"] == prompt else None


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((500, {"error": "it hurts"}), r"answers 500 \(it hurts\) repeatedly, but it answers other requests"),
        ((429, {"error": "too large"}), r"answers 429 \(too large\) repeatedly, but it answers other requests"),
        ((200, None), r"can't be reached \(.*\), but it answers other requests"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_request_at_which_every_server_fails_is_its_own_error(reply, says, alone, serve, connect):
    """Alone, too: as when a run is resumed, and nothing but that request is left."""
    servers = [serve(), serve()]
    engine = connect(*servers, retries=1)
    for server in servers:
        server.fault = fails_at(PROMPTS[0], reply)
    asked = PROMPTS[:1] if alone else PROMPTS
    for number, prompt in enumerate(asked):
        engine.submit(number, prompt, Sampling(max_new_tokens=5, n=2))
    done = completed(engine)
    assert re.search(says, str(done[0].error))
    for number, prompt in enumerate(asked[1:], start=1):
        assert done[number].samples[0].ids == greedy(servers[0], prompt, 5)
    assert engine.notes == []
    # Each server was tried before the request was given up, and no more often than it has tries.
    tries = [sum(body["prompt"] == PROMPTS[0] for body in server.bodies) for server in servers]
    assert tries == ([8, 8] if reply[0] == 429 else [2, 2])


def test_a_request_at_which_one_server_fails_is_another_s(serve, connect):
    failing, other = serve(), serve()
    engine = connect(failing, other, retries=0)
    failing.fault = fails_at(PROMPTS[0], (500, {}))
    for _ in range(3):
        [[sample]] = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=5))
        assert sample.ids == greedy(other, PROMPTS[0], 5)
    assert engine.notes == []


def test_a_field_that_a_server_fails_at_is_one_that_it_can_not_do(serve, connect):
    server = serve()
    server.fault = lambda number, body: (500, {}) if "logprob_token_ids" in body else None
    engine = connect(server)
    assert not engine.capabilities.chosen_logprobs
    assert engine.capabilities.logprobs


def test_what_is_done_comes_before_what_went_wrong(serve, connect):
    server = serve()
    engine = connect(server)
    before = len(server.bodies)
    server.fault = lambda number, body: (418, {}) if number > before else None
    engine.submit("good", PROMPTS[0], Sampling(max_new_tokens=2))
    [good] = engine.collect()
    assert (good.key, good.error) == ("good", None)
    engine.submit("bad", PROMPTS[0], Sampling(max_new_tokens=2))
    [bad] = engine.collect()
    assert f"{server.url} answers 418" in bad.error
    assert engine.collect() == []


def test_a_slow_server(serve, connect):
    server = serve()
    engine = connect(server, timeout=1, retries=0)
    server.delay = 60.0
    with pytest.raises(EngineError, match=r"sent no complete answer within 1 s"):
        engine.generate(PROMPTS[:1], Sampling())


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(serve, connect):
    server = serve()
    engine = connect(server, timeout=0.4, retries=1)
    server.pause = 0.1  # far below the limit, and the reply has some hundred bytes
    start = time.monotonic()
    with pytest.raises(EngineError, match=r"sent no complete answer within 0.4 s"):
        engine.generate(PROMPTS[:1], Sampling())
    assert time.monotonic() - start < 10


def test_closing_does_not_wait_for_answers(serve, connect):
    server = serve()
    engine = connect(server)
    server.delay = 60.0
    engine.submit(1, PROMPTS[0], Sampling())
    while not server.underway:
        time.sleep(0.01)
    engine.close()
    engine.close()
    assert server.underway == 1


def test_a_server_that_is_not_there(tokenizer):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(EngineError, match=rf"{url}/v1 can't be reached") as raised:
            ServerEngine([url], tokenizer)
    assert "\n" not in str(raised.value)


def test_one_server_that_is_not_there_is_left_out(serve, tokenizer):
    server = serve()
    with ServerEngine(["http://127.0.0.1:9", server.url.removesuffix("/v1")], tokenizer) as engine:
        assert engine.generate(PROMPTS[:1], Sampling(max_new_tokens=3))[0][0].ids == greedy(server, PROMPTS[0], 3)
        assert "127.0.0.1:9/v1 can't be reached" in engine.notes[0]


def test_models_are_chosen_by_name(serve, connect):
    server = serve(models=["base", "adapter"])
    assert connect(server).model == "base"
    engine = connect(server, model="adapter")
    engine.generate(PROMPTS[:1], Sampling(max_new_tokens=2))
    assert server.bodies[-1]["model"] == "adapter"
    with pytest.raises(EngineError, match="does not serve 'other'; it serves base, adapter"):
        connect(server, model="other")
    with pytest.raises(EngineError, match="serve different models"):
        connect(server, serve(models=["adapter"]))
    with pytest.raises(EngineError, match=r"names no model in the field 'data\[0\].id'"):
        connect(serve(models=[]))


def test_servers_of_different_kinds_are_not_mixed(serve, connect):
    with pytest.raises(EngineError, match="differ in capabilities"):
        connect(serve(), serve(ABILITIES - {"n"}))


def test_adapters_are_loaded_where_the_server_can(serve, connect, tmp_path):
    server = serve()
    engine = connect(server)
    engine.load_adapter(tmp_path / "tuned")
    engine.generate(PROMPTS[:1], Sampling(max_new_tokens=2))
    assert server.bodies[-1]["model"] == engine.model == "tuned"
    with pytest.raises(EngineError, match=r"404 .* start vLLM with --enable-lora --lora-modules tuned="):
        connect(serve(ABILITIES - {"adapters"})).load_adapter(tmp_path / "tuned")


def test_an_ability_that_is_needed_and_missing_is_named(serve, connect):
    server = serve([])
    engine = connect(server)
    with pytest.raises(EngineError, match=f"{server.url} can't return log-probabilities of generated tokens"):
        engine.generate(PROMPTS[:1], Sampling(logprobs=True))
    with pytest.raises(EngineError, match="can't return log-probabilities of the prompt's tokens"):
        engine.score([[5, 6]])
    with pytest.raises(EngineError, match="can't return samples by top_k"):
        engine.generate(PROMPTS[:1], Sampling(temperature=1.0, top_k=4))
    engine.generate(PROMPTS[:1], Sampling(temperature=1.0))
    assert any("ignores seeds" in note for note in engine.notes)


def test_one_request_that_can_not_be_answered_does_not_stop_the_others(serve, connect):
    server = serve()
    engine = connect(server)
    for key, prompt in enumerate([[66], [70] * 200, [], [70] * 198]):
        engine.submit(key, prompt, Sampling(max_new_tokens=10))
    done = completed(engine)
    assert done[0].error == f"{server.url} answers 400 (a token that I don't like)"
    assert done[1].error == "the prompt has 200 tokens, but the server's context holds 200"
    assert "at least one token" in str(done[2].error)
    assert len(done[3].samples[0].ids) == 2


def test_a_server_that_takes_no_token_ids(serve, connect):
    server = serve()
    server.fault = lambda number, body: (400, {"error": "prompt must be text"})
    with pytest.raises(
        EngineError, match=r"prompt must be text.* token ids as the prompt; the server must accept them"
    ):
        connect(server)
    server.fault = lambda number, body: (200, server.answer(body)[1] | {"usage": {"prompt_tokens": 99}})
    with pytest.raises(EngineError, match="token ids as 99 tokens"):
        connect(server)


def test_options_that_can_not_be_used(tokenizer, monkeypatch):
    for url in ("localhost:8000", "http://[::1", "http://localhost:99999/v1"):
        with pytest.raises(InputError, match="is not a URL"):
            ServerEngine([url], tokenizer)
    with pytest.raises(InputError, match="no server given"):
        ServerEngine([], tokenizer)
    with pytest.raises(InputError, match="concurrency is 0"):
        ServerEngine(["http://localhost:8000"], tokenizer, concurrency=0)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"pip install 'rolewise\[openai\]'"):
        ServerEngine(["http://localhost:8000"], tokenizer)


def test_text_and_numbering_of_choices_may_be_odd(serve, connect, tokenizer):
    server = serve(ABILITIES - {"token_ids", "token_strings"}, context=None)
    engine = connect(server)
    choice = {"index": "first", "text": "a\ud800", "finish_reason": "length"}
    server.fault = lambda number, body: (200, {"choices": [choice]})
    [[sample]] = engine.generate(PROMPTS[:1], Sampling())
    assert tokenizer.decode(sample.ids) == "a?"


def test_a_server_with_another_tokenizer_is_refused(serve, connect, tokenizer):
    server = serve()
    shifted = {"token_ids": [server.letters[0]] * 8, "text": "bbbbbbbb", "finish_reason": "length"}
    server.fault = lambda number, body: (200, {"choices": [shifted]})
    with pytest.raises(EngineError, match=r"are 'bbbbbbbb' there and 'aaaaaaaa' here; name the model it serves"):
        connect(server)


def test_a_server_that_hangs_at_the_start_is_given_up_soon(tokenizer, monkeypatch):
    monkeypatch.setattr("rolewise.engines.endpoints.FIRST_TIMEOUT", 0.2)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/v1"
        with pytest.raises(EngineError, match=r"sent no complete answer within 0.2 s"):
            ServerEngine([url], tokenizer)
