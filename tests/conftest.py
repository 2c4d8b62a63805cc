"""Fixtures for every test: a tokenizer trained on the spot and the real data sets, where there are any."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read on import; without a network the hub is asked for minutes

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

pytest_plugins = ("deprecations", "chromium", "in_process", "workbench")

LONGEST = ("test_resume.py", "test_processes.py", "test_experiment_scripts.py", "test_engine_servers.py")
LONGEST += ("test_experiment_run.py", "test_cli.py", "test_baselines.py", "test_bad_input.py")
LONGEST += ("test_killed_training.py",)
"""Files that take longest; they begin first, or one core would work on one of them while the others are done."""

CORPUS = [
    "The user asks for the weather in Paris, so the tool get_weather is called with the city.",
    "<think> Which tool fits? </think>",
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "Thought: I need the year of birth.\nAction: search[Ada Lovelace]\nObservation: 1815",
    "system\nuser\nassistant\ntool\nYou are a helpful assistant. Grüße aus Köln, 東京 and 🙂.",
    "question answer probe result system 0 1 2 3 4 5 6 7 8 9 !?.,:;(){}[]<>|/\\\"'",
] * 4


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """Trains a small byte-level BPE tokenizer; arguments: chat template, special tokens (the first is `eos_token`)."""

    def make(
        chat_template: str | None = None, special: tuple[str | AddedToken, ...] = ("<|im_end|>", "<|im_start|>")
    ) -> PreTrainedTokenizerFast:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator(CORPUS, trainer)
        backend.add_special_tokens(list(special))
        eos = str(special[0]) if special else None
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token=eos, pad_token=eos, chat_template=chat_template
        )

    return make


@pytest.fixture(scope="session")
def chatml_tokenizer(make_tokenizer: Callable[..., PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a ChatML template that has no place for tools, as SmolLM2's."""
    from rolewise.data.chat_template import CHATML

    return make_tokenizer(CHATML)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real data sets; the test is skipped where there is none."""
    path = Path(os.environ.get("ROLEWISE_DATA") or Path(__file__).parents[1] / "../shared/data").resolve()
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set ROLEWISE_DATA")
    return path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config) -> None:
    """Files are handed out in the order of collection, not those of many tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)
