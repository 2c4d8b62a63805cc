"""Labellers of a user's own: what they give is checked, and how they fail is told in one line."""

from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.labelled import TokenLabels
from rolewise.data.render import Renderer
from rolewise.generator import generate
from rolewise.labelling.labellers import LabellingContext, by_regex, checked, register_labeller
from rolewise.labelling.registry import LABELLERS


@pytest.fixture(scope="module")
def samples(bench):
    renderer = Renderer(bench.tokenizer())
    return [sample for conversation in generate(3, seed=0) for sample in renderer.render(conversation)]


def all_reasoning(samples):
    return [
        TokenLabels.without_losses(np.where(s.loss_mask, Role.REASONING, Role.CONTEXT).astype(np.uint8))
        for s in samples
    ]


def failing(samples):
    yield all_reasoning(samples)[0]
    raise KeyError("weights")


def spoilt(samples, change):
    labels = all_reasoning(samples)
    return [labels[0], replace(labels[1], roles_T=change(labels[1].roles_T)), *labels[2:]]


def test_what_fits_passes(samples):
    labels = all_reasoning(samples)
    assert list(checked(labels, samples, "mine")) == labels
    context = LabellingContext("model", False, None, Progress(disable=True))
    assert len(list(checked(by_regex(samples, context), samples, "regex"))) == len(samples)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda s: all_reasoning(s)[:-1], "gave no labels from this sample on"),
        (lambda s: [*all_reasoning(s), all_reasoning(s)[0]], "labels for more samples than there are"),
        (lambda s: spoilt(s, lambda roles: roles[:-1]), "not one `Role` per token"),
        (lambda s: spoilt(s, lambda roles: roles + np.uint8(90)), "not one `Role` per token"),
        (lambda s: spoilt(s, lambda roles: roles.astype(np.int64) - 5), "not one `Role` per token"),
        (lambda s: spoilt(s, lambda roles: roles.astype(float)), "a NumPy array of integers"),
        (lambda s: spoilt(s, lambda roles: roles.tolist()), "a NumPy array of integers"),
        (lambda s: spoilt(s, np.zeros_like), "must give a role to every loss token"),
        (lambda s: spoilt(s, np.ones_like), "CONTEXT to every other"),
        (failing, "the labeller mine failed: KeyError: 'weights'"),
    ],
)
def test_what_does_not_fit_is_refused(labels, message, samples):
    with pytest.raises(InputError, match=message):
        list(checked(labels(samples), samples, "mine"))


def test_a_parameter_of_no_known_type_takes_any_value(registries):
    def labeller(samples, context, *, kinds=None, least: "Undefined" = 1, share: "float" = 0.5):  # noqa: F821
        return [(kinds, least, share)]

    register_labeller("mine", labeller)
    assert LABELLERS.make("mine", {"kinds": ["a"], "least": True})("s", "c") == [(["a"], True, 0.5)]
    with pytest.raises(InputError, match=r"^share is 'much'; expected a number"):
        LABELLERS.make("mine", {"share": "much"})


def test_names(registries):
    def labeller(samples, context, *, window: Annotated[int, "Tokens to look back."] = 3):
        return [(samples, context, window)]

    register_labeller("mine", labeller)
    assert LABELLERS.make("mine")("s", "c") == [("s", "c", 3)]
    assert LABELLERS.parameters("mine")["window"].help == "Tokens to look back."
    assert LABELLERS.make("mine", {"window": 5})("s", "c") == [("s", "c", 5)]
    with pytest.raises(InputError, match=r"method mine has no parameter 'windwo'; did you mean window\?"):
        LABELLERS.make("mine", {"windwo": 5})
    with pytest.raises(InputError, match=r"window is 'x'; expected a whole number"):
        LABELLERS.make("mine", {"window": "x"})
    with pytest.raises(ValueError, match="taken"):
        register_labeller("shad", labeller)
    with pytest.raises(
        InputError, match=r"method 'other' is not known; choose one of contrast, functional, .*rho, shad, .*mine"
    ):
        LABELLERS.make("other")
