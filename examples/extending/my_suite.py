"""A suite of one's own: the model is to copy a word, letter by letter, in reverse.

rolewise eval --model MODEL --plugin examples/extending/my_suite.py --suite backwards --output scores
"""

from collections.abc import Sequence

from rolewise import Ask, Example, Suite, SuiteSettings, Verdict, register_suite
from rolewise.evaluation.suite import Play

WORDS = ("stone", "river", "candle", "meadow", "lantern", "harbour")


class Backwards(Suite):
    """Right if the answer's last word is the given one, reversed."""

    name = "backwards"
    title = "Words backwards"

    def examples(self) -> Sequence[Example]:
        return [Example(word, f"{len(word)} letters", word) for word in WORDS]

    def play(self, example: Example) -> Play:
        question = f"Write the word {example.data!r} backwards. Answer with nothing but that word."
        answer = yield Ask(messages=[{"role": "user", "content": question}], max_new_tokens=16)
        said = answer.text.split()
        right = bool(said) and said[-1].strip(".\"'").lower() == example.data[::-1]
        return Verdict(float(right), "" if right else f"said {said[-1] if said else 'nothing'!r}")


def make(settings: SuiteSettings) -> Suite:
    """`settings` tells where data and downloads lie, and what the user asked for; this suite needs none of it."""
    return Backwards()


register_suite("backwards", make)
