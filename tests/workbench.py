"""A tiny model with its tokenizer, conversations to label, and the command line as a user runs it.

A pytest plugin, named in `conftest.py`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rolewise.data.chat_template import CHATML
from rolewise.data.readers import FORMATS, write_conversations
from rolewise.evaluation import answer_checks
from rolewise.generator import generate
from rolewise.labelling.registry import LABELLERS
from rolewise.search import value_registry
from rolewise.training.functional_tokens import add_functional_tokens, functional_token_ids
from rolewise.weighting.registry import WEIGHTINGS

torch.set_num_threads(1)  # the matrices are tiny: more threads would only wait for each other

SPECIAL = ("<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class Workbench:
    """Directories and files that tests read and never change.

    Attributes:
        model: a randomly initialised Llama of two layers with its tokenizer.
        data: 24 generated conversations, their true roles known.
    """

    model: Path
    data: Path

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return PreTrainedTokenizerFast.from_pretrained(self.model)


def tiny_tokenizer(corpus: Sequence[str], vocab_size: int = 700) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on `corpus`, with a ChatML template that marks no generation."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    backend.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=SPECIAL[1], pad_token=SPECIAL[1], chat_template=CHATML
    )


def tiny_model(vocabulary: int, seed: int = 0, *, hidden_size: int = 64, **config: Any) -> LlamaForCausalLM:
    """A randomly initialised Llama of two layers, two query heads to each key head."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        # Larger than usual, so that losses differ from token to token without any training.
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(LlamaConfig(**(settings | config))).eval()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The tiny model and the generated conversations, saved."""
    root = tmp_path_factory.mktemp("workbench")
    conversations = generate(24, seed=0)
    tokenizer = tiny_tokenizer([str(m["content"]) for c in conversations for m in c.messages])
    tokenizer.save_pretrained(root / "model")
    tiny_model(len(tokenizer)).save_pretrained(root / "model")
    write_conversations(conversations, root / "conversations.jsonl")
    return Workbench(root / "model", root / "conversations.jsonl")


@pytest.fixture(scope="session")
def steps_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models `plain`, `functional` (with functional tokens) and `no_template`, and with
    `openings.json`, the ids of the opening tokens."""
    root = tmp_path_factory.mktemp("steps")
    texts = [f"What is {a} plus {b}? The answer is \\boxed{{{a + b}}}." for a in range(2, 6) for b in range(3, 6)]
    tokenizer = tiny_tokenizer(texts * 3, vocab_size=400)
    model = tiny_model(len(tokenizer), hidden_size=32, initializer_range=0.02)
    for name in ("plain", "no_template", "functional"):
        tokenizer.chat_template = None if name == "no_template" else CHATML
        if name == "functional":
            add_functional_tokens(model, tokenizer)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    openings = {name: opening for name, (opening, _) in functional_token_ids(tokenizer).items()}
    (root / "openings.json").write_text(json.dumps(openings), encoding="utf-8")
    return root


@pytest.fixture
def registries() -> Iterator[None]:
    """Plugins are registered in the process; afterwards it is as it was."""
    tables = (
        FORMATS,
        LABELLERS._added,
        WEIGHTINGS._added,
        answer_checks._registered,
        value_registry._registered,
    )
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
    for name in [name for name in sys.modules if name.startswith("rolewise_plugin_")]:
        del sys.modules[name]


def environment(**more: str) -> dict[str, str]:
    """The environment of a user without a network and with one core to spare."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


def command_line(*arguments: object) -> list[str]:
    """`rolewise ARGUMENTS` in this interpreter."""
    return [sys.executable, "-m", "rolewise.cli.main", *map(str, arguments)]


def rolewise(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own and wait for it."""
    return subprocess.run(
        command_line(*arguments), capture_output=True, text=True, timeout=300, env=environment(), cwd=cwd, check=False
    )


def small_label_arguments(bench: Workbench, output: Path, *more: object) -> list[str]:
    """`rolewise label` on the bench, small enough for a few seconds."""
    arguments = ["label", "--model", bench.model, "--data", bench.data, "--output", output]
    arguments += ["--max-length", 1024, *([] if "--method" in more else ["--method", "shad", "--min-pairs", 8]), *more]
    return [str(argument) for argument in arguments]


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file below a directory by its relative path."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def lasting_files_of(directory: Path) -> dict[str, bytes]:
    """Files that two equal runs must share byte for byte: all but `run.json`, which holds timings."""
    return {name: content for name, content in files_of(directory).items() if name != "run.json"}
