"""A labeller of one's own: numbers and capitalised names are reasoning, everything else is boilerplate.

    rolewise label --method names-and-numbers --plugin examples/extending/my_labeller.py --data conversations.jsonl \\
        --model MODEL --output labelled

Crude, but free of cost: in many tool calls and calculations it is the names and numbers that depend on the question.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from rolewise import LabellingContext, RenderedSample, Role, TokenLabels, register_labeller

NUMBER_OR_NAME = re.compile(r"\d+(?:[.,:]\d+)*|\b[A-Z]\w+")


def label(samples: Sequence[RenderedSample], context: LabellingContext) -> Iterator[TokenLabels]:
    """A token is reasoning if any of its characters belongs to a number or name; one sample at a time."""
    for sample in samples:
        matches_C = np.zeros(len(sample.text) + 1, dtype=np.int64)  # C: characters, and the end of the text
        for match in NUMBER_OR_NAME.finditer(sample.text):
            matches_C[match.start() : match.end()] = 1
        before_C = np.concatenate([[0], matches_C.cumsum()])  # matched characters before each
        touches_T = before_C[sample.char_end] > before_C[sample.char_start]
        roles_T = np.where(touches_T, Role.REASONING, Role.BOILERPLATE)
        yield TokenLabels.without_losses(np.where(sample.loss_mask, roles_T, Role.CONTEXT).astype(np.uint8))


register_labeller("names-and-numbers", label)
