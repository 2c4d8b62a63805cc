"""Models that are asked in text: a client of chat completions, and an engine behind a chat template."""

import sys
import threading

import pytest
from chat_server import chat_server, completion
from engines_at_hand import ScriptedEngine

from rolewise.core.errors import InputError, RolewiseError
from rolewise.engines.base import EngineError
from rolewise.engines.chat import ChatClient, EngineChat, chat_from_settings

QUESTION = [{"role": "user", "content": "Is it?"}]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", "a key that is not for this server")


def said(error):
    """The message of an error, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_answer_is_asked_as_told_and_comes_back():
    with chat_server(lambda body: completion("Yes.")) as server:
        client = ChatClient(server.url, "judge-1", "secret")
        assert client.ask(QUESTION, temperature=0.2, max_tokens=7) == ["Yes."]
        client.close()
    assert server.requests == [{"model": "judge-1", "messages": QUESTION, "temperature": 0.2, "max_tokens": 7}]
    assert server.keys == ["Bearer secret"]


def test_several_answers_are_asked_for_at_once():
    together = threading.Barrier(3, timeout=20)

    def reply(body):
        together.wait()
        return completion(f"answer {threading.get_ident()}")

    with chat_server(reply) as server:
        client = ChatClient(server.url, "m")
        assert len(set(client.ask(QUESTION, n=3))) == 3
        client.close()


def test_a_key_of_the_environment_goes_nowhere_unasked():
    with chat_server(lambda body: completion("ok")) as server:
        ChatClient(server.url, "m").check()
    assert server.keys == ["Bearer none"]


def test_passing_failures_are_tried_again():
    failures = iter([(500, {}), (429, {}), (503, {})])
    with chat_server(lambda body: next(failures, None) or completion("at last")) as server:
        assert ChatClient(server.url, "m").ask(QUESTION) == ["at last"]
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        ((401, {"error": {"message": "no key"}}), InputError, "rejects the key (401)"),
        ((403, {}), InputError, "rejects the key (403)"),
        ((404, {}), InputError, "no model 'm' or no chat completions (404)"),
        ((400, {"error": {"message": "bad\nfield"}}), EngineError, "answered 400"),
        ((500, {}), EngineError, "answered 500"),
        ({"object": "chat.completion"}, EngineError, "without choices"),
        ({"choices": []}, EngineError, "without choices"),
        ({"choices": None}, EngineError, "without choices"),
        ({"choices": [{}]}, EngineError, "without choices"),
        ({"choices": ["x"]}, EngineError, "without choices"),
        ([], EngineError, "without choices"),
        (b"<html>hello</html>", EngineError, "without choices"),
        (b'{"choices', EngineError, "sent invalid JSON"),
    ],
)
def test_what_a_server_does_wrong_is_said_in_one_line(reply, kind, words):
    with chat_server(lambda body: reply) as server:
        client = ChatClient(server.url, "m", who="judge", retries=1)
        with pytest.raises(RolewiseError) as error:
            client.check()
    assert isinstance(error.value, kind)
    assert said(error).startswith(f"the judge at {server.url} ")
    assert words in said(error)


def test_an_answer_without_text_is_empty():
    with chat_server(lambda body: completion(None)) as server:
        assert ChatClient(server.url, "m").ask(QUESTION) == [""]


def test_a_server_that_is_not_there_is_said_in_one_line():
    with chat_server(lambda body: None) as server:
        url = server.url
    with pytest.raises(EngineError) as error:
        ChatClient(url, "m", retries=0).check()
    assert "can't be reached" in said(error)


def test_a_missing_package_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError) as error:
        ChatClient("http://localhost/v1", "m", who="judge")
    assert said(error) == "the judge needs the package openai: pip install 'rolewise[openai]'"


def test_options_name_a_model_its_address_and_the_variable_with_its_key(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    with chat_server(lambda body: completion("ok")) as server:
        client = chat_from_settings({"url": server.url, "model": "m", "key": "JUDGE_KEY"}, "", "judge")
        client.check()
        other = chat_from_settings({"simulator_model": "s"}, "simulator_", "simulator", url=server.url)
        other.check()
    assert server.keys == ["Bearer secret", "Bearer none"]
    assert server.requests[1]["model"] == "s"
    assert chat_from_settings({"url": "u"}, "simulator_", "simulator") is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "http://h/v1"}, "the judge has no model"),
        ({"model": "m"}, "the judge has no url"),
        ({"url": "localhost:8000", "model": "m"}, "give the full URL"),
        ({"url": "http://h/v1", "model": "m", "key": "NOT_SET_ANYWHERE"}, "variable NOT_SET_ANYWHERE, which is not"),
        ({"url": "http://h/v1", "model": "m", "key": "sk-secret"}, "name of an environment variable"),
    ],
)
def test_options_that_do_not_do_are_said_in_one_line_without_the_key(settings, words):
    with pytest.raises(InputError) as error:
        chat_from_settings(settings, "", "judge")
    assert words in said(error)
    assert "sk-secret" not in said(error)


def test_an_engine_is_asked_through_its_chat_template(chatml_tokenizer):
    engine = ScriptedEngine(chatml_tokenizer, lambda prompt, sample: f" answer {sample} ")
    chat = EngineChat(engine, "tiny")
    chat.check()
    assert chat.ask(QUESTION, temperature=0.2, n=2, max_tokens=9) == ["answer 0", "answer 1"]
    assert chat.ask(QUESTION, temperature=0.2) == ["answer 0"]
    (first, how), (_, then) = engine.asked
    assert first == "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n"
    end = chatml_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (how.max_new_tokens, how.temperature, how.n, how.stop_token_ids) == (9, 0.2, 2, (end,))
    assert how.seed != then.seed
    assert chat.describe() == {"kind": "engine", "model": "tiny", "engine": {"kind": "scripted"}}
