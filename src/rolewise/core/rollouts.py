"""Counting rollouts by optimizer steps, so that a resumed run continues the count."""

import math
from fractions import Fraction


def optimizer_steps_per_rollout(micro_batches: int, accumulated: int) -> Fraction:
    """Return the number of optimizer steps per rollout; at least 1, since rollouts within one step share a policy.

    Args:
        micro_batches: number of micro-batches that a rollout serves, over all iterations.
        accumulated: number of micro-batches in one optimizer step.
    """
    return max(Fraction(1), Fraction(micro_batches, accumulated))


def rollout_at(step: int, steps_per_rollout: Fraction | int) -> int:
    """Return the number, from 0, of the latest rollout that begins within an optimizer step.

    A rollout of one and a half steps begins in the middle of a step every other time.

    Args:
        step: number of optimizer steps done before.
        steps_per_rollout: result of `optimizer_steps_per_rollout`.
    """
    return math.ceil((step + 1) / Fraction(steps_per_rollout)) - 1
