"""The labeller on a sample made by hand: no model, no tokenizer."""

from pathlib import Path

import numpy as np
from my_labeller import label
from rich.progress import Progress

from rolewise import LabellingContext, RenderedSample, Role


def sample_of(*tokens: tuple[str, bool]) -> RenderedSample:
    """A sample of these tokens, each with whether it carries loss."""
    ends = np.cumsum([len(text) for text, _ in tokens]).astype(np.int32)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int32)
    mask = np.array([loss for _, loss in tokens])
    return RenderedSample(
        input_ids=np.arange(len(tokens), dtype=np.int32),
        loss_mask=mask,
        char_start=starts,
        char_end=ends,
        text="".join(text for text, _ in tokens),
        turns=(),
        source="made by hand",
    )


def test_names_and_numbers_are_reasoning(tmp_path: Path) -> None:
    tokens = [("In Paris", False), (" the", True), (" train", True), (" to Oslo", True), (" leaves ", True)]
    tokens += [("1", True), ("5:3", True), ("0", True), (".", True)]
    context = LabellingContext("unused", False, tmp_path, Progress(disable=True))
    [labels] = label([sample_of(*tokens)], context)
    b, r = Role.BOILERPLATE, Role.REASONING
    assert labels.roles_T.tolist() == [Role.CONTEXT, b, b, r, b, r, r, r, b]
    assert labels.roles_T.dtype == np.uint8
