"""Counting rollouts by optimizer steps, so that a resumed run counts on where it was."""

import math
from fractions import Fraction


def optimizer_steps_per_rollout(micro_batches: int, accumulated: int) -> Fraction:
    """For how many optimizer steps a rollout is trained on; at least 1, since those within one step share a policy.

    Args:
        micro_batches: that a rollout serves, over all iterations.
        accumulated: micro-batches of one optimizer step.
    """
    return max(Fraction(1), Fraction(micro_batches, accumulated))


def rollout_at(step: int, steps_per_rollout: Fraction | int) -> int:
    """The number, from 0, of the latest rollout that begins within an optimizer step.

    A rollout that lasts for one step and a half begins in the midst of a step, every other time.

    Args:
        step: optimizer steps done before.
        steps_per_rollout: of `optimizer_steps_per_rollout`.
    """
    return math.ceil((step + 1) / Fraction(steps_per_rollout)) - 1
