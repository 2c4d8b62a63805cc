"""Whether the memory of labelling depends on how much is labelled.

    python experiments/label_memory.py --samples 1000 100000

For each number: generates so many conversations into a file, and labels them in a process of its own with a model of
one tiny layer that is made on the spot. Writes the largest memory that process held (anonymous memory: pages that are
only mapped from files are the file system's to take back) to results/label_memory.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rolewise.cli.console import run_script
from rolewise.core.errors import RolewiseError
from rolewise.core.files import write_json
from rolewise.core.versions import package_versions
from rolewise.data.chat_template import CHATML
from rolewise.data.readers import write_conversations
from rolewise.generator import generate

GENERATED = 2000
"""Conversations that are generated; a larger file holds them several times, under other numbers."""


def main() -> None:
    """Label each number of conversations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--output", type=Path, default=Path("results/label_memory.json"))
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        conversations = generate(GENERATED, seed=0)
        make_model(folder / "model", [str(m["content"]) for c in conversations[:200] for m in c.messages])
        write_conversations(conversations, folder / "some.jsonl")
        lines = (folder / "some.jsonl").read_text(encoding="utf-8").splitlines()
        for samples in arguments.samples:
            write_copies(lines, samples, folder / "data.jsonl")
            results[samples] = measure(folder, samples)
            print(f"{samples:9,} samples: {results[samples]}", flush=True)
    write_json(arguments.output, {"runs": results, "versions": package_versions()})


def make_model(directory: Path, corpus: list[str]) -> None:
    """A byte-level tokenizer and a randomly initialised Llama of one layer."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet))
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=CHATML
    )
    tokenizer.save_pretrained(directory)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)


def write_copies(lines: list[str], count: int, path: Path) -> None:
    """So many conversations, no two alike: each copy names its number in the first user message."""
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            record = json.loads(lines[number % len(lines)])
            user = next(message for message in record["messages"] if message["role"] == "user")
            user["content"] += f" (case {number})"
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def measure(folder: Path, samples: int) -> dict[str, float]:
    """Label the file; the process's largest anonymous memory in MiB, and its minutes.

    Raises:
        RolewiseError: if that fails, with the last line that the process said.
    """
    start = time.perf_counter()
    command = ["label", "--model", "model", "--data", "data.jsonl", "--output", f"labelled-{samples}"]
    command += ["--method", "shad", "--shuffle-share", "1e-6", "--min-pairs", "32", "--batch-tokens", "8192"]
    said = folder / "said.txt"
    with said.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen([sys.executable, "-m", "rolewise", *command], cwd=folder, stderr=stream)
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        time.sleep(0.1)
        try:
            memory = watched.memory_info()
            peak = max(peak, memory.rss - memory.shared)
        except psutil.NoSuchProcess:
            break
    if process.wait() != 0:
        *_, last = said.read_text(encoding="utf-8").splitlines() or ["it said nothing"]
        raise RolewiseError(f"labelling {samples} samples failed: {last}")
    return {"MiB": round(peak / 2**20), "minutes": round((time.perf_counter() - start) / 60, 1)}


if __name__ == "__main__":
    run_script(main)
