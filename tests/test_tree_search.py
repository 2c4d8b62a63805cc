"""Search in many trees at once: against a slow reference of the published algorithm, and against itself."""

import hashlib
import json
import math
import random
from collections import Counter

import pytest
from scripted_search import STEPS, ScriptedJudge, ScriptedModel
from tiny import tiny_model

from rolewise.core.behaviour import RFTT, Behaviour, BehaviourSet
from rolewise.core.errors import InputError
from rolewise.data.chat_template import CHATML
from rolewise.engines.base import EngineError, Sample, Sampling
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.search.policies import PromptPolicy, TokenPolicy
from rolewise.search.settings import SearchSettings
from rolewise.search.tree import Question, tree_from
from rolewise.search.tree_search import TreeSearch
from rolewise.search.values import Judgement

# Which behaviour may follow which (arXiv 2502.13389).
GRAPH = {
    None: "clarify subquestion analysis next_step",
    "clarify": "analysis subquestion next_step direct_answer",
    "analysis": "subquestion next_step direct_answer",
    "subquestion": "next_step direct_answer",
    "next_step": "next_step direct_answer subquestion verify output",
    "direct_answer": "output verify",
    "verify": "next_step refine direct_answer subquestion verify output",
    "refine": "next_step direct_answer output subquestion verify",
    "output": "",
}
TOKEN_ENDINGS = ("close", "close", "close", "turn", "cut", "<verify>", "</output>")


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer(CHATML, ("<|im_end|>", "<|im_start|>", *RFTT.tokens))


def questions(count):
    return [Question(f"q{number}", f"What is {number} + 2?", str(number + 2)) for number in range(count)]


def model_of(kind, tokenizer, **options):
    return ScriptedModel(tokenizer, **({"endings": TOKEN_ENDINGS} if kind == "tokens" else {}) | options)


def policy_of(kind, tokenizer, **options):
    return (TokenPolicy if kind == "tokens" else PromptPolicy)(tokenizer, **options)


def searched(kind, tokenizer, asked, settings, *, model=None, judge=None, **options):
    """The trees by their questions' ids."""
    search = TreeSearch(
        model or model_of(kind, tokenizer), policy_of(kind, tokenizer), judge or ScriptedJudge(), settings
    )
    trees = list(search.run(asked, **options))
    assert sorted(tree.question.id for tree in trees) == sorted(question.id for question in asked)
    return {tree.question.id: tree for tree in trees}


class Reference:
    """The published search, one tree at a time, in the words of the paper and its code.

    Nodes are dictionaries; what is random comes from the same numbers as in the search.
    """

    def __init__(self, kind, model, settings, question):
        self.kind, self.model, self.settings, self.question = kind, model, settings, question
        self.nodes = []
        self.root = self.new(None, None, "", [], leaf=False)
        self.ends = []
        self.tokenizer = model.tokenizer
        self.prompt = f"<|im_start|>user\n{question.text}<|im_end|>\n<|im_start|>assistant\n"

    def new(self, parent, behaviour, text, ids, *, leaf, closed=True):
        node = {"number": len(self.nodes), "parent": parent, "behaviour": behaviour, "text": text, "ids": ids}
        node |= {"leaf": leaf, "closed": closed, "visits": 0, "value": 0.0, "children": [], "expanded": False}
        self.nodes.append(node)
        if parent is not None:
            parent["children"].append(node)
        return node

    def path(self, node):
        return [] if node["parent"] is None else [*self.path(node["parent"]), node]

    def seed(self, node, purpose):
        key = [self.settings.seed, self.question.id, len(self.ends), node["number"], purpose]
        return int(hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16], 16) >> 1

    def uniform(self, node):
        return random.Random(self.seed(node, "choice")).random()

    def pick(self, node, among):
        return among[int(self.uniform(node) * len(among))]

    def uct(self, parent, children):
        def bound(child):
            explore = math.sqrt(math.log(parent["visits"]) / child["visits"])
            return child["value"] / child["visits"] + self.settings.exploration * explore

        return max(children, key=bound)

    def run(self, rollouts):
        for _ in range(rollouts):
            leaf = self.by_prompts() if self.kind == "prompts" else self.by_tokens()
            steps = [node["text"] for node in self.path(leaf)]
            value = ScriptedJudge().of(self.question.id, steps).value
            for node in [self.root, *self.path(leaf)]:
                node["visits"] += 1
                node["value"] += value
            self.ends.append(leaf["number"])
        return self

    def sampling(self, node, stop, n):
        ids = self.tokenizer.convert_tokens_to_ids(stop)
        settings = self.settings
        return Sampling(
            max_new_tokens=settings.step_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            n=n,
            seed=self.seed(node, "sampling"),
            stop_token_ids=tuple(ids),
            logprobs=True,
        )

    # By prompts.

    def by_prompts(self):
        node = self.root
        while node["expanded"]:
            selectable = [child for child in node["children"] if child["behaviour"] != "direct_answer"]
            unexplored = [child for child in selectable if child["visits"] == 0]
            if unexplored:
                node = self.pick(node, unexplored)
                break
            if not selectable:
                break
            node = self.uct(node, selectable)
        while not node["leaf"]:
            if not node["expanded"]:
                self.propose(node)
            short = [child for child in node["children"] if self.sentences(child["text"]) <= 4]
            node = self.pick(node, short or node["children"])
        return node

    def sentences(self, text):
        return {"First this. Then that. Then more. Then less. Then all.": 5}.get(text, 2)

    def propose(self, node):
        node["expanded"] = True
        for name in GRAPH[node["behaviour"]].split():
            if name in ("verify", "refine", "output"):
                continue
            texts = [step["text"] for step in self.path(node) if step["text"]]
            parts = [f"Problem: {self.question.text}"]
            parts += ["The solution so far:", *texts] if texts else []
            parts += [f"Your task: {RFTT[name].prompt}"]
            content = "\n\n".join(parts)
            ids = self.tokenizer(f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
            count = 1 if name == "direct_answer" else 2
            sampling = self.sampling(node, ["<|im_end|>"], count)
            for number in range(count):
                sample = self.model.write(ids, sampling, number)
                text = self.tokenizer.decode(sample.ids).replace("<|im_end|>", "")
                depth = len(self.path(node)) + 1
                leaf = name == "direct_answer" or "boxed{7}" in text or depth == self.settings.max_depth
                self.new(node, name, text, sample.ids, leaf=leaf, closed=sample.finish_reason == "stop")

    # By functional tokens.

    def by_tokens(self):
        node = self.root
        while not node["leaf"]:
            names = GRAPH[node["behaviour"]].split()
            priors = self.priors(node, names)
            tried = [child["behaviour"] for child in node["children"]]
            untried = [name for name in names if name not in tried]
            if untried:
                node = self.write(node, max(untried, key=lambda name: priors[names.index(name)]))
                break
            node = self.uct(node, node["children"])
        while not node["leaf"]:
            names = GRAPH[node["behaviour"]].split()
            priors = self.priors(node, names)
            (name,) = random.Random(self.seed(node, "choice")).choices(names, priors)
            node = self.write(node, name)
        return node

    def path_ids(self, node):
        prompt = self.tokenizer(self.prompt)["input_ids"]
        return [*prompt, *(token for step in self.path(node) for token in step["ids"])]

    def priors(self, node, names):
        opening = self.tokenizer.convert_tokens_to_ids([f"<{name}>" for name in names])
        logprobs = [round(logprob, 5) for logprob in self.model.weigh(self.path_ids(node), opening)]
        total = sum(math.exp(logprob) for logprob in logprobs)
        return [math.exp(logprob) / total for logprob in logprobs]

    def write(self, node, name):
        opening, closing = self.tokenizer.convert_tokens_to_ids([f"<{name}>", f"</{name}>"])
        stop = sorted(self.tokenizer.convert_tokens_to_ids(RFTT.tokens))
        sampling = self.sampling(node, [*self.tokenizer.convert_ids_to_tokens(stop), "<|im_end|>"], 1)
        sample = self.model.write([*self.path_ids(node), opening], sampling)
        ids = sample.ids
        ends_turn = ids[-1:] == [self.tokenizer.eos_token_id]
        closed = ids[-1:] == [closing] or ends_turn
        if sample.finish_reason == "stop" and not closed:
            ids = ids[:-1]  # the opening token of another behaviour
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        leaf = ends_turn or name == "output" or len(self.path(node)) + 1 == self.settings.max_depth
        return self.new(node, name, text, [opening, *ids], leaf=leaf, closed=closed)


def facts(tree):
    names = "number behaviour text ids leaf closed visits value expanded children"
    return [{"parent": node.parent} | {name: getattr(node, name) for name in names.split()} for node in tree.nodes]


def reference_facts(reference):
    return [
        node
        | {"parent": None if node["parent"] is None else node["parent"]["number"]}
        | {"children": [child["number"] for child in node["children"]]}
        for node in reference.nodes
    ]


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
@pytest.mark.parametrize("exploration", [2.0, 0.3])
def test_the_search_is_the_published_one_step_for_step(kind, exploration, tokenizer):
    for seed in range(6):
        settings = SearchSettings(rollouts=10, max_depth=4, exploration=exploration, seed=seed)
        model = model_of(kind, tokenizer)
        asked = questions(2)
        trees = searched(kind, tokenizer, asked, settings, model=model)
        for question in asked:
            tree = trees[question.id]
            assert tree.ended in ("rollouts", "exhausted")
            reference = Reference(kind, model, settings, question).run(len(tree.rollouts))
            assert tree.rollouts == reference.ends
            assert facts(tree) == reference_facts(reference)
            assert all(len(node.logprobs) == len(node.ids) for node in tree.nodes)


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_a_tree_does_not_know_of_those_beside_it(kind, tokenizer):
    settings = SearchSettings(rollouts=8, max_depth=5, seed=3)
    asked = questions(6)
    together = [
        searched(kind, tokenizer, asked, settings, model=model_of(kind, tokenizer, scramble=seed, concurrency=many))
        for seed, many in [(0, 5), (1, 50), (2, 1)]
    ]
    for question in asked:
        alone = searched(kind, tokenizer, [question], settings)[question.id]
        assert [trees[question.id] for trees in together] == [alone] * 3


def test_other_seeds_questions_and_rollouts_have_other_luck(tokenizer):
    asked = [Question("a", "Why?"), Question("b", "Why?")]
    trees = [searched("prompts", tokenizer, asked, SearchSettings(rollouts=4, seed=seed)) for seed in (0, 1)]
    paths = {json.dumps([tree.rollouts, [n.text for n in tree.nodes]]) for found in trees for tree in found.values()}
    assert len(paths) == 4
    model = model_of("tokens", tokenizer)
    searched("tokens", tokenizer, asked[:1], SearchSettings(rollouts=4), model=model)
    seeds = [sampling.seed for _, sampling in model.asked]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_the_engine_is_kept_full_and_questions_come_as_there_is_room(kind, tokenizer):
    open_trees, most_open = set(), []

    def asking():
        for question in questions(30):
            open_trees.add(question.id)
            most_open.append(len(open_trees))
            yield question

    model = model_of(kind, tokenizer, concurrency=6, scramble=0)
    judge = ScriptedJudge()
    policy = policy_of(kind, tokenizer)
    order = []
    for tree in TreeSearch(model, policy, judge, SearchSettings(rollouts=3)).run(asking()):
        order.append(tree.question.id)
        open_trees.remove(tree.question.id)
    assert sorted(order) == sorted(question.id for question in questions(30))
    assert model.most_underway == 6
    assert max(most_open) < 10
    assert max(judge.batches) > 1
    assert kind == "prompts" or max(model.choices) > 1


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_a_killed_search_goes_on_as_if_nothing_had_been(kind, tokenizer):
    settings = SearchSettings(rollouts=6, max_depth=4)
    asked = questions(3)
    whole = searched(kind, tokenizer, asked, settings)
    for killed_after in (1, 2, 5, 9, 14, 18):
        kept, calls = {}, []

        def keep(tree, kept=kept, calls=calls, killed_after=killed_after):
            kept[tree.question.id] = json.dumps(tree.as_record())
            calls.append(tree)
            if len(calls) == killed_after:
                raise Killed

        with pytest.raises(Killed):
            searched(kind, tokenizer, asked, settings, on_rollout=keep)
        model = model_of(kind, tokenizer)
        begun = {name: tree_from(json.loads(record)) for name, record in kept.items()}
        assert searched(kind, tokenizer, asked, settings, model=model, begun=begun) == whole
    # At the end nothing is left to ask.
    assert model.asked == []


def test_what_is_kept_after_the_last_rollout_says_that_the_tree_has_ended(tokenizer):
    ends = []
    searched(
        "prompts",
        tokenizer,
        questions(1),
        SearchSettings(rollouts=3),
        on_rollout=lambda tree: ends.append((len(tree.rollouts), tree.ended)),
    )
    assert ends == [(1, None), (2, None), (3, "rollouts")]


def test_a_tree_that_had_ended_is_handed_over_as_it_is(tokenizer):
    begun = searched("prompts", tokenizer, questions(1), SearchSettings(rollouts=2))
    begun["q0"].ended = "time"
    model = model_of("prompts", tokenizer)
    settings = SearchSettings(rollouts=9)
    assert searched("prompts", tokenizer, questions(1), settings, model=model, begun=begun) == begun
    assert (len(begun["q0"].rollouts), model.asked) == (2, [])


def test_a_run_that_was_given_up_leaves_the_engine_usable(tokenizer):
    settings = SearchSettings(rollouts=3)
    whole = searched("prompts", tokenizer, questions(4), settings)
    model = model_of("prompts", tokenizer, scramble=1)
    search = TreeSearch(model, policy_of("prompts", tokenizer), ScriptedJudge(), settings)
    next(search.run(questions(4)))
    trees = list(search.run(questions(4)))
    assert len(trees) == 4
    assert {tree.question.id: tree for tree in trees} == whole


# Budgets.


def test_tokens_a_rollout_under_way_is_finished(tokenizer):
    spent = []
    settings = SearchSettings(max_depth=3, max_tokens=800)
    (tree,) = searched(
        "prompts", tokenizer, questions(1), settings, on_rollout=lambda tree: spent.append(tree.tokens)
    ).values()
    assert tree.ended == "tokens"
    assert spent[-1] == tree.tokens >= 800 > spent[-2]
    assert tree.tokens == sum(len(node.ids) for node in tree.nodes)


def test_tokens_are_spent_when_there_are_as_many_as_allowed(tokenizer):
    (one,) = searched("prompts", tokenizer, questions(1), SearchSettings(rollouts=1)).values()
    for more, rollouts in [(0, 1), (1, 2)]:
        settings = SearchSettings(max_tokens=one.tokens + more)
        (tree,) = searched("prompts", tokenizer, questions(1), settings).values()
        assert (tree.ended, len(tree.rollouts)) == ("tokens", rollouts)


def test_time(tokenizer):
    (tree,) = searched("prompts", tokenizer, questions(1), SearchSettings(max_seconds=1e-9)).values()
    assert (tree.ended, len(tree.rollouts)) == ("time", 0)
    (tree,) = searched("prompts", tokenizer, questions(1), SearchSettings(rollouts=2, max_seconds=1e9)).values()
    assert (tree.ended, len(tree.rollouts)) == ("rollouts", 2)


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_the_first_right_answer_ends_a_tree(kind, tokenizer):
    whole = searched(kind, tokenizer, questions(8), SearchSettings(rollouts=9))
    for name, tree in searched(kind, tokenizer, questions(8), SearchSettings(rollouts=9, early_stop="right")).items():
        right = [bool(whole[name].nodes[number].right) for number in whole[name].rollouts]
        assert tree.ended == "right" if any(right) else tree.ended == whole[name].ended
        assert tree.rollouts == whole[name].rollouts[: right.index(True) + 1 if any(right) else None]


class Answers(ScriptedJudge):
    """Paths give these answers, one after the other."""

    def __init__(self, answers):
        super().__init__()
        self._answers = iter(answers)

    def judge(self, leaves):
        return [Judgement(0.0, next(self._answers)) for _ in leaves]


@pytest.mark.parametrize(
    ("answers", "rollouts"),
    [
        ("77777777", 5),  # 5 of 8; the others could at most be 3
        ("77877777", 6),  # 5 to 1 with two to come
        ("7878787", 8),
        (["7", None, None, "7", "7", "7", "7", "7"], 6),  # 4 with two to come; before, 3 with three
    ],
)
def test_a_majority_that_nothing_can_change_ends_a_tree(answers, rollouts, tokenizer):
    settings = SearchSettings(rollouts=8, early_stop="decided")
    model = ScriptedModel(tokenizer, ["Go on.", "And on."])
    judge = Answers([*answers, "9"])
    (tree,) = searched("prompts", tokenizer, questions(1), settings, model=model, judge=judge).values()
    assert len(tree.rollouts) == rollouts
    assert tree.ended == ("decided" if rollouts < 8 else "rollouts")


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_a_tree_in_which_nothing_is_left_to_try_ends(kind, tokenizer):
    settings = SearchSettings(rollouts=500, max_depth=2)
    for tree in searched(kind, tokenizer, questions(3), settings).values():
        assert tree.ended == "exhausted"
        assert len(tree.rollouts) < 500
        open_leaves = [node for node in tree.nodes if node.leaf and not node.visits]
        assert all(node.behaviour == "direct_answer" for node in open_leaves)
        assert kind == "prompts" or not open_leaves
        for node in tree.nodes:
            if not node.leaf and kind == "tokens":
                names = Counter(child.behaviour for child in tree.children(node))
                assert names == Counter(GRAPH[node.behaviour].split())
            assert node.leaf or kind == "tokens" or node.expanded


# Several rollouts at once in one tree.


def hangs_together(tree):
    """Every rollout has left its visit and its leaf's value on its path, and nowhere else."""
    for node in tree.nodes:
        through = [leaf for leaf in tree.rollouts if node in [tree.root, *tree.path(tree.nodes[leaf])]]
        if (node.visits, node.value) != (len(through), sum(tree.nodes[leaf].outcome for leaf in through)):
            return False
    return True


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_several_rollouts_in_one_tree_make_no_node_twice(kind, tokenizer):
    for seed in range(5):
        model = model_of(kind, tokenizer, scramble=seed, concurrency=40)
        settings = SearchSettings(rollouts=15, max_depth=4, in_flight=4, seed=seed)
        for tree in searched(kind, tokenizer, questions(2), settings, model=model).values():
            assert len(tree.rollouts) == 15
            assert hangs_together(tree)
            for node in tree.nodes:
                names = Counter(child.behaviour for child in tree.children(node))
                assert not names or max(names.values()) <= (2 if kind == "prompts" else 1)
        prompts = Counter(prompt for prompt, _ in model.asked)
        if kind == "tokens":  # by prompts, two nodes of one text are asked the same
            assert max(prompts.values()) == 1


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_a_killed_search_with_several_rollouts_in_one_tree_goes_on(kind, tokenizer):
    settings = SearchSettings(rollouts=9, max_depth=3, in_flight=4)
    for killed_after in (1, 3, 7):
        kept = []

        def keep(tree, kept=kept, killed_after=killed_after):
            kept.append(tree.as_record())
            if len(kept) == killed_after:
                raise Killed

        model = model_of(kind, tokenizer, scramble=killed_after, concurrency=40)
        with pytest.raises(Killed):
            searched(kind, tokenizer, questions(1), settings, model=model, on_rollout=keep)
        begun = tree_from(json.loads(json.dumps(kept[-1])))
        (tree,) = searched(kind, tokenizer, questions(1), settings, begun={"q0": begun}).values()
        assert (tree.ended, len(tree.rollouts)) == ("rollouts", 9)
        assert hangs_together(tree)


def test_all_rollouts_under_way_are_finished_when_a_budget_is_spent(tokenizer):
    model = model_of("tokens", tokenizer, concurrency=40)
    settings = SearchSettings(rollouts=15, max_tokens=1, in_flight=4)
    (tree,) = searched("tokens", tokenizer, questions(1), settings, model=model).values()
    assert (tree.ended, len(tree.rollouts)) == ("tokens", 4)
    assert hangs_together(tree)


def test_rollouts_under_way_go_different_ways(tokenizer):
    model = model_of("tokens", tokenizer, concurrency=40, endings=["close"])
    settings = SearchSettings(rollouts=4, in_flight=4)
    search = TreeSearch(model, TokenPolicy(tokenizer), ScriptedJudge(), settings)
    next(search.run(questions(1)))
    first = [prompt.rsplit("<", 1)[1] for prompt, _ in model.asked[:4]]
    assert sorted(first) == ["analysis>", "clarify>", "next_step>", "subquestion>"]


def test_a_rollout_that_waited_for_the_children_takes_another_than_the_first(tokenizer):
    for seed in range(10):
        settings = SearchSettings(rollouts=2, in_flight=2, max_depth=2, seed=seed)
        model = model_of("prompts", tokenizer, concurrency=40)
        (tree,) = searched("prompts", tokenizer, questions(1), settings, model=model).values()
        first, second = (tree.path(tree.nodes[leaf])[0].number for leaf in tree.rollouts)
        assert first != second


def test_a_virtual_loss_sends_the_next_rollout_elsewhere(tokenizer):
    """All children of the root have been tried, and by value alone everyone would take the first of them."""

    class OneIsGood(ScriptedJudge):
        def judge(self, leaves):
            return [Judgement(float(leaf.steps[0].behaviour == "next_step")) for leaf in leaves]

    def firsts(in_flight):
        model = model_of("tokens", tokenizer, concurrency=40, endings=["close"], steps=["Add 2 and 3."])
        settings = SearchSettings(rollouts=4, max_depth=6, exploration=0.5)
        (tree,) = searched("tokens", tokenizer, questions(1), settings, model=model, judge=OneIsGood()).values()
        tree.ended = None
        settings = SearchSettings(rollouts=8, max_depth=6, exploration=0.5, in_flight=in_flight)
        begun = {tree.question.id: tree}
        searched("tokens", tokenizer, questions(1), settings, model=model, judge=OneIsGood(), begun=begun)
        return [tree.path(tree.nodes[leaf])[0].behaviour for leaf in tree.rollouts[4:]]

    assert set(firsts(1)) == {"next_step"}
    assert len(set(firsts(4))) > 1


# What goes wrong.


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_a_path_ends_where_the_engine_refuses_to_go_on(kind, tokenizer):
    model = model_of(kind, tokenizer, longest=75 if kind == "prompts" else 40)
    search = TreeSearch(model, policy_of(kind, tokenizer), ScriptedJudge(), SearchSettings(rollouts=12, max_depth=9))
    trees = list(search.run(questions(4)))
    early = [
        node
        for tree in trees
        for node in tree.leaves()
        if not node.closed or (node.behaviour != "direct_answer" and "boxed{7}" not in node.text)
    ]
    assert early
    assert all(tree.depth(tree.nodes[leaf]) < 9 for tree in trees for leaf in tree.rollouts)
    (note,) = search.notes
    assert note.startswith("Some paths end early because the engine could not continue: the prompt has ")


def test_a_question_that_fills_the_context_is_a_leaf_itself(tokenizer):
    model = ScriptedModel(tokenizer, longest=5)
    (tree,) = searched("prompts", tokenizer, questions(1), SearchSettings(), model=model).values()
    assert (tree.ended, tree.rollouts, len(tree.nodes)) == ("exhausted", [0], 1)
    assert (tree.root.leaf, tree.root.visits) == (True, 1)


@pytest.mark.parametrize("room", range(36, 44))
def test_the_engine_is_not_asked_for_next_tokens_that_have_no_room(room, tokenizer):
    class Small(ScriptedModel):
        context = room

        def weigh(self, prefix, tokens):
            assert len(prefix) + 2 <= room
            return super().weigh(prefix, tokens)

    model = Small(tokenizer, ["Add 2.", "Add 22.", ""], endings=["close"])
    search = TreeSearch(model, TokenPolicy(tokenizer), ScriptedJudge(), SearchSettings(rollouts=6))
    (tree,) = search.run(questions(1))
    full = [node for node in tree.leaves() if node.behaviour != "output"]
    assert full
    assert all(len(tree.path_ids(node)) > room - 2 and node.next_logprobs == [] for node in full)
    assert search.notes == [
        "Some paths end early because the engine could not continue: "
        f"the path has {len(tree.path_ids(full[0]))} tokens, "
        f"but the context holds {room}"
    ]


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("prompts", "turn"), ("prompts", "cut"), ("tokens", "close"), ("tokens", "turn"), ("tokens", "cut")],
)
def test_a_model_that_writes_nothing_does_not_hold_the_search(kind, ending, tokenizer):
    model = ScriptedModel(tokenizer, [""], endings=[ending])
    (tree,) = searched(kind, tokenizer, questions(1), SearchSettings(rollouts=7, max_depth=5), model=model).values()
    assert {node.text for node in tree.nodes} == {""}
    assert max(tree.depth(node) for node in tree.nodes) == (1 if (kind, ending) == ("tokens", "turn") else 5)
    assert tree.ended == ("exhausted" if (kind, ending) == ("tokens", "turn") else "rollouts")


def test_a_step_that_passes_into_another_is_not_closed_and_keeps_its_own_tokens(tokenizer):
    model = ScriptedModel(tokenizer, ["Add 2 and 3."], endings=["<verify>"])
    (tree,) = searched("tokens", tokenizer, questions(1), SearchSettings(rollouts=3, max_depth=4), model=model).values()
    for node in tree.nodes[1:]:
        assert not node.closed
        assert tokenizer.decode(node.ids) == f"<{node.behaviour}>Add 2 and 3."
        assert len(node.logprobs) == len(node.ids)


def test_judges_see_the_steps_and_whether_the_last_was_cut(tokenizer):
    seen = []

    class Watching(ScriptedJudge):
        def judge(self, leaves):
            seen.extend(leaves)
            return super().judge(leaves)

    trees = searched("prompts", tokenizer, questions(3), SearchSettings(rollouts=6), judge=Watching())
    assert len(seen) == sum(len(tree.leaves()) for tree in trees.values())
    for leaf in seen:
        tree = trees[leaf.question.id]
        assert any(tuple(tree.steps(node)) == leaf.steps and node.closed != leaf.cut_off for node in tree.leaves())
    assert {leaf.cut_off for leaf in seen} == {True, False}


def test_process_rewards_stand_at_their_steps(tokenizer):
    class Process(ScriptedJudge):
        def of(self, question, texts):
            return Judgement(0.5, process_rewards=tuple(len(text) / 100 for text in texts))

    class One:
        notes = ()

        def judge(self, leaves):
            return [Judgement(0.5, process_rewards=(1.0,)) for _ in leaves]

    (tree,) = searched("prompts", tokenizer, questions(1), SearchSettings(rollouts=5), judge=Process()).values()
    visited = [node for node in tree.nodes[1:] if node.visits]
    assert all(node.process_reward == len(node.text) / 100 for node in visited)
    assert all(node.process_reward is None for node in tree.nodes if not node.visits)
    model = ScriptedModel(tokenizer, ["Go on."])
    with pytest.raises(InputError, match=r"^question q0: a path of \d+ steps was given 1 process rewards; "):
        searched("prompts", tokenizer, questions(1), SearchSettings(), model=model, judge=One())


def test_a_value_that_is_no_number_is_refused(tokenizer):
    class Broken(ScriptedJudge):
        def of(self, question, texts):
            return Judgement(math.nan)

    with pytest.raises(InputError, match=r"^question q0: a path was given the value nan; give a number$"):
        searched("prompts", tokenizer, questions(1), SearchSettings(), judge=Broken())


def test_an_engine_without_logprobs_leaves_them_out(tokenizer):
    class Silent(ScriptedModel):
        gives_logprobs = False

    for kind in ("prompts", "tokens"):
        model = Silent(tokenizer)
        (tree,) = searched(kind, tokenizer, questions(1), SearchSettings(rollouts=3), model=model).values()
        assert all(node.logprobs == [] and not sampling.logprobs for node in tree.nodes for _, sampling in model.asked)


def test_log_probabilities_that_json_can_not_hold(tokenizer):
    class Odd(ScriptedModel):
        def write(self, prompt_ids, sampling, number=0):
            sample = super().write(prompt_ids, sampling, number)
            return Sample(sample.ids, [math.nan, *sample.logprobs[1:]], sample.finish_reason)

        def weigh(self, prefix, tokens):
            return [-math.inf] * len(tokens)

    model = Odd(tokenizer, ["Go on."], endings=["close"])
    (tree,) = searched("tokens", tokenizer, questions(1), SearchSettings(rollouts=3), model=model).values()
    json.dumps(tree.as_record(), allow_nan=False)
    assert all(node.logprobs == [] for node in tree.nodes)
    assert [child.prior for child in tree.children(tree.root)] == [round(math.log(1 / 4), 5)] * 3


def test_an_engine_that_loses_requests_is_told_of(tokenizer):
    class Forgetful(ScriptedModel):
        def collect(self):
            return []

    with pytest.raises(EngineError, match="the engine has lost 4 requests"):
        searched("prompts", tokenizer, questions(1), SearchSettings(), model=Forgetful(tokenizer))


def test_two_questions_of_one_id_are_refused(tokenizer):
    with pytest.raises(InputError, match=r"^two questions have the id 'q0'; give each its own$"):
        searched("prompts", tokenizer, questions(1) * 2, SearchSettings())


def test_a_begun_tree_of_another_search_is_refused(tokenizer, make_tokenizer):
    settings = SearchSettings(rollouts=2)
    begun = searched("tokens", tokenizer, questions(1), settings)
    with pytest.raises(InputError, match=r"^question q0: .* is of a search by tokens, but this search is by prompts"):
        searched("prompts", tokenizer, questions(1), settings, begun=begun)
    with pytest.raises(
        InputError, match=r"^question q0: the tree .* is of another question of that id; search the question again"
    ):
        searched("tokens", tokenizer, [Question("q0", "And now?")], settings, begun=begun)
    few = BehaviourSet([Behaviour("output", "end", (), "Answer.")], first=("output",))
    with pytest.raises(InputError, match=r"behaviours that are not known here \(.*clarify.*\); search the question"):
        list(
            TreeSearch(ScriptedModel(tokenizer), TokenPolicy(tokenizer, few), ScriptedJudge(), settings).run(
                questions(1), begun=begun
            )
        )
    begun["q0"].prompt_ids = [1, 2]
    with pytest.raises(InputError, match=r"is of another tokenizer or chat template; search the question again"):
        searched("tokens", tokenizer, questions(1), settings, begun=begun)


def test_a_model_without_a_chat_template_is_refused(make_tokenizer):
    plain = make_tokenizer(None, ("<|im_end|>", *RFTT.tokens))
    for kind in (PromptPolicy, TokenPolicy):
        with pytest.raises(InputError, match=r"^the tokenizer has no chat template; pass --chat-template "):
            kind(plain)
        kind(plain, chat_template="chatml")


def test_a_model_without_functional_tokens_is_refused(chatml_tokenizer):
    with pytest.raises(InputError, match=r"^the tokenizer has no functional token <clarify> "):
        TokenPolicy(chatml_tokenizer)


def test_behaviours_that_nobody_asks_for_are_refused(tokenizer):
    silent = BehaviourSet([Behaviour("think", "think", ("end",)), Behaviour("end", "end", (), "End.")], ("think",))
    with pytest.raises(InputError, match=r"none of those that may follow the question \(think\) has a prompt"):
        PromptPolicy(tokenizer, silent)


# With a real model.


@pytest.mark.parametrize("kind", ["prompts", "tokens"])
def test_with_a_model_in_this_process(kind, tokenizer):
    model = tiny_model(vocab_size=len(tokenizer))
    settings = SearchSettings(rollouts=4, max_depth=3, step_tokens=6, top_k=0)
    asked = questions(3)
    trees = searched(kind, tokenizer, asked, settings, model=TransformersEngine(model, tokenizer))
    engine = TransformersEngine(model, tokenizer)
    alone = searched(kind, tokenizer, asked[1:2], settings, model=engine)["q1"]
    exact = ("parent", "behaviour", "text", "ids", "visits", "value", "leaf", "closed")
    assert [[getattr(node, name) for name in exact] for node in trees["q1"].nodes] == [
        [getattr(node, name) for name in exact] for node in alone.nodes
    ]
    if kind == "tokens":
        for leaf in alone.leaves():
            scores = engine.score([alone.path_ids(leaf)])[0][len(alone.prompt_ids) - 1 :]
            written = [logprob for node in alone.path(leaf) for logprob in node.logprobs]
            assert written == pytest.approx(scores, abs=2e-4)


def test_the_texts_of_the_script_are_what_the_tests_take_them_for():
    assert [text for text in STEPS if text.count(".") > 4] == ["First this. Then that. Then more. Then less. Then all."]
