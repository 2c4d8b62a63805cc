"""Cost of a labelling, estimated before any weights are loaded."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from rolewise.labelling.measuring import MeasuringPlan
from rolewise.labelling.tuned_losses import TunedLossesPlan
from rolewise.training.models import DTYPES

FORWARD_FLOPS = 2
"""Floating-point operations per parameter and token in a forward pass."""
TUNING_FLOPS = {"lora": 4, "full": 6}
"""Floating-point operations including the backward pass; a frozen weight needs no gradient of its own."""
EFFICIENCY = 0.5
"""Speed of a whole model as a share of the matrix product's; measured values are 0.4 to 0.6."""


@dataclass(frozen=True)
class CostEstimate:
    """A rough estimate: enough to tell minutes from hours, and whether the work fits in memory."""

    seconds: float
    memory_bytes: float


def estimate_cost(
    plan: MeasuringPlan, dtype: str, parameters: int, text_config: Any, loss_share: float
) -> CostEstimate:
    """Estimate time and peak memory of tuning, if any, and scoring on this machine.

    Args:
        plan: the work.
        dtype: dtype of weights and computation.
        parameters: number of parameters of the model.
        text_config: the model's config (vocabulary and hidden size, layers).
        loss_share: share of the tokens that carry loss and therefore go through the LM head.
    """
    operations = FORWARD_FLOPS * parameters * plan.tokens_to_score
    speed = EFFICIENCY * _matmul_speed(plan.device, dtype, text_config.hidden_size)
    width = 4 if dtype == "float32" else 2
    weights, optimizer, tuning_tokens = parameters * width, 0, 0
    if isinstance(plan, TunedLossesPlan):
        is_full = plan.tuning.method == "full"
        operations = 2 * operations + TUNING_FLOPS[plan.tuning.method] * parameters * plan.tokens_to_tune
        weights *= 2 if is_full else 1
        optimizer = parameters * (width + 8) if is_full else 0
        tuning_tokens = plan.tuning.micro_batch_size * plan.longest_example
    # Logits of the loss tokens, once in the model's precision, once in float32, once as probabilities.
    logits = max(plan.batch_tokens, tuning_tokens) * loss_share * text_config.vocab_size * (width + 8)
    # About a dozen vectors of hidden size per layer and token are kept for the backward pass.
    activations = tuning_tokens * text_config.num_hidden_layers * text_config.hidden_size * 12 * width
    memory = weights + optimizer + logits + activations
    return CostEstimate(operations / speed, memory)


def _matmul_speed(device: str, dtype: str, hidden_size: int) -> float:
    """Measure operations per second of a matrix product of the model's shape, for a fraction of a second."""
    kind = DTYPES[dtype]
    left = torch.randn(1024, hidden_size, device=device).to(kind)
    right = torch.randn(hidden_size, 4 * hidden_size, device=device).to(kind)
    operations = 2 * left.numel() * right.size(1)
    repeats, seconds = 1, 0.0
    while seconds < 0.1:
        repeats *= 2
        start = time.perf_counter()
        for _ in range(repeats):
            product = left @ right
        float(product[0, 0])  # waits for the device
        seconds = time.perf_counter() - start
    return float(operations * repeats / seconds)
