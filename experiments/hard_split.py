"""How far counting and rules, without a model, tell reasoning from boilerplate on each split of the generator.

    python experiments/hard_split.py --tokenizer MODEL

Scores of each token of the assistant, by the area under the ROC curve of truly reasoning tokens against boilerplate:
rarity (−log of the token's share among those of the other conversations, as in `shad_rarity.py`), the regex (format or
not), and rarity with the regex's format below all else; last, rarity among tokens with a letter or digit alone, since
signs are boilerplate nearly always. On `eval` they find most of it; `hard` is made so that they don't, and what a
labeller finds there it found in the input. One number per seed; without a tokenizer, the tokens are words and signs.
Writes results/hard_split.json.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from shad_rarity import rarities

from rolewise.cli.console import run_script
from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.core.role import Role
from rolewise.core.statistics import auroc
from rolewise.core.versions import package_versions
from rolewise.data.conversation import Conversation
from rolewise.data.render import Renderer
from rolewise.data.spans import project
from rolewise.generator import generate
from rolewise.generator.splits import SPLITS
from rolewise.roles.regex import label_format
from rolewise.training.models import load_tokenizer

MEASURES = ("rarity", "regex", "regex, then rarity", "rarity of words")
WORD = re.compile(r"\s*(?:\w+|[^\w\s]|\Z)")


@dataclass(frozen=True)
class Tokens:
    """One conversation's tokens of assistant turns, each array of shape (T,).

    Attributes:
        names: what is counted: ids, or words without the space before them.
        format_T: by the regex.
        word_T: whether there is a letter or digit.
    """

    names: list[Any]
    reasoning_T: np.ndarray
    format_T: np.ndarray
    word_T: np.ndarray


def main() -> None:
    """Measure every split and seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", metavar="MODEL", help="count its tokens; words without it")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=SPLITS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--conversations", type=int, default=64)
    parser.add_argument("--output", type=Path, default=Path("results/hard_split.json"))
    arguments = parser.parse_args()
    if arguments.conversations < 2 or arguments.seeds < 1:
        raise InputError("give --conversations 2 or more, since each is judged by the others, and --seeds 1 or more")
    renderer = Renderer(load_tokenizer(arguments.tokenizer)) if arguments.tokenizer else None
    found: dict[str, Any] = {}
    table = Table("split", "formats", "seed", "tokens", "reasoning", *MEASURES)
    for split in arguments.splits:
        each = SPLITS[split].formats
        for formats in (each, *((name,) for name in each)):
            name = "all" if len(formats) > 1 else formats[0]
            for seed in range(arguments.seeds):
                made = generate(arguments.conversations, seed=seed, split=split, formats=formats)
                result = measure([in_words(one) if renderer is None else in_tokens(one, renderer) for one in made])
                found.setdefault(split, {}).setdefault(name, []).append(result)
                cells = [f"{result[measure]:.3f}" for measure in MEASURES]
                table.add_row(split, name, str(seed), f"{result['tokens']:,}", f"{result['reasoning']:.1%}", *cells)
    unit = "words" if renderer is None else "tokens"
    settings = {"conversations": arguments.conversations, "unit": unit, "versions": package_versions()}
    write_json(arguments.output, settings | {"splits": found})
    Console(width=120).print(table)


def in_words(conversation: Conversation) -> Tokens:
    """Words and signs, each with the space before it."""
    pieces = [of_text(content, spans) for content, spans in assistant_turns(conversation)]
    names = [name for found, _, _ in pieces for name in found]
    return Tokens(
        names,
        np.concatenate([roles_T == Role.REASONING for _, roles_T, _ in pieces]),
        np.concatenate([regex_T == Role.FORMAT for _, _, regex_T in pieces]),
        np.array([any(map(str.isalnum, name)) for name in names]),
    )


def assistant_turns(conversation: Conversation) -> Iterator[tuple[str, Sequence[Any]]]:
    """Text and true spans of each assistant turn."""
    for message, spans in zip(conversation.messages, conversation.role_spans or [], strict=True):
        if message["role"] == "assistant":
            yield message["content"], spans


def of_text(content: str, spans: Sequence[Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of a turn's words, their true roles, and those of the regex."""
    places = [match.span() for match in WORD.finditer(content) if match[0]]
    start_T, end_T = (np.array(ends, dtype=np.int32) for ends in zip(*places, strict=True))
    roles_T = project(spans, start_T, end_T, default=Role.CONTEXT)
    return (
        [content[start:end].strip() for start, end in places],
        roles_T,
        label_format(content, start_T, end_T, [(0, len(content))]),
    )


def in_tokens(conversation: Conversation, renderer: Renderer) -> Tokens:
    """A tokenizer's loss tokens, without those that lie across two roles."""
    names: list[int] = []
    reasoning, formats, words = [], [], []
    for sample in renderer.render(conversation):
        assert sample.true_roles is not None
        known_T = sample.loss_mask & (sample.true_roles != Role.PLAIN)
        spans = [(int(sample.char_start[t.start]), int(sample.char_end[t.end - 1])) for t in sample.turns]
        regex_T = label_format(sample.text, sample.char_start, sample.char_end, spans)
        names += sample.input_ids[known_T].tolist()
        reasoning.append(sample.true_roles[known_T] == Role.REASONING)
        formats.append(regex_T[known_T] == Role.FORMAT)
        places = zip(sample.char_start[known_T], sample.char_end[known_T], strict=True)
        words += [any(map(str.isalnum, sample.text[start:end])) for start, end in places]
    return Tokens(names, np.concatenate(reasoning), np.concatenate(formats), np.array(words))


def measure(conversations: Sequence[Tokens]) -> dict[str, float]:
    """Each measure's area over all conversations, the number of tokens, and the share of reasoning."""
    own = [Counter(one.names) for one in conversations]
    everywhere = sum(own, Counter())
    rarity_T = np.concatenate(
        [
            rarities(np.array(one.names), everywhere - counts, len(everywhere))
            for one, counts in zip(conversations, own, strict=True)
        ]
    )
    reasoning_T = np.concatenate([one.reasoning_T for one in conversations])
    format_T = np.concatenate([one.format_T for one in conversations])
    word_T = np.concatenate([one.word_T for one in conversations])
    areas = [auroc(score_T, reasoning_T) for score_T in (rarity_T, ~format_T, np.where(format_T, -1.0, rarity_T))]
    areas.append(auroc(rarity_T[word_T], reasoning_T[word_T]))
    shares = {"tokens": len(reasoning_T), "reasoning": float(reasoning_T.mean())}
    return dict(zip(MEASURES, areas, strict=True)) | shares


if __name__ == "__main__":
    run_script(main)
