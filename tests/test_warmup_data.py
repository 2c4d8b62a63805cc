"""Warm-up data out of hand-made trees: the merged text, what may follow what, ranking, dedup and the choice."""

import itertools
import random
from collections import Counter

import pytest

from rolewise.core.behaviour import RFTT, Behaviour, BehaviourSet
from rolewise.core.errors import InputError
from rolewise.search.tree import Node, Question, Step, Tree
from rolewise.search.warmup_data import WarmupCounts, WarmupPaths, WarmupSample, WarmupSettings, choose

QUESTION = Question("q", "What is 3 + 4?", "7")
ON, END = Behaviour("next_step", "on", ("next_step", "output")), Behaviour("output", "end")
NO_VERIFY = BehaviourSet([ON, END], ["next_step"])
THINK, CHECK = Behaviour("think", "on", ("think", "verify")), Behaviour("verify", "check", ("think",))
NO_OUTPUT = BehaviourSet([THINK, CHECK, Behaviour("done", "end")], ["think", "done"])


def grow(tree: Tree, *steps: tuple[str, str], right: bool | None = None, below: Node | None = None, **facts) -> Node:
    """Hang a path below a node; the last step is a leaf, judged where `right` is given."""
    node = below or tree.root
    for behaviour, text in steps:
        node = tree.add(node, behaviour, text=text, ids=[1], logprobs=[-1.0])
    if right is not None:
        node.leaf, node.right, node.outcome, node.answer = True, right, float(right), "7" if right else "8"
        tree.rollouts.append(node.number)
        for passed in [tree.root, *tree.path(node)]:
            passed.visits += 1
            passed.value += float(right)
    for name, value in facts.items():
        setattr(node, name, value)
    return node


def small_tree() -> tuple[Tree, Node, Node]:
    """A shared step, then a wrong and a right branch of two steps each."""
    tree = Tree(QUESTION, "prompts")
    shared = grow(tree, ("clarify", "We add 3 and 4."))
    wrong = grow(tree, ("next_step", "3 + 4 = 8."), ("direct_answer", r"So \boxed{8}."), right=False, below=shared)
    right = grow(tree, ("next_step", "3 + 4 = 7."), ("direct_answer", r"So \boxed{7}."), right=True, below=shared)
    return tree, wrong, right


def steps(sample: WarmupSample | None) -> list[tuple[str, str]]:
    assert sample is not None
    return [(step.behaviour, step.text) for step in sample.steps]


def test_a_wrong_and_a_right_path_are_merged_to_this_text() -> None:
    tree, wrong, right = small_tree()
    paths = WarmupPaths(RFTT, WarmupSettings())
    [pair], [plain] = paths.look_at(tree)
    assert pair.nodes == (wrong.number, right.number)
    assert [step.text for step in pair.shared] == ["We add 3 and 4."]
    merged = paths.merge(pair, "  The sum of 3 and 4 is not 8.\n")
    assert merged is not None
    assert merged.content(RFTT) == (
        "<clarify>We add 3 and 4.</clarify>"
        "<next_step>3 + 4 = 8.</next_step>"
        r"<direct_answer>So \boxed{8}.</direct_answer>"
        "<verify>The sum of 3 and 4 is not 8.</verify>"
        "<refine>3 + 4 = 7.</refine>"
        r"<direct_answer>So \boxed{7}.</direct_answer>"
        r"<output>\boxed{7}</output>"
    )
    assert (merged.kind, merged.nodes) == ("merged", (wrong.number, right.number))
    assert plain.content(RFTT) == (
        "<clarify>We add 3 and 4.</clarify><next_step>3 + 4 = 7.</next_step>"
        r"<direct_answer>So \boxed{7}.</direct_answer><output>\boxed{7}</output>"
    )
    assert (plain.kind, plain.nodes) == ("plain", (right.number,))


def test_paths_that_share_nothing_and_a_right_branch_of_one_step() -> None:
    tree = Tree(QUESTION, "prompts")
    grow(tree, ("next_step", "It is 8."), right=False)
    grow(tree, ("next_step", "The answer is 7."), right=True)
    paths = WarmupPaths(RFTT, WarmupSettings(plain=0))
    [pair], none = paths.look_at(tree)
    assert (pair.shared, none) == ((), [])
    assert steps(paths.merge(pair, "No.")) == [
        ("next_step", "It is 8."),
        ("verify", "No."),
        ("refine", "The answer is 7."),
        ("output", r"\boxed{7}"),
    ]


def test_paths_by_functional_tokens_end_in_one_output() -> None:
    """Nothing may follow an output, so the wrong one's is left out; the right one's stays as it was written."""
    tree = Tree(QUESTION, "tokens")
    shared = grow(tree, ("next_step", "Add."))
    grow(tree, ("next_step", "8."), ("output", r"\boxed{8}"), right=False, below=shared)
    grow(tree, ("verify", "Fine."), ("output", r"It is \boxed{7}"), right=True, below=shared)
    paths = WarmupPaths(RFTT, WarmupSettings())
    [pair], [plain] = paths.look_at(tree)
    assert steps(paths.merge(pair, "No.")) == [
        ("next_step", "Add."),
        ("next_step", "8."),
        ("verify", "No."),
        ("refine", "Fine."),
        ("output", r"It is \boxed{7}"),
    ]
    assert steps(plain) == [("next_step", "Add."), ("verify", "Fine."), ("output", r"It is \boxed{7}")]


def test_the_first_step_stays_what_it_was_where_refine_does_not_fit() -> None:
    """Neither the output itself, nor a step before one that may not follow refine."""
    output = ("output", r"\boxed{7}")
    for branch in ([output], [("verify", "Is it?"), ("refine", "It is."), output]):
        tree = Tree(QUESTION, "tokens")
        shared = grow(tree, ("next_step", "Add."))
        grow(tree, ("next_step", "8."), right=False, below=shared)
        grow(tree, *branch, right=True, below=shared)
        paths = WarmupPaths(RFTT, WarmupSettings(plain=0))
        [pair], _ = paths.look_at(tree)
        assert steps(paths.merge(pair, "No."))[2:] == [("verify", "No."), *branch]


def test_what_the_graph_does_not_allow_is_dropped_and_counted() -> None:
    tree = Tree(QUESTION, "prompts")
    grow(tree, ("clarify", r"\boxed{8}"), right=False)  # verify may not follow clarify
    grow(tree, ("clarify", "Add."), ("analysis", "Sum."), ("direct_answer", r"\boxed{7}"), right=True)
    paths = WarmupPaths(RFTT, WarmupSettings())
    [pair], [_] = paths.look_at(tree)
    assert paths.merge(pair, "No.") is None
    assert paths.counts.dropped == {"verify may not follow clarify": 1}
    assert paths.merge(pair, " \n") is None
    assert paths.counts.dropped["the model says nothing on where the wrong path fails"] == 1

    tree = Tree(QUESTION, "prompts")
    grow(tree, ("next_step", " "), ("next_step", r"\boxed{7}"), right=True)
    grow(tree, ("clarify", r"\boxed{7}"), right=True)
    assert paths.look_at(tree) == ([], [])
    assert paths.counts.dropped["a step is empty"] == 1
    assert paths.counts.dropped["output may not follow clarify"] == 1


def test_steps_that_were_cut_off_are_counted_once_each() -> None:
    tree, wrong, _ = small_tree()
    tree.nodes[1].closed = wrong.closed = False
    grow(tree, ("clarify", "Not taken."), right=False, closed=False)
    paths = WarmupPaths(RFTT, WarmupSettings())
    [pair], _ = paths.look_at(tree)
    both = {node.number for number in pair.nodes for node in tree.path(tree.nodes[number])}
    assert paths.counts.steps == len(both)
    assert paths.counts.cut_off == sum(not tree.nodes[number].closed for number in both) == 2


def test_a_set_without_verify_gives_right_paths_alone() -> None:
    tree = Tree(QUESTION, "prompts")
    grow(tree, ("next_step", "It is 8."), right=False)
    grow(tree, ("next_step", "The answer is 7."), right=True)
    paths = WarmupPaths(NO_VERIFY, WarmupSettings())
    pairs, [plain] = paths.look_at(tree)
    assert pairs == []
    assert steps(plain) == [("next_step", "The answer is 7."), ("output", r"\boxed{7}")]
    assert paths.counts.dropped == {"the behaviours have no verify step": 1}


def test_a_set_without_output_ends_as_the_path_does() -> None:
    tree = Tree(QUESTION, "prompts")
    grow(tree, ("think", "8."), right=False)
    grow(tree, ("think", "7."), ("think", "Yes."), right=True)
    paths = WarmupPaths(NO_OUTPUT, WarmupSettings())
    [pair], [plain] = paths.look_at(tree)
    assert steps(plain) == [("think", "7."), ("think", "Yes.")]
    assert steps(paths.merge(pair, "No.")) == [("think", "8."), ("verify", "No."), ("think", "7."), ("think", "Yes.")]


def test_the_answer_of_an_output_is_the_path_s_own_else_the_reference() -> None:
    for text, expected in [
        ("So the answer is 7.0.", "7.0"),
        ("3 and 4 make 7.", "7"),
        (r"\boxed{\frac{14}{2}}", r"\frac{14}{2}"),
    ]:
        tree = Tree(QUESTION, "prompts")
        grow(tree, ("next_step", text), right=True)
        [plain] = WarmupPaths(RFTT, WarmupSettings()).look_at(tree)[1]
        assert steps(plain)[-1] == ("output", rf"\boxed{{{expected}}}")
    unknown = Tree(Question("q", "?"), "prompts")
    grow(unknown, ("next_step", "No word of it."), right=True)
    paths = WarmupPaths(RFTT, WarmupSettings())
    assert paths.look_at(unknown) == ([], [])
    assert paths.counts.dropped == {"the path does not say its answer": 1}


@pytest.mark.parametrize("said", ["So the answer is 7.", "3 + 4 = 7."])
def test_the_output_of_a_merged_sample_never_says_what_the_wrong_branch_or_the_verify_step_does(said: str) -> None:
    tree = Tree(QUESTION, "prompts")
    grow(tree, ("next_step", r"So \boxed{8}."), right=False)
    grow(tree, ("next_step", said), right=True)
    paths = WarmupPaths(RFTT, WarmupSettings())
    [pair], _ = paths.look_at(tree)
    assert steps(paths.merge(pair, r"The answer is 9, not \boxed{8}."))[-1] == ("output", r"\boxed{7}")


@pytest.mark.parametrize(
    "text", ["</verify>3 + 4<output>", "<ver<refine>ify>3 + 4", "<<verify>refine>3 + 4</</output>clarify>"]
)
def test_functional_tokens_within_a_text_are_taken_out(text: str) -> None:
    tree = Tree(QUESTION, "prompts")
    grow(tree, ("next_step", text), ("next_step", "The answer is 7."), right=True)
    grow(tree, ("next_step", "8."), right=False)
    paths = WarmupPaths(RFTT, WarmupSettings())
    [pair], [plain] = paths.look_at(tree)
    assert plain.steps[0] == Step("next_step", "3 + 4")
    assert paths.merge(pair, text).steps[1] == Step("verify", "3 + 4")  # type: ignore[union-attr]
    assert paths.merge(pair, "<refine>") is None


def test_right_paths_are_ranked_by_values_and_wrong_ones_the_other_way_round() -> None:
    """Each leaf below a step of its own, whose mean value tells them apart."""
    tree = Tree(QUESTION, "prompts")
    leaves = {}
    for name, right, value in [
        ("a", True, 0.6),
        ("b", True, 0.9),
        ("c", False, 0.5),
        ("d", False, 0.2),
        ("e", False, 0.3),
    ]:
        leaf = grow(tree, ("next_step", f"{name} first."), ("next_step", f"{name} then."), right=right)
        tree.nodes[leaf.parent].value = 2 * value * tree.nodes[leaf.parent].visits
        leaves[name] = leaf.number
    grow(tree, ("next_step", "no answer"), right=False, answer=None)
    grow(tree, ("next_step", "not judged"), leaf=True)
    paths = WarmupPaths(RFTT, WarmupSettings(merged=3, plain=1))
    pairs, [plain] = paths.look_at(tree)
    assert [pair.nodes for pair in pairs] == [(leaves["d"], leaves["b"]), (leaves["e"], leaves["a"])]
    assert plain.nodes == (leaves["b"],)
    assert (paths.counts.trees, paths.counts.with_right, paths.counts.with_both) == (1, 1, 1)
    assert paths.counts.process_rewards == 0


def reference_score(tree: Tree, leaf: Node, judged: bool) -> float:
    path = []
    while leaf.parent is not None:
        path.append(leaf)
        leaf = tree.nodes[leaf.parent]
    return sum(node.process_reward if judged else node.value / node.visits for node in path) / len(path)


@pytest.mark.parametrize("judged", [True, False])
def test_ranking_of_random_trees_is_that_of_a_plain_sort(judged: bool) -> None:
    chance = random.Random(5)
    pairs_seen = 0
    for _ in range(30):
        tree = Tree(QUESTION, "prompts")
        inner = [grow(tree, ("next_step", f"step {n}")) for n in range(3)]
        for n in range(8):
            below = chance.choice(inner)
            grow(tree, ("next_step", f"leaf {n}: the answer is 7."), right=chance.random() < 0.5, below=below)
        for node in tree.nodes[1:]:
            node.process_reward = round(chance.random(), 6)
            node.value = node.visits * chance.random()
        left_out = chance.choice([n for n in tree.nodes if n.leaf])
        if not judged:
            left_out.process_reward = None
        paths = WarmupPaths(RFTT, WarmupSettings(merged=2, plain=2))
        pairs, plain = paths.look_at(tree)
        right = sorted((leaf for leaf in tree.leaves() if leaf.right), key=lambda n: -reference_score(tree, n, judged))
        wrong = sorted(
            (leaf for leaf in tree.leaves() if not leaf.right), key=lambda n: reference_score(tree, n, judged)
        )
        assert [pair.nodes for pair in pairs] == [
            (w.number, r.number) for r, w in itertools.islice(zip(right, wrong, strict=False), 2)
        ]
        assert [sample.nodes for sample in plain] == [(leaf.number,) for leaf in right[:2]]
        assert paths.counts.process_rewards == (judged and bool(right))
        pairs_seen += len(pairs)
        for pair in pairs:
            texts = [[step.text for step in tree.steps(tree.nodes[number])] for number in pair.nodes]
            assert [step.text for step in (*pair.shared, *pair.wrong)] == texts[0]
            assert [step.text for step in (*pair.shared, *pair.right)] == texts[1]
            assert len(pair.shared) == (tree.nodes[pair.nodes[0]].parent == tree.nodes[pair.nodes[1]].parent)
    assert pairs_seen > 30


def test_of_equal_values_the_likelier_path_is_better_and_then_the_earlier() -> None:
    tree = Tree(QUESTION, "prompts")
    grow(tree, ("next_step", "a: the answer is 7."), right=True, logprobs=[-2.0])
    likely = grow(tree, ("next_step", "b: the answer is 7."), right=True, logprobs=[-0.5])
    grow(tree, ("next_step", "c: the answer is 7."), right=True, logprobs=[-0.5])
    [plain] = WarmupPaths(RFTT, WarmupSettings()).look_at(tree)[1]
    assert plain.nodes == (likely.number,)


def test_a_next_best_path_takes_the_place_of_one_that_is_no_legal_sample() -> None:
    tree = Tree(QUESTION, "prompts")
    grow(tree, ("clarify", r"\boxed{7}"), right=True)
    legal = grow(tree, ("next_step", r"\boxed{7}"), right=True)
    [plain] = WarmupPaths(RFTT, WarmupSettings()).look_at(tree)[1]
    assert plain.nodes == (legal.number,)


def test_behaviours_of_another_search_are_named() -> None:
    with pytest.raises(InputError, match=r"tree q: has steps with unknown behaviours \(clarify, direct_answer\)"):
        WarmupPaths(NO_VERIFY, WarmupSettings()).look_at(small_tree()[0])


def sample_of(behaviours: str, text: str, question: Question = QUESTION) -> WarmupSample:
    """A sample with a step for each letter: n, v, r, s for next_step, verify, refine, subquestion."""
    names = {"n": "next_step", "v": "verify", "r": "refine", "s": "subquestion"}
    return WarmupSample(question, tuple(Step(names[letter], text) for letter in behaviours), "plain", (1,))


def reference_alike(one: WarmupSample, other: WarmupSample) -> float:
    grams = []
    for sample in (one, other):
        words = " ".join(f"<{step.behaviour}> {step.text}" for step in sample.steps).lower().split()
        grams.append({" ".join(words[i : i + 3]) for i in range(len(words) - 2)})
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def test_samples_that_say_the_same_are_taken_once() -> None:
    chance = random.Random(2)
    words = 5 * "seven apples and four pears make eleven pieces of fruit in all on the table "
    samples = []
    for number in range(60):
        text = [chance.choice(["Seven", "APPLES", "x"]) if chance.random() < 0.015 else word for word in words.split()]
        samples.append(
            sample_of("nv", " ".join(text), Question(str(number), chance.choice(["A  question?", "a question?", "B?"])))
        )
    expected: list[WarmupSample] = []
    for sample in samples:
        same = [o for o in expected if o.question.text.lower().split() == sample.question.text.lower().split()]
        if all(reference_alike(sample, other) < 0.9 for other in same):
            expected.append(sample)
    counts = WarmupCounts()
    assert choose(samples, WarmupSettings(), counts) == expected
    assert 2 < len(expected) < 50
    assert counts.dropped == {"the same as another sample of its question": 60 - len(expected)}


def test_where_there_are_too_many_rare_behaviours_are_kept() -> None:
    chance = random.Random(3)
    kinds = ["n"] * 60 + ["nv"] * 6 + ["nvr"] * 3 + ["sn"] * 2
    chance.shuffle(kinds)
    samples = [sample_of(kind, f"text {n} says thing {n * n}") for n, kind in enumerate(kinds)]
    counts = WarmupCounts()
    chosen = choose(samples, WarmupSettings(limit=16), counts)
    assert len(chosen) == 16
    assert counts.dropped == {"more than the limit": len(samples) - 16}
    places = [samples.index(sample) for sample in chosen]
    assert places == sorted(set(places))
    having = Counter(step.behaviour for sample in chosen for step in sample.steps)
    assert having["refine"] == 3
    assert having["subquestion"] == 2
    assert having["verify"] >= 3 + 1  # the others would be a sixth of the samples, 1.5 of them
    assert choose(samples, WarmupSettings(limit=16), WarmupCounts()) == chosen
    assert choose(samples, WarmupSettings(limit=16, seed=1), WarmupCounts()) != chosen
    assert choose(samples, WarmupSettings(limit=len(samples)), WarmupCounts()) == samples
    for limit in (1, 2, 70):
        assert len(choose(samples, WarmupSettings(limit=limit), WarmupCounts())) == limit


@pytest.mark.parametrize("settings", [{"merged": 0, "plain": 0}, {"merged": -1}, {"limit": 0}])
def test_settings_that_make_nothing_are_refused(settings: dict) -> None:
    with pytest.raises(InputError):
        WarmupSettings(**settings)


def test_every_sample_of_random_trees_is_a_legal_path_with_its_own_texts() -> None:
    """Whatever the tree: the behaviours follow one another, the last is the answer, and no text is anybody else's."""
    chance = random.Random(11)
    samples, dropped, paths_dropped = 0, 0, Counter[str]()
    for number in range(40):
        tree = Tree(Question(f"q{number}", "?", "7"), "tokens")
        for _ in range(10):
            node = chance.choice([node for node in tree.nodes if not node.leaf])
            path = []
            behaviour = node.behaviour
            while not path or chance.random() < 0.6:
                following = [name for name in RFTT.after(behaviour) if name != "output" or path]
                if not following:
                    break
                behaviour = chance.choice(following)
                path.append((behaviour, f"{behaviour} of {len(tree.nodes)} {len(path)}, \\boxed{{7}}"))
            if path:
                grow(tree, *path, right=chance.random() < 0.5, below=node)
        paths = WarmupPaths(RFTT, WarmupSettings(merged=3, plain=3))
        pairs, plain = paths.look_at(tree)
        before = Counter(paths.counts.dropped)
        merged = [paths.merge(pair, "Here it fails.") for pair in pairs]
        paths_dropped += paths.counts.dropped - before
        for sample in [*plain, *(sample for sample in merged if sample is not None)]:
            names = [step.behaviour for step in sample.steps]
            assert all(b in RFTT.after(a) for a, b in zip([None, *names], names, strict=False))
            assert names.count("output") == 1
            assert names[-1] == "output"
            texts = {node.text for leaf in sample.nodes for node in tree.path(tree.nodes[leaf])}
            assert {step.text for step in sample.steps} <= texts | {"Here it fails.", r"\boxed{7}"}
            if sample.kind == "merged":
                place = [step.text for step in sample.steps].index("Here it fails.")
                wrong = [node.text for node in tree.path(tree.nodes[sample.nodes[0]]) if node.behaviour != "output"]
                assert [step.text for step in sample.steps[:place]] == wrong
            samples += 1
        dropped += sum(sample is None for sample in merged)
    assert samples > 60
    assert dropped == sum(paths_dropped.values())
