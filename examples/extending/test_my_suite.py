"""The suite played by hand: answers are sent to the play, and it ends in a verdict."""

import pytest
from my_suite import WORDS, Backwards

from rolewise import Answer, Verdict


def verdict(word: str, text: str) -> Verdict:
    suite = Backwards()
    play = suite.play(next(example for example in suite.examples() if example.id == word))
    asked = next(play)
    assert word in asked.messages[0]["content"]
    with pytest.raises(StopIteration) as end:
        play.send(Answer([text] if text else [], []))
    result = end.value.value
    assert isinstance(result, Verdict)
    return result


@pytest.mark.parametrize("text", ["enots", "Enots.", "It is 'enots'"])
def test_the_word_backwards_is_right(text: str) -> None:
    assert verdict("stone", text).score == 1


@pytest.mark.parametrize("text", ["stone", "enots is what I say", ""])
def test_anything_else_is_wrong_and_says_why(text: str) -> None:
    result = verdict("stone", text)
    assert result.score == 0
    assert result.reason.startswith("said")


def test_every_word_is_an_example() -> None:
    assert [example.id for example in Backwards().examples()] == list(WORDS)
