"""Cost of labelling regions of sampled ids against tokenizing text again for each span.

    python benchmarks/regions.py --model MODEL_DIRECTORY

Responses are the generator's first assistant turns in rlla's format, tokenized and put one behind another until they
have the asked-for number of tokens. Labelling them as Rolewise does and as the other way does is timed in turn, each
pair in the opposite order of the one before. On the clock: from ids to one region a token. Building the table of the
vocabulary is not; it is printed beside.

The other way is what ResT's published code does: decode the ids, find the spans in the text by the same parser, and
for each span tokenize the text before it and the text up to its end, whose lengths say which tokens are in it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from record import as_json, rendered_samples, seconds_of, write_record
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from rolewise.cli.console import run_script
from rolewise.core.statistics import ratio_interval
from rolewise.data.token_text import token_table
from rolewise.roles.regions import label_regions, region_spans
from rolewise.training.models import load_tokenizer


def responses(tokenizer: PreTrainedTokenizerBase, options: argparse.Namespace) -> list[list[int]]:
    """Ids of `options.responses` responses of `options.tokens` tokens each."""
    samples = rendered_samples(tokenizer, 4 * options.responses, options.seed, options.chat_template)
    turns = [sample.input_ids[slice(*sample.turns[0])].tolist() for sample in samples]
    rows = []
    position = 0
    for _ in range(options.responses):
        row: list[int] = []
        while len(row) < options.tokens:
            row += turns[position % len(turns)]
            position += 1
        rows.append(row[: options.tokens])
    return rows


def tokenize_again(rows: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase) -> int:
    """Label by tokenizing the text before each span and up to its end; returns the number of spans."""
    count = 0
    for row in rows:
        text = tokenizer.decode(row)
        regions_T = np.zeros(len(row), dtype=np.uint8)
        spans = region_spans(text)
        for start, end, region in [*spans.arguments, *spans.leaves]:
            first = len(tokenizer(text[:start], add_special_tokens=False)["input_ids"])
            last = len(tokenizer(text[:end], add_special_tokens=False)["input_ids"])
            regions_T[first:last] = region
        count += len(spans.arguments) + len(spans.leaves)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--responses", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=512, help="per response")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1, help="pairs off the clock")
    parser.add_argument("--chat-template", help="for a model without one: chatml, or a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark-regions.json"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = load_tokenizer(options.model)
    rows = responses(tokenizer, options)
    table_seconds = seconds_of(lambda: token_table(tokenizer))
    spans = tokenize_again(rows[:1], tokenizer)

    ours: list[float] = []
    others: list[float] = []
    for pair in range(-options.warmup, options.pairs):
        turns = [(lambda: label_regions(rows, tokenizer), ours), (lambda: tokenize_again(rows, tokenizer), others)]
        for work, times in turns if pair % 2 else reversed(turns):
            seconds = seconds_of(work)
            if pair >= 0:
                times.append(seconds)
    ratio = ratio_interval(others, ours, seed=options.seed)
    milliseconds = 1e3 * np.median(ours) / len(rows)
    console = Console()
    console.print(
        f"{len(rows)} responses of {options.tokens} tokens: {np.median(ours):.3f} s ({milliseconds:.2f} ms each), "
        f"tokenizing again {np.median(others):.1f} s; that over this {ratio:.0f}"
    )
    console.print(f"table of the vocabulary, once: {table_seconds:.2f} s; spans in the first response: {spans}")
    results = {"ratio": as_json(ratio), "seconds": ours, "tokenizing_again_seconds": others}
    write_record(options, "cpu", {**results, "table_seconds": table_seconds, "spans_of_first_response": spans})
    console.print(f"written to {options.output}")


if __name__ == "__main__":
    run_script(main)
