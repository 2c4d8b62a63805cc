"""The verdict on labels, and the tokens that it holds them against."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from workbench import Workbench, rolewise, small_label_arguments

from rolewise.core.role import Role
from rolewise.data.labelled import LabelledSample, load_labelled
from rolewise.labelling.checks import check_format, check_truth
from rolewise.labelling.sure_tokens import sure_tokens
from rolewise.labelling.verdict import judge_samples


@pytest.fixture(scope="module")
def labelled(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench labelled by rules, with the same conversations as general chat."""
    general = tmp_path_factory.mktemp("verdict") / "chat.jsonl"
    general.write_bytes(bench.data.read_bytes())
    output = general.parent / "out"
    result = rolewise(*small_label_arguments(bench, output, "--method", "regex", "--general", general))
    assert result.returncode == 0, result.stderr
    return output


def test_general_chat_has_no_role_to_judge(labelled):
    data = load_labelled(labelled)
    samples = list(data.samples())
    own = [sample for sample in samples if not (sample.roles_T == Role.PLAIN).any()]
    assert 0 < len(own) < len(samples)
    whole = judge_samples(samples, data)
    assert whole.rates["labels"].recall == 1
    assert whole.tokens == judge_samples(own, data).tokens
    assert check_format(samples) == check_format(own)
    assert check_truth(samples, method="regex") == check_truth(own, method="regex")


def test_labels_without_any_role_get_no_verdict(labelled):
    data = load_labelled(labelled)
    samples = [sample for sample in data.samples() if (sample.roles_T == Role.PLAIN).any()]
    for given in (samples, [replace(sample, excluded=True) for sample in data.samples()]):
        verdict = judge_samples(given, data)
        assert verdict.action == "unknown"
        assert verdict.tokens == (0, 0, 0)
        assert verdict.line.startswith("unknown: only 0 tokens are surely reasoning")


def test_a_copy_of_an_earlier_turn_that_is_a_sample_of_its_own_is_not_surely_reasoning():
    def sample(source: str, before: str, answer: str) -> LabelledSample:
        pieces = [before, *(f" {word}" for word in answer.split())]
        ends_T = np.cumsum([len(piece) for piece in pieces])
        roles_T = np.array([Role.CONTEXT, *[Role.TEMPLATE] * (len(pieces) - 1)], np.uint8)
        losses_T = np.full(len(pieces), np.nan, np.float32)
        starts_T = ends_T - [len(piece) for piece in pieces]
        return LabelledSample(
            text="".join(pieces),
            source=source,
            roles_T=roles_T,
            mask_T=roles_T != Role.CONTEXT,
            base_loss_T=losses_T,
            tuned_loss_T=losses_T,
            char_start_T=starts_T,
            char_end_T=ends_T,
            true_roles_T=None,
            excluded=False,
        )

    first, second, *_ = sure_tokens(
        [
            sample("a", "Go to Rome", "to Rome"),
            sample("a", "Go to Rome: to Rome. By train", "Rome train"),
            *(sample(name, f"Go on {name}", f"on {name}") for name in "bcdefg"),
        ]
    )
    assert first.reasoning_T.tolist() == [False, True, True]
    assert second.reasoning_T.tolist() == [False, False, True]
