"""UCT by hand: the bound, a tree by functional tokens, and one by prompts."""

import math

import pytest
from scripted_search import ScriptedModel

from rolewise.core.behaviour import Behaviour, BehaviourSet
from rolewise.data.chat_template import CHATML
from rolewise.search.policies import PromptPolicy, TokenPolicy
from rolewise.search.settings import SearchSettings
from rolewise.search.tree import Node, Question
from rolewise.search.tree_search import TreeSearch
from rolewise.search.uct import best_child, uct
from rolewise.search.values import Judgement


def test_the_bound_by_hand():
    assert uct(3.0, 4, 9, 2.0) == pytest.approx(0.75 + 2 * math.sqrt(2.1972245773 / 4))
    assert uct(1.0, 1, 1, 2.0) == 1.0  # ln 1 = 0
    assert uct(0.0, 0, 3, 2.0) == math.inf


def test_the_worse_of_two_is_tried_again_at_the_tenth_visit():
    """c = 1, values 1 and 0. With n visits the better child has 1 + √(ln n / (n - 1)), the other √(ln n): 1.524 against
    1.482 for n = 9, 1.506 against 1.517 for n = 10."""
    better, worse = Node(1, 0, "a"), Node(2, 0, "b")
    visits = [1, 1]
    better.value = 1.0
    order = []
    for _ in range(10):
        taken = best_child([better, worse], visits, sum(visits), 1.0)
        order.append(taken.behaviour)
        visits[taken.number - 1] += 1
        better.value += taken is better
    assert order == [*"aaaaaaaa", "b", "a"]


def test_of_equals_the_earliest_is_taken():
    assert best_child([Node(1, 0, "a"), Node(2, 0, "b")], [3, 3], 6, 2.0).number == 1


class _Paths:
    """Values of paths, named by the first letters of their behaviours."""

    notes = ()

    def __init__(self, values):
        self._values = values
        self.judged = 0

    def judge(self, leaves):
        self.judged += len(leaves)
        return [Judgement(self._values.get("".join(step.behaviour[0] for step in leaf.steps), 0.0)) for leaf in leaves]


class _FirstIsLikeliest(ScriptedModel):
    def weigh(self, prefix, tokens):
        return [-50.0 * place for place, _ in enumerate(tokens)]


def test_visits_of_a_tree_by_functional_tokens(make_tokenizer):
    """Paths aa, ab, ba, bs, of which ab is worth 1; c = 1; of untried behaviours the first is likeliest, so simulation
    takes it too.

        1  a untried, then aa           2  b untried, then ba       3  a, b equal: a; ab untried
        4  a .500 + .741, b 1.048: a; aa .833, ab 1.833: ab         5  a 1.346, b 1.177: ab
        6  a 1.384, b 1.269: ab         7  a 1.399, b 1.339: ab     8  a 1.403, b 1.395: ab
        9  a 1.402, b 1.442: b; bs untried. Now nothing is left.
    """
    behaviours = BehaviourSet(
        [
            Behaviour("a", "one", ("a", "b")),
            Behaviour("b", "other", ("a", "stop")),
            Behaviour("stop", "end"),
        ],
        first=("a", "b"),
    )
    tokenizer = make_tokenizer(CHATML, ("<|im_end|>", "<|im_start|>", *behaviours.tokens))
    model = _FirstIsLikeliest(tokenizer, ["Add 2 and 3."], endings=["close"])
    settings = SearchSettings(rollouts=20, max_depth=2, exploration=1.0)
    paths = _Paths({"ab": 1.0})
    (tree,) = TreeSearch(model, TokenPolicy(tokenizer, behaviours), paths, settings).run([Question("q", "How many?")])
    assert paths.judged == 4  # a leaf keeps what it was judged to be worth
    names = {"".join(step.behaviour[0] for step in tree.steps(node)): node for node in tree.nodes}
    assert [tree.nodes[number] for number in tree.rollouts] == [
        names[name] for name in ("aa", "ba", "ab", "ab", "ab", "ab", "ab", "ab", "bs")
    ]
    assert {name: (node.visits, node.value) for name, node in names.items()} == {
        "": (9, 6.0),
        "a": (7, 6.0),
        "b": (2, 0.0),
        "aa": (1, 0.0),
        "ab": (6, 6.0),
        "ba": (1, 0.0),
        "bs": (1, 0.0),
    }
    assert tree.ended == "exhausted"


def test_visits_of_a_tree_by_prompts(chatml_tokenizer):
    """Paths of three steps, a or b; those that begin with a are worth 1, the others nothing; c = 1.

    The first two rollouts take a and b in whatever order. From then on the root is as in the test of ten visits above:
    a up to the tenth, b at the eleventh. What lies below b is open all the while, so the tree does not end before.
    """
    behaviours = BehaviourSet(
        [
            Behaviour("a", "one", ("a", "b"), "Alpha!", children=1),
            Behaviour("b", "other", ("a", "b", "stop"), "Beta!", children=1),
            Behaviour("stop", "end"),
        ],
        first=("a", "b"),
    )
    values = {"a" + second + third: 1.0 for second in "ab" for third in "ab"}
    settings = SearchSettings(rollouts=11, max_depth=3, exploration=1.0)
    policy = PromptPolicy(chatml_tokenizer, behaviours)
    (tree,) = TreeSearch(ScriptedModel(chatml_tokenizer, ["Go on."]), policy, _Paths(values), settings).run(
        [Question("q", "How many?")]
    )
    taken = [tree.steps(tree.nodes[number])[0].behaviour for number in tree.rollouts]
    assert sorted(taken[:2]) == ["a", "b"]
    assert taken[2:] == [*"aaaaaaaa", "b"]
    assert [(node.behaviour, node.visits, node.value) for node in tree.children(tree.root)] == [
        ("a", 9, 9.0),
        ("b", 2, 0.0),
    ]
    assert tree.ended == "rollouts"
