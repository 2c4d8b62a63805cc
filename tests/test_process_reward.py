"""Process-reward models, in this process and behind a server, and what is remembered of them."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from reward_server import by_length, reward_server
from tiny import tiny_model
from transformers import LlamaConfig, LlamaForTokenClassification, PreTrainedTokenizerFast

from rolewise.core.batch_cache import BatchCache
from rolewise.core.errors import InputError
from rolewise.rewards.process_reward import ProcessRewardError
from rolewise.rewards.process_reward_models import (
    STEP_FORMATS,
    ClassifierReward,
    StepFormat,
    TokenReward,
    load_process_reward,
    open_process_reward,
)
from rolewise.rewards.process_reward_server import ServerReward

SOLUTIONS = [
    ("What is 1 + 1?", ["One and one.", "That is \\boxed{2}."]),
    ("Weather in Köln?", ["Look it up: 東京 🙂", "", "Rain.\n\nNo, sun."]),
    ("What?", ["The answer is 5."]),
]


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer: Callable[..., PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    from rolewise.data.chat_template import CHATML

    return make_tokenizer(CHATML, ("<|im_end|>", "<|im_start|>", "<extra_0>"))


def classifier(vocabulary: int, labels: int = 2) -> LlamaForTokenClassification:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForTokenClassification(config).eval()


def chatml(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def one_by_one(model: Any, tokenizer: Any, text: Callable[[str, list[str]], str], read: Callable[[Any], float]) -> Any:
    """The slow reference: the text up to each step's end, alone; the score is read from its last token's logits."""
    scores = []
    for question, steps in SOLUTIONS:
        texts = [text(question, steps[: n + 1]) for n in range(len(steps))]
        ids = [tokenizer(one, add_special_tokens=False, return_tensors="pt")["input_ids"] for one in texts]
        with torch.no_grad():
            scores.append([read(model(input_ids=row).logits[0, -1]) for row in ids])
    return scores


@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("batch_tokens", [1, 90, 8192])
def test_classifier_scores_are_those_of_each_prefix_alone(
    tokenizer: PreTrainedTokenizerFast, labels: int, batch_tokens: int
) -> None:
    model = classifier(len(tokenizer), labels)
    form = StepFormat(marker="<extra_0>", chat=True)
    found = ClassifierReward(model, tokenizer, form, batch_tokens=batch_tokens).score(SOLUTIONS)
    expected = one_by_one(
        model,
        tokenizer,
        lambda question, steps: chatml(question) + "".join(step + "<extra_0>" for step in steps),
        lambda logits: float(logits.sigmoid() if labels == 1 else logits.softmax(dim=0)[1]),
    )
    for scores, wanted in zip(found, expected, strict=True):
        assert scores == pytest.approx(wanted, abs=2e-4)
    assert len({score for scores in found if scores for score in scores}) == 6  # or any would pass


def test_the_qwen_format_has_the_system_turn_of_the_model_card(tokenizer: PreTrainedTokenizerFast) -> None:
    model = classifier(len(tokenizer))
    system = "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
    expected = one_by_one(
        model,
        tokenizer,
        lambda question, steps: system + chatml(question) + "<extra_0>".join([*steps, ""]),
        lambda logits: float(logits.softmax(dim=0)[1]),
    )
    for scores, wanted in zip(ClassifierReward(model, tokenizer).score(SOLUTIONS), expected, strict=True):
        assert scores == pytest.approx(wanted, abs=2e-4)


def test_token_scores_weigh_one_verdict_against_the_other(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model(vocab_size=len(tokenizer))
    good, bad = (tokenizer(text)["input_ids"][0] for text in ("y", "n"))
    found = TokenReward(model, tokenizer, good="y", bad="n").score(SOLUTIONS)
    expected = one_by_one(
        model,
        tokenizer,
        lambda question, steps: f"{question} " + "\n".join(f"{step} ки" for step in steps),
        lambda logits: float(logits[good].exp() / (logits[good].exp() + logits[bad].exp())),
    )
    for scores, wanted in zip(found, expected, strict=True):
        assert scores == pytest.approx(wanted, abs=2e-4)


def test_a_format_by_parts_keeps_the_marker_a_token_of_its_own(tokenizer: PreTrainedTokenizerFast) -> None:
    model = classifier(len(tokenizer))
    cut = [tokenizer(part)["input_ids"] for part in ("Why?", "a system", "\n", "so.", "\n")]
    ids = torch.tensor([[token for part in cut for token in part]])
    places = [len(cut[0] + cut[1] + cut[2]) - 1, ids.shape[1] - 1]
    with torch.no_grad():
        expected = model(input_ids=ids).logits[0, places].softmax(dim=1)[:, 1].tolist()
    assert ClassifierReward(model, tokenizer, STEP_FORMATS["trl"]).score([("Why?", ["a system", "so."])]) == [
        pytest.approx(expected, abs=1e-4)
    ]


def test_what_is_too_long_has_no_scores_and_the_others_do(tokenizer: PreTrainedTokenizerFast) -> None:
    reward = ClassifierReward(classifier(len(tokenizer)), tokenizer)
    found = reward.score([("Why?", ["x" * 500]), ("Why?", ["x"]), ("Why?", [])])
    assert found[0] is None
    assert found[1] is not None
    assert len(found[1]) == 1
    assert found[2] == []


def test_models_are_loaded_by_their_architecture(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for name, model in [("a", classifier(len(tokenizer))), ("b", tiny_model(vocab_size=len(tokenizer)))]:
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    loaded = load_process_reward(str(tmp_path / "a"))
    assert isinstance(loaded, ClassifierReward)
    assert loaded.score(SOLUTIONS) == ClassifierReward(classifier(len(tokenizer)), tokenizer).score(SOLUTIONS)
    assert loaded.describe()["form"]["marker"] == "<extra_0>"
    assert isinstance(load_process_reward(str(tmp_path / "b")), TokenReward)
    with pytest.raises(InputError, match="nowhere: no tokenizer found"):
        load_process_reward(str(tmp_path / "nowhere"))


def test_models_that_do_not_fit_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model(vocab_size=len(tokenizer))
    with pytest.raises(InputError, match="has 4 tokens for 'good'; it must be one"):
        TokenReward(model, tokenizer, good="good")
    with pytest.raises(InputError, match="2 classes; class 2 is not among them"):
        ClassifierReward(classifier(len(tokenizer)), tokenizer, good=2)
    with pytest.raises(InputError, match="marker is empty"):
        TokenReward(model, tokenizer, StepFormat(marker=""))
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="returns NaN"):
        TokenReward(model, tokenizer).score(SOLUTIONS)


def test_a_server_is_asked_in_batches_several_at_once_and_each_solution_once() -> None:
    solutions = [(f"Question {n}", [f"step {n}"] * (1 + n % 3)) for n in range(20)]
    with reward_server(delay=0.1) as server, ServerReward(server.url, batch_size=3, concurrency=4) as reward:
        found = reward.score(solutions + solutions[:5])
        expected = by_length({"items": [{"steps": steps} for _, steps in solutions]})["scores"]
        assert found == expected + expected[:5]
        assert sorted(len(request["items"]) for request in server.requests) == [2, 3, 3, 3, 3, 3, 3]
        asked = [(item["question"], item["steps"]) for request in server.requests for item in request["items"]]
        assert sorted(asked) == sorted(solutions)
        assert 2 <= server.most_at_once <= 4
        assert reward.score(solutions) == expected
        assert len(server.requests) == 7


def test_a_server_gets_its_key_and_text_of_every_kind() -> None:
    hostile = ("\ud800 \0 </script>", ["\u2028", '"}]'])
    with reward_server() as server, ServerReward(server.url, api_key="secret") as reward:
        assert reward.score([hostile]) == [[0.1, 0.3]]
        assert server.keys == ["Bearer secret"]
        assert server.requests == [{"items": [{"question": hostile[0], "steps": list(hostile[1])}]}]


def test_a_passing_failure_is_tried_again() -> None:
    left = [503, 429]

    def reply(body: dict[str, Any]) -> Any:
        return (left.pop(), {}) if left else by_length(body)

    with reward_server(reply) as server, ServerReward(server.url) as reward:
        assert reward.score([("q", ["12345"])]) == [[0.5]]
        assert len(server.requests) == 3


def test_a_server_that_is_down_or_hangs_is_said_to_be(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/score"
    with (
        ServerReward(url, retries=0) as reward,
        pytest.raises(ProcessRewardError, match=f"{url} can't be reached$"),
    ):
        reward.score([("q", ["s"])])
    with (
        reward_server(delay=0.6) as server,
        ServerReward(server.url, timeout=0.1, retries=1) as reward,
        pytest.raises(ProcessRewardError, match=r"no answer within 0\.1 s$"),
    ):
        reward.score([("q", ["s"])])
    with (
        reward_server(lambda body: (502, b"")) as server,
        ServerReward(server.url, retries=1) as reward,
        pytest.raises(ProcessRewardError, match=r"answers 502 repeatedly$"),
    ):
        reward.score([("q", ["s"])])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"<html>", "the reply is not JSON"),
        ([], "needs 'scores', a list with an entry for each of the 1 items, but has none"),
        ({"scores": [[0.1], [0.2]]}, "but has 2 of them"),
        ({"scores": [[0.1]]}, r"scores\[0\]: expected 2 scores, one for each step, but got 1"),
        ({"scores": ["good"]}, r"scores\[0\]: expected a list of 2 scores, .* but got 'good'"),
        (b'{"scores": [[0.5, NaN]]}', "the score of step 2 is nan; it must be a number from 0 to 1"),
        ({"scores": [[0.5, 1.5]]}, "the score of step 2 is 1.5; "),
        ({"scores": [[-0.1, 1]]}, "the score of step 1 is -0.1; "),
        ({"scores": [[True, 1]]}, "the score of step 1 is True; "),
        ({"scores": [[None, 1]]}, "the score of step 1 is None; "),
        ((404, b"no\nsuch page"), r"answers 404 \(no such page\); check the URL"),
        ((401, b""), "answers 401; give the right key"),
        ((302, b""), "answers 302"),
    ],
)
def test_nonsense_is_told_in_one_line(reply: Any, message: str) -> None:
    with reward_server(lambda body: reply) as server, ServerReward(server.url) as reward:
        with pytest.raises(InputError, match=message) as caught:
            reward.score([("q", ["a", "b"])])
        assert "\n" not in str(caught.value)
        assert server.url in str(caught.value)


def test_a_server_may_leave_a_solution_out() -> None:
    with reward_server(lambda body: {"scores": [None, [1]]}) as server, ServerReward(server.url) as reward:
        assert reward.score([("q", ["a", "b"]), ("q", ["a"])]) == [None, [1.0]]


def test_a_server_that_drips_is_not_waited_for() -> None:
    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while True:
                connection.sendall(b" ")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with (
            ServerReward(url, timeout=0.3, retries=0) as reward,
            pytest.raises(ProcessRewardError, match=r"no answer within 0\.3 s$"),
        ):
            reward.score([("q", ["s"])])
        thread.join(10)
        assert not thread.is_alive()  # the connection has been given up


def test_an_option_names_a_server_or_a_model(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    classifier(len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with open_process_reward(str(tmp_path), "trl") as reward:
        assert reward.describe()["form"]["by_parts"]
    with reward_server() as server, open_process_reward(server.url, api_key="k") as reward:
        assert reward.score([("q", ["12"])]) == [[0.2]]
        assert server.keys == ["Bearer k"]
    with pytest.raises(InputError, match="'qwen2' is not known; choose one of qwen, shepherd, trl"):
        open_process_reward(str(tmp_path), "qwen2")
    with pytest.raises(InputError, match="remove the format option"):
        open_process_reward("http://localhost:1/", "qwen")
    with pytest.raises(InputError, match="is not a URL"):
        open_process_reward("localhost://")


@pytest.mark.parametrize("url", ["localhost:8100", "http://", "http://[::1", "http://a:0/", "ftp://a/", ""])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is not a URL; give it as http://localhost:8100/score"):
        ServerReward(url)


def test_the_cache_asks_each_once_and_forgets_what_was_not_needed_for_longest() -> None:
    asked: list[list[int]] = []

    def square(numbers: list[int]) -> list[int]:
        asked.append(numbers)
        return [number * number for number in numbers]

    cache: BatchCache[int, int] = BatchCache(3)
    assert cache.answers([1, 2, 1, 3], square) == [1, 4, 1, 9]
    assert cache.answers([1, 4], square) == [1, 16]  # 2 makes room for 4
    assert cache.answers([3, 2, 1], square) == [9, 4, 1]
    assert cache.answers([5, 6, 7, 8, 9], square) == [25, 36, 49, 64, 81]  # more than it holds
    assert asked == [[1, 2, 3], [4], [2], [5, 6, 7, 8, 9]]


def test_what_failed_is_not_remembered() -> None:
    cache: BatchCache[int, int] = BatchCache(3)

    def fail(numbers: list[int]) -> list[int]:
        raise ProcessRewardError("gone")

    with pytest.raises(ProcessRewardError):
        cache.answers([1], fail)
    assert cache.answers([1], lambda numbers: [7]) == [7]
