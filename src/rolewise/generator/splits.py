"""The splits: everything in which they differ.

`train` and `eval` are alike but share no API, stock phrase, name, title or code. `hard` is for judging labellers, and
takes away what makes the other two easy:

- Stock sentences are composed by a phrase grammar (`phrases_hard`, `lexicon_hard`), so that hardly any recurs and words
  of boilerplate are often rare. In the others they come from a bank, and rarity alone nearly tells the roles apart.
- Values are booleans, small digits and a few options (`apis_hard`); code words, names and places come from small,
  uneven pools, with one dominant tool, so that words of reasoning are often frequent. Each pool also has rare entries,
  so that reasoning and boilerplate overlap at every frequency. Prompt and query still decide each value.
- Thoughts are longer and seldom quote a request, whose words would be rare reasoning.
- Two of its three output formats are made up, so that the rules of `rolewise.roles` find no format in them; the third
  is a known one. The suite `calls:FILE` reads the calls of the third alone.

`experiments/hard_split.py` measures what counting and rules find on each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rolewise.generator.apis import EVAL_APIS, TRAIN_APIS, Api
from rolewise.generator.apis_hard import HARD_APIS
from rolewise.generator.arguments import POOLS, Pools, Split
from rolewise.generator.lexicon_hard import HARD_LEXICON
from rolewise.generator.phrases import TRAIN_BANK, PhraseBank
from rolewise.generator.phrases_eval import EVAL_BANK
from rolewise.generator.phrases_hard import HARD_BANK


@dataclass(frozen=True)
class Shares:
    """Shares of thoughts that open with a stock sentence, repeat the request, rule out a tool, close with a stock
    sentence."""

    opener: float = 0.25
    quoting: float = 0.2
    rejection: float = 0.1
    closer: float = 0.2


@dataclass(frozen=True)
class SplitData:
    """What the conversations of a split are made of.

    Attributes:
        lexicon: alternatives for the names in angle brackets of the bank's phrases.
        formats: names of the output formats, taken in turn.
    """

    apis: tuple[Api, ...]
    bank: PhraseBank
    pools: Pools
    shares: Shares = Shares()
    lexicon: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    formats: tuple[str, ...] = ("rlla", "hermes", "react")


SPLITS: dict[Split, SplitData] = {
    "train": SplitData(TRAIN_APIS, TRAIN_BANK, POOLS["train"]),
    "eval": SplitData(EVAL_APIS, EVAL_BANK, POOLS["eval"]),
    "hard": SplitData(
        HARD_APIS,
        HARD_BANK,
        POOLS["hard"],
        Shares(opener=1, quoting=0.1, rejection=0.2, closer=0.9),
        HARD_LEXICON,
        ("minutes", "cards", "react"),
    ),
}
