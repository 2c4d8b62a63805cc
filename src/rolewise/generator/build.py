"""Build one conversation: draw a task, write its prompt, then the assistant's turns."""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from rolewise.core.role import Role
from rolewise.data.conversation import RoleSpan
from rolewise.generator.apis import Api
from rolewise.generator.arguments import Drawn, Value, invented_code
from rolewise.generator.output_formats import OutputFormat
from rolewise.generator.splits import SplitData
from rolewise.generator.writer import RoleWriter

Call = dict[str, Any]
"""`{"name": str, "arguments": {key: str | int | bool}}`."""

DIRECT_SHARE, TWO_CALL_SHARE, MULTI_TURN_SHARE = 0.10, 0.20, 0.08
REPEATED_TOOL_SHARE = 0.25
"""Share of two-call conversations that repeat the same call with another first argument."""
MOST_MENTIONS = 2
"""Maximum number of sentences about values in one thought; more would make the thought longer than the call."""

_NAME = re.compile(r"<(\^?)(\w+)>")


@dataclass(frozen=True)
class Draft:
    """A conversation without its name, and the known facts about it."""

    messages: list[dict[str, Any]]
    role_spans: list[list[RoleSpan]]
    calls: list[list[Call]]
    derivations: list[Value]


@dataclass(frozen=True)
class Task:
    """One call to make."""

    tool: str
    values: tuple[Value, ...]
    request: str | None
    """The query's own words for it, if they can be quoted."""

    @property
    def call(self) -> Call:
        return {"name": self.tool, "arguments": {value.key: value.value for value in self.values}}


@dataclass(frozen=True)
class Offer:
    """An API as offered by a conversation's system prompt: under code words, which nothing else reveals.

    Descriptive names of a few dozen tools would recur in every hundred conversations, and a model could produce a
    recurring name without reading the input, contrary to the true roles.
    """

    name: str
    keys: dict[str, str]
    """Own key → offered key."""

    @classmethod
    def draw(cls, api: Api, tools: Iterator[str], keys: Iterator[str]) -> "Offer":
        """Take the name of a tool and those of its parameters; both may come from one iterator."""
        own_keys = [key for slot in api.slots.values() for key, _ in slot.parameters]
        return cls(next(tools), {key: next(keys) for key in own_keys})

    def task(self, drawn: dict[str, Drawn], request: str | None) -> Task:
        """Return a call of the tool with the drawn values."""
        values = [value for slot in drawn.values() for value in slot.values]
        return Task(self.name, tuple(replace(value, key=self.keys[value.key]) for value in values), request)


@dataclass(frozen=True)
class Sentence:
    """A stock phrase of a thought and the values that fill it."""

    pattern: str
    value: Value | None = None
    fields: dict[str, str] = field(default_factory=dict)


class ConversationBuilder:
    """Builder of the conversation that `rng` determines. Use it once."""

    def __init__(self, rng: Random, split: SplitData, output_format: OutputFormat) -> None:
        self.rng = rng
        self.bank = split.bank
        self.lexicon = split.lexicon
        self.shares = split.shares
        self.pools = split.pools
        words = self._shuffled(self.pools.words)
        self.tools = self._shuffled(self.pools.tools) if self.pools.tools else words
        self.keys = self._shuffled(self.pools.keys) if self.pools.keys else words
        self.apis = split.apis
        self.format = output_format
        self.messages: list[dict[str, Any]] = []
        self.role_spans: list[list[RoleSpan]] = []
        self.calls: list[list[Call]] = []
        self.distractors: list[str] = []

    def build(self) -> Draft | None:
        """Return a conversation, or None if its values can't be told apart; then draw again."""
        kind = self.rng.random()
        if kind < DIRECT_SHARE:
            self._direct()
            return Draft(self.messages, self.role_spans, self.calls, [])
        two_calls = kind < DIRECT_SHARE + TWO_CALL_SHARE
        tasks = self._tasks(two_calls)
        if tasks is None:
            return None
        if two_calls and self.format.one_call_a_turn:
            self._call_turn(tasks[:1], first=True)
            self._observation()
            self._call_turn(tasks[1:], first=False)
        else:
            self._call_turn(tasks, first=True)
        if not two_calls and kind < DIRECT_SHARE + TWO_CALL_SHARE + MULTI_TURN_SHARE:
            result = self._observation()
            self._answer_turn(self.bank.after_result, None, result)
        return Draft(self.messages, self.role_spans, self.calls, [value for task in tasks for value in task.values])

    def _shuffled(self, words: tuple[str, ...]) -> Iterator[str]:
        """Yield each code word only once, or one name could pass for a copy of another; frequent ones tend to lead."""
        return iter(dict.fromkeys(self.rng.sample(words, len(words))))

    # The prompt

    def _tasks(self, two_calls: bool) -> list[Task] | None:
        """Write the prompt of a query that needs one call or two, and return the calls."""
        rng, bank = self.rng, self.bank
        api = rng.choice(self.apis)
        drawn = {name: slot.draw(rng, self.pools) for name, slot in api.slots.items()}
        request = rng.choice(api.requests).format(**{name: slot.said for name, slot in drawn.items()})
        if not two_calls:
            (offer,) = self._system([api])
            self._say("user", self._drawn(bank.asks).format(request=request))
            return [offer.task(drawn, request)] if _distinct(list(drawn.values())) else None
        if rng.random() < REPEATED_TOOL_SHARE:
            first_name, first_slot = next(iter(api.slots.items()))
            again = first_slot.draw(rng, self.pools)
            (offer,) = self._system([api])
            self._say("user", self._drawn(bank.same_again).format(request=request, other=again.said))
            tasks = [offer.task(drawn, request), offer.task(drawn | {first_name: again}, None)]
            return tasks if _distinct([*drawn.values(), again]) else None
        # Options in common would have to differ, so that the first call would give the second one's away.
        options = _options(api)
        others = [one for one in self.apis if one is not api and options.isdisjoint(_options(one))]
        other = rng.choice(others)
        other_drawn = {name: slot.draw(rng, self.pools) for name, slot in other.slots.items()}
        second_request = rng.choice(other.requests).format(**{name: slot.said for name, slot in other_drawn.items()})
        offer, other_offer = self._system([api, other])
        self._say("user", self._drawn(bank.also).format(request=request, second=second_request))
        tasks = [offer.task(drawn, request), other_offer.task(other_drawn, second_request)]
        return tasks if _distinct([*drawn.values(), *other_drawn.values()]) else None

    def _system(self, needed: list[Api]) -> list[Offer]:
        """Write the system prompt, which offers `needed` among distractors; return the offers of `needed`."""
        count = self.rng.choice((2, 2, 3, 3, 4) if len(needed) < 2 else (2, 3))
        others = [api for api in self.apis if api not in needed]
        self.rng.shuffle(others)
        fields = [api.field for api in needed]
        others.sort(key=lambda api: api.field not in fields)
        offered = needed + others[: count - len(needed)]
        offers = [Offer.draw(api, self.tools, self.keys) for api in offered]
        self.distractors = [offer.name for offer in offers[len(needed) :]]
        lines = [_signature(api, offer) for api, offer in zip(offered, offers, strict=True)]
        self.rng.shuffle(lines)
        intro = self._drawn(self.bank.intros)
        self._say("system", "\n".join([intro, *lines, f"Format: {self.format.instructions}"]))
        return offers[: len(needed)]

    def _say(self, role: str, content: str) -> None:
        self.messages.append({"role": role, "content": content})
        self.role_spans.append([])

    def _observation(self) -> str:
        result = invented_code(self.rng, self.pools)
        content = json.dumps({"result": result})
        self._say(self.format.observation_role, self.format.observation_open + content + self.format.observation_close)
        return result

    # The assistant's turns

    def _writer(self) -> RoleWriter:
        return RoleWriter("\n".join(m["content"] for m in self.messages if m["role"] == "assistant"))

    def _finish_turn(self, writer: RoleWriter, calls: list[Call]) -> None:
        content, spans = writer.finish()
        self.messages.append({"role": "assistant", "content": content})
        self.role_spans.append(spans)
        self.calls.append(calls)

    def _stock(self, phrases: tuple[str, ...]) -> str:
        """Draw a stock phrase; those at the front of a bank are more frequent, like words in a language."""
        draw = self.rng.random()
        return self._composed(phrases[int(len(phrases) * draw * (0.4 + 0.6 * draw))])

    def _drawn(self, phrases: tuple[str, ...]) -> str:
        return self._composed(self.rng.choice(phrases))

    def _composed(self, pattern: str) -> str:
        """Replace each `<name>` of a phrase by one of the lexicon's alternatives, which may hold names in turn."""
        while name := _NAME.search(pattern):
            words = self.rng.choice(self.lexicon[name[2]])
            if name[1]:
                words = words.replace("<", "<^", 1) if words.startswith("<") else words[0].upper() + words[1:]
            pattern = pattern[: name.start()] + words + pattern[name.end() :]
        return pattern

    def _direct(self) -> None:
        """Write a query that needs no tool, for the sum of two numbers or a code to repeat, and its answer."""
        rng = self.rng
        self._system([rng.choice(self.apis)])
        if rng.random() < 0.5:
            a, b = (rng.randrange(*bounds) for bounds in self.pools.addends)
            query = self._drawn(self.bank.sums).format(a=a, b=b)
            working = (str(a), "+", str(b), "=", str(a + b))
            result, sum_value = working[-1], Value("", a + b, "sum", (str(a), str(b)), working)
        else:
            person = rng.choice(self.pools.names)
            result, sum_value = invented_code(rng, self.pools), None
            query = self._drawn(self.bank.recalls).format(person=person, code=result)
        self._say("user", query)
        self._answer_turn(self.bank.no_tool, sum_value, result)

    def _answer_turn(self, thoughts: tuple[str, ...], worked: Value | None, result: str) -> None:
        writer = self._writer()
        writer.write(self.format.think_open, Role.FORMAT)
        if not self.calls and self.rng.random() < 0.6:
            writer.phrase(self._stock(self.bank.openers) + " ")
        writer.phrase(self._stock(thoughts))
        if worked and self.rng.random() < 0.7:
            writer.phrase(" " + self._stock(self.bank.workings), worked)
        writer.write(self.format.think_close, Role.FORMAT)
        writer.write(self.format.answer_open, Role.FORMAT)
        writer.phrase(self._stock(self.bank.answers), result=result)
        writer.write(self.format.answer_close, Role.FORMAT)
        self._finish_turn(writer, [])

    def _call_turn(self, tasks: list[Task], *, first: bool) -> None:
        writer = self._writer()
        writer.write(self.format.think_open, Role.FORMAT)
        self._thought(writer, tasks, first)
        writer.write(self.format.think_close, Role.FORMAT)
        writer.write(self.format.calls_open, Role.FORMAT)
        for task in tasks:
            writer.write(self.format.call_open, Role.FORMAT)
            writer.worked_out(task.tool)
            writer.write(self.format.call_middle, Role.FORMAT)
            writer.arguments(task.call["arguments"], self.format.argument_separator)
            writer.write(self.format.call_close, Role.FORMAT)
        writer.write(self.format.calls_close, Role.FORMAT)
        self._finish_turn(writer, [task.call for task in tasks])

    def _thought(self, writer: RoleWriter, tasks: list[Task], first: bool) -> None:
        """Write a thought that may quote a request, and names none, some or all of the tools and values."""
        rng, bank = self.rng, self.bank
        sentences: list[Sentence] = []
        if rng.random() < self.shares.opener:
            sentences.append(Sentence(self._stock(bank.openers)))
        explicitness = rng.choice((0.0, 0.0, 0.5, 1.0))
        quoted = rng.choice(tasks) if rng.random() < self.shares.quoting else None
        for number, task in enumerate(tasks):
            if task is quoted and task.request:
                sentences.append(Sentence(self._stock(bank.goals), fields={"request": task.request}))
            if rng.random() < max(explicitness, 0.3):
                choices = bank.choices if first and not number else bank.nexts
                sentences.append(Sentence(self._stock(choices), fields={"tool": task.tool}))
            if self.distractors and rng.random() < self.shares.rejection:
                fields = {"other": rng.choice(self.distractors)}
                sentences.append(Sentence(self._stock(bank.rejections), fields=fields))
            unsaid = [value for value in task.values if not (task is quoted and value.rule == "copy")]
            rng.shuffle(unsaid)
            for value in unsaid[: MOST_MENTIONS // len(tasks)]:
                if rng.random() < explicitness:
                    sentences.append(Sentence(self._stock(self._mention_bank(value)), value))
        if not sentences or rng.random() < self.shares.closer:
            sentences.append(Sentence(self._stock(bank.closers)))
        for number, sentence in enumerate(sentences):
            writer.phrase(" " * (number > 0) + sentence.pattern, sentence.value, **sentence.fields)

    def _mention_bank(self, value: Value) -> tuple[str, ...]:
        """Return the bank for a thought's sentence about `value`."""
        if value.rule != "copy" and self.rng.random() < 0.6:
            return self.bank.workings if value.working else self.bank.mappings
        return self.bank.fields if isinstance(value.value, bool) or self.rng.random() < 0.6 else self.bank.values


def _distinct(drawn: list[Drawn]) -> bool:
    words = [slot.words() for slot in drawn]
    return all(a.isdisjoint(b) for a, b in itertools.combinations(words, 2))


def _options(api: Api) -> set[str]:
    """Return the kinds of an API's options; each lists the values."""
    kinds = {kind for slot in api.slots.values() for _, kind in slot.parameters}
    return {kind for kind in kinds if kind == "bool" or "|" in kind}


def _signature(api: Api, offer: Offer) -> str:
    """Return the tool's line in the system prompt; each parameter's own key explains the offered one."""
    parameters = []
    for slot in api.slots.values():
        for own, kind in slot.parameters:
            parameters.append(f"{offer.keys[own]}: {own.replace('_', ' ')} {kind}".rstrip())
    return f"- {offer.name}({', '.join(parameters)}): {api.description}"
