"""The threshold from sure format tokens, against trying every threshold there is."""

from dataclasses import replace

import numpy as np
import pytest
from labelled_sets import make_labelled, without_losses
from workbench import Workbench

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.conversation import Conversation
from rolewise.data.labelled import LabelledSample
from rolewise.generator import generate
from rolewise.labelling.calibration import threshold_by_format_error
from rolewise.labelling.checks import check_format
from rolewise.labelling.classify import classify


@pytest.fixture(scope="module")
def samples(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> list[LabelledSample]:
    """Conversations with calls; losses are drawn at random."""
    folder = tmp_path_factory.mktemp("calibration") / "labelled"
    return list(make_labelled(folder, bench.tokenizer(), generate(6, seed=0)).samples())


def errors_at(samples: list[LabelledSample], threshold: float) -> tuple[int, int]:
    """Sure format tokens that a threshold calls reasoning, and all of them."""
    labelled = [replace(s, roles_T=classify(s.base_loss_T, s.tuned_loss_T, s.mask_T, threshold)) for s in samples]
    check = check_format(labelled)
    assert check is not None
    return check.errors, check.tokens


@pytest.mark.parametrize("share", [0, 0.02, 0.07, 0.3])
def test_it_is_the_lowest_thousandth_that_keeps_the_share(samples: list[LabelledSample], share: float) -> None:
    threshold = threshold_by_format_error(samples, share)
    errors, tokens = errors_at(samples, threshold)
    assert errors <= share * tokens
    thousandth = round(threshold * 1000)
    assert threshold == thousandth / 1000
    assert errors_at(samples, (thousandth - 1) / 1000)[0] > share * tokens


def test_where_0_keeps_the_share_it_stays(samples: list[LabelledSample]) -> None:
    errors, tokens = errors_at(samples, 0)
    assert threshold_by_format_error(samples, (errors + 1) / tokens) == 0
    assert threshold_by_format_error(samples, 0.999) == 0


def test_a_share_that_is_a_whole_number_of_tokens_is_used_up(samples: list[LabelledSample]) -> None:
    tokens = errors_at(samples, 0)[1]
    for allowed in (1, 7, tokens // 3):
        errors = errors_at(samples, threshold_by_format_error(samples, allowed / tokens) - 0.001)[0]
        assert errors > allowed
        assert errors_at(samples, threshold_by_format_error(samples, (allowed - 1) / tokens))[0] <= allowed - 1


def test_samples_that_the_labeller_was_tuned_on_do_not_count(samples: list[LabelledSample]) -> None:
    far = [replace(samples[0], tuned_loss_T=samples[0].tuned_loss_T + 9, excluded=True), *samples[1:]]
    assert threshold_by_format_error(far, 0.02) == threshold_by_format_error(samples[1:], 0.02)


def test_tokens_without_losses_do_not_count(samples: list[LabelledSample]) -> None:
    unknown_T = np.full_like(samples[0].tuned_loss_T, np.nan)
    general = replace(samples[0], tuned_loss_T=unknown_T, roles_T=np.where(samples[0].mask_T, Role.PLAIN, 0))
    assert threshold_by_format_error([*samples, general], 0.1) == threshold_by_format_error(samples, 0.1)


def test_what_can_not_be_calibrated_is_told(bench: Workbench, tmp_path, samples: list[LabelledSample]) -> None:
    for share in (-0.1, 1, float("nan")):
        with pytest.raises(InputError, match=r"format_error is .*; it must be a share from 0 to below 1"):
            threshold_by_format_error(samples, share)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]
    unmeasured = without_losses(tmp_path / "regex", bench.tokenizer(), [Conversation(turns, source="a:1")])
    with pytest.raises(InputError, match="no token with losses is certainly format"):
        threshold_by_format_error(unmeasured.samples(), 0.1)
