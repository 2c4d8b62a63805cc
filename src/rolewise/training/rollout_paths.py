"""Paths that a policy has gone, as reinforcement takes them: ids, what each token earned, and how the path ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class RolledPath:
    """One answer to a question. T tokens.

    Attributes:
        prompt_ids: what the policy was given.
        ids: what it wrote, T of them; empty where nothing came of it.
        rewards: what each of the ids earned, T numbers: that of the whole path stands at its last token, that of a
            step, where one was judged, at the step's last token.
        outcome: the reward of the whole path, as judged; for logs.
        right: whether its answer is right; None where that can't be known.
        answered: whether it has an answer.
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
    """Where paths come from: tree search, plain sampling, or a user's own."""

    def __call__(
        self, model: Any, rows: Sequence[Mapping[str, Any]], paths: Sequence[int], *, seed: int
    ) -> Sequence[Sequence[RolledPath]]:
        """Paths under the policy as it is now.

        Args:
            model: the policy, the same object on every call, its weights others each time.
            rows: of the data set, different questions.
            paths: how many are wanted of each question.
            seed: the same policy, rows and seed give the same paths.

        Returns:
            For each row as many as are wanted.
        """
        ...


def path_numbers(path: RolledPath, behaviours: Sequence[str]) -> dict[str, float]:
    """What is logged of a path, averaged over paths: `right` (where it can be known), `answered`, and for each of the
    behaviours `steps/<name>`, how many such steps it has."""
    numbers = {} if path.right is None else {"right": float(path.right)}
    numbers["answered"] = float(path.answered)
    return numbers | {f"steps/{name}": float(path.behaviours.count(name)) for name in behaviours}
