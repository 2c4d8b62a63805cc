"""Throughput of the engine in this process against plain `generate`, one prompt at a time.

    python benchmarks/generation.py --model MODEL_DIRECTORY

Both continue prompts of uneven lengths greedily with the same model, up to the same number of tokens:

- `engine`: `TransformersEngine` with all prompts handed in at once.
- `plain`: Transformers' `generate`, a prompt per call, on every few of the prompts as ordered by length, since all of
  them would take hours on a CPU.

The two take turns, the order changing from round to round; a round's ratio is of tokens per second. The model is loaded
and warmed up before the clock starts; tokenizing is off the clock. Prompts are GSM8K's test questions where
`ROLEWISE_DATA` has them, otherwise the generator's conversations.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from record import as_json, rendered_samples, seconds_of, write_record
from rich.console import Console
from rich.table import Table
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rolewise.cli.console import run_script
from rolewise.core.statistics import ratio_interval
from rolewise.engines.base import Sampling
from rolewise.engines.stopping import end_token_ids
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.training.models import default_device, load_model, load_tokenizer


def find_prompts(options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[list[int]]]:
    """Where the prompts come from, and their token ids, longest first."""
    file = Path(os.environ.get("ROLEWISE_DATA", "")) / "gsm8k" / "test.jsonl"
    if file.is_file():
        source = "GSM8K, test"
        with file.open(encoding="utf-8") as stream:
            questions = [json.loads(line)["question"] for line, _ in zip(stream, range(options.prompts), strict=False)]
        turns = [[{"role": "user", "content": question}] for question in questions]
        prompts = [tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False) for turn in turns]
    else:
        source = "generator"
        samples = rendered_samples(tokenizer, options.prompts, options.seed, None)[: options.prompts]
        prompts = [sample.input_ids[: int(sample.loss_mask.argmax())].tolist() for sample in samples]
    return source, sorted(prompts, key=len, reverse=True)


def generate_plainly(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], tokens: int
) -> list[list[int]]:
    """Greedy continuations, one prompt after another."""
    ends = end_token_ids(model.generation_config, tokenizer)
    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=ends, pad_token_id=ends[0])
    answers = []
    with torch.inference_mode():
        for prompt in prompts:
            ids_BT = torch.tensor([prompt], device=model.device)
            output_BT = model.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=config)
            answers.append(output_BT[0, len(prompt) :].tolist())
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--plain-every", type=int, default=8, help="plain generate takes every so many of the prompts")
    parser.add_argument("--tokens", type=int, default=64, help="at most so many for each prompt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark-generation.json"))
    options = parser.parse_args()
    device = default_device()
    tokenizer = load_tokenizer(options.model)
    model = load_model(options.model, dtype=options.dtype, device=device)
    engine = TransformersEngine(model, tokenizer, batch_size=options.batch_size)
    source, prompts = find_prompts(options, tokenizer)
    sampling = Sampling(max_new_tokens=options.tokens)
    engine.generate(prompts[-2:], Sampling(max_new_tokens=4))
    generate_plainly(model, tokenizer, prompts[-1:], 4)

    seconds: dict[str, list[float]] = {"engine": [], "plain": []}
    answers: dict[str, list[list[int]]] = {}

    def ours() -> None:
        answers["engine"] = [sample.ids for [sample] in engine.generate(prompts, sampling)]

    def plain() -> None:
        answers["plain"] = generate_plainly(model, tokenizer, prompts[:: options.plain_every], options.tokens)

    ways = [("engine", ours), ("plain", plain)]
    for number in range(options.rounds):
        for name, way in ways if number % 2 else reversed(ways):
            seconds[name].append(seconds_of(way))

    tokens = {name: sum(map(len, found)) for name, found in answers.items()}
    same = sum(a == b for a, b in zip(answers["engine"][:: options.plain_every], answers["plain"], strict=True))
    per_token = {name: [spent / tokens[name] for spent in rounds] for name, rounds in seconds.items()}
    ratio = ratio_interval(per_token["plain"], per_token["engine"], seed=options.seed)
    table = Table("way", "prompts", "tokens", "tokens/s")
    speeds = {}
    for name, rounds in per_token.items():
        speeds[name] = 1 / sorted(rounds)[len(rounds) // 2]
        table.add_row(name, str(len(answers[name])), f"{tokens[name]:,}", f"{speeds[name]:,.1f}")
    console = Console()
    console.print(table)
    console.print(f"{source}; the engine's throughput over plain generate's: {ratio:.2f}")
    console.print(f"the same ids for {same} of {len(answers['plain'])} prompts")
    results = {
        "prompts": source,
        "prompt_tokens": sorted(map(len, prompts)),
        "ways": {
            name: {
                "answers": len(answers[name]),
                "tokens": tokens[name],
                "tokens_per_second": speeds[name],
                "seconds": rounds,
            }
            for name, rounds in seconds.items()
        },
        "throughput_ratio": as_json(ratio),
        "same_ids": same,
    }
    write_record(options, device, results)
    console.print(f"written to {options.output}")


if __name__ == "__main__":
    run_script(main)
