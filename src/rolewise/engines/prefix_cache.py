"""Keys and values that a model computed for prefixes, in a radix tree over token ids.

The numbers of a prefix are the same for all prompts that begin with it, so a tree search's siblings, an agent's next
turn and many questions behind one instruction need not read it again.

Shapes: T tokens, F numbers per token: its keys and values in all layers, concatenated.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch


class _Node:
    """A run of tokens without branches, and their numbers."""

    def __init__(self, ids: list[int], numbers_TF: torch.Tensor, parent: "_Node | None") -> None:
        self.ids, self.numbers_TF, self.parent = ids, numbers_TF, parent
        self.children: dict[int, _Node] = {}

    @property
    def bytes(self) -> int:
        return int(self.numbers_TF.numel() * self.numbers_TF.element_size())


class PrefixCache:
    """Cache of numbers of tokens, keyed by the tokens before them; the least recently used are evicted first.

    Args:
        max_bytes: maximum size in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._root = _Node([], torch.empty(0), None)
        # Least recently used first. A node's parents are touched after it, so the first node has no children.
        self._used: OrderedDict[_Node, None] = OrderedDict()

    def known(self, ids: list[int]) -> int:
        """Return the length of the longest cached prefix of `ids`. The lookup counts as use."""
        return sum(count for _, count in self._path(ids))

    def copy(self, ids: list[int], into_TF: torch.Tensor) -> None:
        """Write the numbers of `ids`, all of which must be cached, into a tensor (T, F)."""
        start = 0
        for node, count in self._path(ids):
            into_TF[start : start + count] = node.numbers_TF[:count]
            start += count
        if start != len(ids):
            raise LookupError(f"only {start} of {len(ids)} tokens are cached")

    def add(self, ids: list[int], numbers: Callable[[int, int], torch.Tensor]) -> None:
        """Add the tokens that are not cached yet; only the first ones if all would not fit.

        Args:
            ids: tokens from the first on.
            numbers: function that returns the numbers of the tokens between two positions (T, F), as a separate tensor.
        """
        path = self._path(ids)
        known = sum(count for _, count in path)
        if known == len(ids):
            return
        numbers_TF = numbers(known, len(ids))
        room = self.max_bytes // (numbers_TF.shape[1] * numbers_TF.element_size()) - known
        if room <= 0:
            return
        if room < len(numbers_TF):
            numbers_TF = numbers_TF[:room].clone()
        parent, count = path[-1] if path else (self._root, 0)
        if count < len(parent.ids):
            parent = self._split(parent, count)
        node = _Node(ids[known : known + len(numbers_TF)], numbers_TF, parent)
        parent.children[node.ids[0]] = node
        self._touch(node)
        self.bytes += node.bytes
        self._make_room()

    def _path(self, ids: list[int]) -> list[tuple[_Node, int]]:
        """Return the nodes that hold the beginning of `ids`, with the number of tokens used of each."""
        path: list[tuple[_Node, int]] = []
        node, start = self._root, 0
        while start < len(ids) and (child := node.children.get(ids[start])) is not None:
            count = _common_length(child.ids, ids[start : start + len(child.ids)])
            path.append((child, count))
            if count < len(child.ids):
                break
            node, start = child, start + count
        if path:
            self._touch(path[-1][0])
        return path

    def _split(self, node: _Node, count: int) -> _Node:
        """Split a node in two and return the upper one, of `count` tokens."""
        assert node.parent is not None
        # Copies, so that memory is freed when one of the two is evicted.
        upper = _Node(node.ids[:count], node.numbers_TF[:count].clone(), node.parent)
        node.parent.children[node.ids[0]] = upper
        upper.children[node.ids[count]] = node
        node.ids, node.numbers_TF, node.parent = node.ids[count:], node.numbers_TF[count:].clone(), upper
        self._touch(node)
        return upper

    def _touch(self, node: _Node) -> None:
        above: _Node | None = node
        while above is not None and above is not self._root:
            self._used[above] = None
            self._used.move_to_end(above)
            above = above.parent

    def _make_room(self) -> None:
        while self.bytes > self.max_bytes:
            node, _ = self._used.popitem(last=False)
            assert node.parent is not None
            del node.parent.children[node.ids[0]]
            self.bytes -= node.bytes


def shared_prefixes(
    prompts: Sequence[list[int]], known: Callable[[list[int]], int], least: int
) -> Iterator[tuple[int, list[int]]]:
    """Find prefixes that are worth reading separately first, because several prompts share them.

    Args:
        prompts: prompts; all but the last token of each may be shared.
        known: function that returns the length of the longest known prefix of tokens.
        least: minimum number of tokens that a prefix must save.

    Yields:
        (level, prefix): prefixes of level 0 can be read at once, those of level 1 after those of level 0, and so on.
    """
    return _shared_from(0, 0, 0, [prompt[:-1] for prompt in prompts], known, least)


def _shared_from(
    level: int, at: int, held: int, beginnings: list[list[int]], known: Callable[[list[int]], int], least: int
) -> Iterator[tuple[int, list[int]]]:
    """Find shared prefixes of beginnings that agree up to `at`, the first `held` tokens of which will be known."""
    branches: dict[int, list[list[int]]] = defaultdict(list)
    for ids in beginnings:
        if len(ids) > at:
            branches[ids[at]].append(ids)
    for branch in branches.values():
        if len(branch) < 2:
            continue
        # The common prefix of the first and the last in sorted order is common to all.
        common = min(branch)
        common = common[: _common_length(common, max(branch))]
        new = len(common) - max(held, known(common))
        if (len(branch) - 1) * new >= least:
            yield level, common
            yield from _shared_from(level + 1, len(common), len(common), branch, known, least)
        else:
            yield from _shared_from(level, len(common), held, branch, known, least)


def _common_length(some: list[int], others: list[int]) -> int:
    length = min(len(some), len(others))
    if some[:length] == others[:length]:
        return length
    return next(i for i, (one, other) in enumerate(zip(some, others, strict=False)) if one != other)
