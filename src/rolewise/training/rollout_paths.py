"""Paths of a policy, as input of reinforcement learning: ids, the reward of each token, and the outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class RolledPath:
    """One answer to a question. T tokens.

    Attributes:
        prompt_ids: ids of the policy's prompt.
        ids: the T ids that the policy wrote; empty if it wrote none.
        rewards: the reward of each id, T numbers: the whole path's reward is at its last token, and that of a judged
            step at the step's last token.
        outcome: the judged reward of the whole path, for logs.
        right: True if its answer is right; None if unknown.
        answered: True if it has an answer.
        behaviours: names of its steps in order; empty for a policy without functional tokens.
        chosen: places in `ids` that were not sampled from the policy: a search put these tokens there.
    """

    prompt_ids: Sequence[int]
    ids: Sequence[int]
    rewards: Sequence[float]
    outcome: float
    right: bool | None = None
    answered: bool = False
    behaviours: tuple[str, ...] = ()
    chosen: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if len(self.rewards) != len(self.ids):
            raise ValueError(f"{len(self.rewards)} rewards for a path of {len(self.ids)} tokens; give one for each")


class Rollouts(Protocol):
    """A source of paths: tree search, plain sampling, or a user's own."""

    def __call__(
        self, model: Any, rows: Sequence[Mapping[str, Any]], paths: Sequence[int], *, seed: int
    ) -> Sequence[Sequence[RolledPath]]:
        """Return paths of the current policy.

        Args:
            model: the policy, the same object on every call but with changed weights.
            rows: rows of the data set, each with a different question.
            paths: number of paths to return for each question.
            seed: the same policy, rows and seed give the same paths.

        Returns:
            The requested number of paths for each row.
        """
        ...


def path_numbers(path: RolledPath, behaviours: Sequence[str]) -> dict[str, float]:
    """Return the numbers to log for a path, averaged over paths: `right` (if known), `answered`, and for each of the
    behaviours `steps/<name>`, the number of such steps."""
    numbers = {} if path.right is None else {"right": float(path.right)}
    numbers["answered"] = float(path.answered)
    return numbers | {f"steps/{name}": float(path.behaviours.count(name)) for name in behaviours}
