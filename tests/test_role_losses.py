"""Held-out loss by role, against full logits and loops."""

import numpy as np
import pytest
import torch
from workbench import Workbench, tiny_model

from rolewise.core.role import Role
from rolewise.data.render import Renderer
from rolewise.evaluation.role_losses import losses_by_role, paired_difference, token_losses
from rolewise.generator import generate

pytest_plugins = ("workbench",)


@pytest.fixture(scope="module")
def measured(bench: Workbench):
    renderer = Renderer(bench.tokenizer())
    samples = [sample for c in generate(7, seed=3) for sample in renderer.render(c)]
    model = tiny_model(len(bench.tokenizer()))
    return model, samples, token_losses(model, samples, batch_tokens=700)


def test_token_losses_equal_full_logits_and_are_nan_elsewhere(measured):
    model, samples, losses = measured
    for sample, loss_T in zip(samples, losses, strict=True):
        ids = torch.from_numpy(sample.input_ids.astype(np.int64))[None]
        with torch.no_grad():
            log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
        for t, carries_loss in enumerate(sample.loss_mask):
            if not carries_loss:
                assert np.isnan(loss_T[t])
            else:
                assert loss_T[t] == pytest.approx(-float(log_probs[t - 1, ids[0, t]]), abs=1e-4)


def test_means_by_role_equal_loops_and_format_counts_as_boilerplate(measured):
    _, samples, losses = measured
    result = losses_by_role(losses, [sample.true_roles for sample in samples])
    groups = {Role.REASONING: {Role.REASONING}, Role.BOILERPLATE: {Role.BOILERPLATE, Role.FORMAT, Role.TEMPLATE}}
    for group, members in groups.items():
        pooled = []
        for i, sample in enumerate(samples):
            own = [float(losses[i][t]) for t, role in enumerate(sample.true_roles) if role in members]
            assert result.by_sample[group][i] == pytest.approx(np.mean(own), rel=1e-5)
            pooled += own
        assert result.by_token[group] == pytest.approx(np.mean(pooled), rel=1e-5)


def test_a_sample_without_the_role_counts_for_no_difference():
    losses = [np.array([np.nan, 1.0, 2.0], dtype=np.float32), np.array([np.nan, 3.0, 5.0], dtype=np.float32)]
    roles = [np.array([0, 2, 4]), np.array([0, 4, 4])]
    higher = [row + 0.5 for row in losses]
    before, after = losses_by_role(losses, roles), losses_by_role(higher, roles)
    assert np.isnan(before.by_sample[Role.REASONING][1])
    assert before.by_token[Role.BOILERPLATE] == pytest.approx((2 + 3 + 5) / 3)
    assert paired_difference(before, after, Role.REASONING).estimate == pytest.approx(0.5)
    assert paired_difference(before, after, Role.BOILERPLATE).estimate == pytest.approx(0.5)
