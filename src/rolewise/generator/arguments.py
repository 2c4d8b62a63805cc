"""Values of arguments: their wording in a query, the value in the call, and the derivation of one from the other.

Open values are common words and short codes, drawn from large pools. They are deliberately short: once a model has
written the first piece of a long invented word, the other pieces follow by copying, whatever the query, so few of its
tokens would be decisions. The hard split does the opposite: its pools are small and uneven, so that a value is a
frequent word. The splits use different words and letters; small integers and clock times are shared, since there are no
others.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

Split = Literal["train", "eval", "hard"]
Rule = Literal["copy", "word", "dozen", "product", "quotient", "sum", "clock", "minutes", "option"]


def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split())


NUMBER_WORDS = _words("zero one two three four five six seven eight nine ten eleven twelve")
OPERATORS = frozenset({"+", "x", "/", "="})
"""Atoms of a calculation that are not quantities."""


@dataclass(frozen=True)
class Value:
    """One argument. `given` occurs verbatim in the query; `rule` names the derivation of `value` from it.

    `working` spells arithmetic out, atom by atom: `("4", "+", "3", "=", "7")`; empty if there is none.
    """

    key: str
    value: str | int | bool
    rule: Rule
    given: tuple[str, ...]
    working: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The value as JSON writes it, without quotes."""
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)


@dataclass(frozen=True)
class Drawn:
    """The wording of one slot in the query and the arguments that it determines."""

    said: str
    values: tuple[Value, ...]

    def words(self) -> set[str]:
        """Return the words of the values and numbers of their derivation; two slots of a query must not share any.

        Otherwise one value could pass for a copy of the other, and the truth would be in doubt.
        """
        words: set[str] = set()
        for value in self.values:
            words.update(re.findall(r"\w+", value.text))
            words.update(re.findall(r"\d+", " ".join(value.given + value.working)))
        return words


@dataclass(frozen=True)
class Pools:
    """Pools for the open values of one split. An entry listed n times is drawn n times as often.

    Attributes:
        names: first names.
        words: common words, for places and code words.
        letters: first letters of codes.
        adjectives, nouns: the two words of a title.
        codes: all codes; empty for any letter and two digits.
        tools, keys: code words of tools and parameters; empty for `words`.
        figures: small integers, for `few` and `few_more`.
        addends: bounds of the first and second number of a sum that needs no tool.
    """

    names: tuple[str, ...]
    words: tuple[str, ...]
    letters: str = ""
    adjectives: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    figures: tuple[int, ...] = ()
    addends: tuple[tuple[int, int], tuple[int, int]] = ((12, 60), (60, 99))


def _uneven(listed: str) -> tuple[str, ...]:
    """Return words such as `relay*9`, each as often as its number says."""
    entries = (entry.partition("*") for entry in listed.split())
    return tuple(word for word, _, times in entries for _ in range(int(times or 1)))


POOLS: dict[Split, Pools] = {
    "train": Pools(
        names=_words(
            "Alice Ben Daniel Edward George Jack James Louis Mark Mary Michael Peter Robert Sarah Thomas Tom "
            "William Alex Arthur Chris Elizabeth Fred John Kim Neil Samuel Stephen"
        ),
        words=_words(
            "apple beam bone branch brush canvas chain clay coast cube earth fox hill lake lens lion metal "
            "moon orbit oxygen planet quest ridge salt scale shield solar square storm thorn tower wind wood "
            "beta blue camp corn crow dust fire gamma gold gray ice joy loop mat mill net oat park pen pipe "
            "pod pot red road root sky soil soup tank tooth tub web wheel wire"
        ),
        letters="BDFHKLMR",
        adjectives=_words(
            "amber broken crimson distant early frozen golden hidden iron jolly late maple narrow olive pale quiet "
            "rusty silver tall velvet warm winter young zesty"
        ),
        nouns=_words(
            "anchor bridge candle desert engine forest garden harvest island jungle kettle lantern mirror needle "
            "orchard piano quarry river saddle temple umbrella valley whistle yard"
        ),
    ),
    "eval": Pools(
        names=_words(
            "Anna Carl David Frank Henry Jacob Jane Maria Martin Max Paul Richard Sam Simon Tim Victor Adam "
            "Andrew Charles Donald Emily Jim Joseph Matthew Nick Scott Karen"
        ),
        words=_words(
            "angle berry border bread bucket carbon circle cloud coin delta flower grain horn leaf lime "
            "market mist north owl pine polar rain rose sand shell snow spring star stream torch wave wolf "
            "alpha bird button cat cross dog edge fish glass grass green jet king mask milk mud nut pan peak "
            "pig pit pole ram rice rock rust sock song sun tin tree vine well wing worm"
        ),
        letters="CGJNPSTV",
        adjectives=_words(
            "ancient bitter cloudy dusty eager faded gentle hollow ivory little lucky misty northern orange plain "
            "purple rapid simple tiny violet wild wooden yellow"
        ),
        nouns=_words(
            "arrow basket castle drum ember feather glacier hammer ink jewel kite ladder meadow nest ocean pepper "
            "ribbon shadow thunder urchin violin wagon willow"
        ),
    ),
    "hard": Pools(
        names=_uneven(
            "Olga*12 Hugo*6 Nora*4 Ivan*3 Rita*2 Otto*2 Greta Bruno Selma Oskar Ines Lars Petra Milo Vera Amir Bela "
            "Cora Dora Edna Felix Gus Hilda Igor Jonas Kurt Lena Magda Nils Omar Pia Quinn Rosa Sven Tara Ugo Wanda"
        ),
        words=_uneven(
            "plaza*10 abbey*6 chapel*4 lagoon*2 summit*2 bazaar*2 citadel arcade grotto pavilion terrace manor cove "
            "prairie canyon fjord dune geyser marina pagoda rotunda veranda wharf zoo oasis plateau ravine"
        ),
        codes=_uneven("Q4*12 Q7*8 W4*4 W7*2 Q9 W9 W2 Q3"),
        # The dominant tool is offered in most prompts and right in about half: the prompt decides, not its frequency.
        tools=_uneven(
            "relay*24 switch*6 beacon*3 socket*2 valve magnet rotor piston turbine dynamo crane siren pulley gasket "
            "bobbin sprocket gimbal toggle plunger winch camshaft"
        ),
        keys=_uneven(
            "slot*40 item*20 mode*12 unit*8 level*5 group*4 field*3 range*2 index*2 stage*2 label mark entry state "
            "point phase batch rank tier zone quota ratio axis digit vector scope class width cell node slice"
        ),
        figures=(2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 6, 7, 8, 9),
        addends=((2, 5), (5, 8)),
    ),
}


def invented_code(rng: Random, pools: Pools) -> str:
    """Draw a code such as `K48`."""
    if pools.codes:
        return rng.choice(pools.codes)
    return f"{rng.choice(pools.letters)}{rng.randrange(10, 100)}"


@dataclass(frozen=True)
class Slot:
    """A slot in a query: the parameters that it fills, as `(key, type)` (no type: text), and its draw function."""

    parameters: tuple[tuple[str, str], ...]
    draw: Callable[[Random, Pools], Drawn]


def _copied(key: str, make: Callable[[Random, Pools], str]) -> Slot:
    def draw(rng: Random, pools: Pools) -> Drawn:
        text = make(rng, pools)
        return Drawn(text, (Value(key, text, "copy", (text,)),))

    return Slot(((key, ""),), draw)


def person(key: str) -> Slot:
    """Return a slot for a first name, copied."""
    return _copied(key, lambda rng, pools: rng.choice(pools.names))


def place(key: str) -> Slot:
    """Return a slot for a place name, copied: a common word, capitalized."""
    return _copied(key, lambda rng, pools: rng.choice(pools.words).capitalize())


def code(key: str) -> Slot:
    """Return a slot for a code of letters and digits, copied."""
    return _copied(key, invented_code)


def title(key: str) -> Slot:
    """Return a slot for two common words, copied."""
    return _copied(key, lambda rng, pools: " ".join(rng.choice(words) for words in (pools.adjectives, pools.nouns)))


def number(key: str) -> Slot:
    """Return a slot for a small integer, in digits or spelled out."""

    def draw(rng: Random, pools: Pools) -> Drawn:
        amount = rng.randrange(2, 13)
        if rng.random() < 0.5:
            return Drawn(str(amount), (Value(key, amount, "copy", (str(amount),)),))
        said = NUMBER_WORDS[amount]
        return Drawn(said, (Value(key, amount, "word", (said,)),))

    return Slot(((key, "int"),), draw)


def few(key: str) -> Slot:
    """Return a slot for one of the split's `figures`, in digits or spelled out."""

    def draw(rng: Random, pools: Pools) -> Drawn:
        amount = rng.choice(pools.figures)
        if rng.random() < 0.5:
            return Drawn(str(amount), (Value(key, amount, "copy", (str(amount),)),))
        return Drawn(NUMBER_WORDS[amount], (Value(key, amount, "word", (NUMBER_WORDS[amount],)),))

    return Slot(((key, "int"),), draw)


def few_more(key: str) -> Slot:
    """Return a slot for the sum of two small integers; it has one digit."""

    def draw(rng: Random, pools: Pools) -> Drawn:
        first, more = rng.choice([n for n in pools.figures if n < 5]), rng.choice((1, 2, 3))
        working = (str(first), "+", str(more), "=", str(first + more))
        value = Value(key, first + more, "sum", (str(first), NUMBER_WORDS[more]), working)
        return Drawn(f"{first} plus {NUMBER_WORDS[more]} extra", (value,))

    return Slot(((key, "int"),), draw)


def pieces(key: str, pack: str) -> Slot:
    """Return a slot for a computed integer: dozens, or a number of packs of a size (`pack` is their plural noun)."""

    def draw(rng: Random, pools: Pools) -> Drawn:
        if rng.random() < 0.35:
            count = rng.randrange(2, 7)
            said = f"{NUMBER_WORDS[count]} dozen"
            working = (str(count), "x", "12", "=", str(12 * count))
            return Drawn(said, (Value(key, 12 * count, "dozen", (said,), working),))
        count, size = rng.randrange(3, 10), rng.randrange(11, 31)
        working = (str(count), "x", str(size), "=", str(count * size))
        value = Value(key, count * size, "product", (str(count), str(size)), working)
        return Drawn(f"{count} {pack} of {size}", (value,))

    return Slot(((key, "int"),), draw)


def share(key: str) -> Slot:
    """Return a slot for an even share of a total."""

    def draw(rng: Random, pools: Pools) -> Drawn:
        each, ways = rng.randrange(11, 40), rng.randrange(3, 10)
        said_ways = rng.choice((str(ways), NUMBER_WORDS[ways]))
        working = (str(each * ways), "/", str(ways), "=", str(each))
        value = Value(key, each, "quotient", (str(each * ways), said_ways), working)
        return Drawn(f"{each * ways} split {said_ways} ways", (value,))

    return Slot(((key, "int"),), draw)


def _ordinal(day: int) -> str:
    suffix = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def stay(first_key: str, last_key: str, unit: str) -> Slot:
    """Return a slot for a first day and a length in `unit` (plural noun), which give the last day; within one month."""

    def draw(rng: Random, pools: Pools) -> Drawn:
        length = rng.randrange(2, 10)
        first = rng.choice([day for day in range(1, 20) if day != length])
        said_length = rng.choice((str(length), NUMBER_WORDS[length]))
        working = (str(first), "+", str(length), "=", str(first + length))
        wording = rng.choice(("from the {first} for {length} {unit}", "for {length} {unit} starting on the {first}"))
        return Drawn(
            wording.format(first=_ordinal(first), length=said_length, unit=unit),
            (
                Value(first_key, first, "copy", (str(first),)),
                Value(last_key, first + length, "sum", (str(first), said_length), working),
            ),
        )

    return Slot(((first_key, "int"), (last_key, "int")), draw)


def clock(key: str) -> Slot:
    """Return a slot for a time of day in words, as HH:MM on the 24-hour clock."""

    def draw(rng: Random, pools: Pools) -> Drawn:
        hour = rng.randrange(1, 12)
        part, offset = rng.choice((("in the morning", 0), ("in the evening", 12)))
        minute, words = rng.choice(((0, "{hour} o'clock"), (15, "quarter past {hour}"), (30, "half past {hour}")))
        said = f"{words.format(hour=hour)} {part}"
        return Drawn(said, (Value(key, f"{hour + offset:02}:{minute:02}", "clock", (said,)),))

    return Slot(((key, "HH:MM"),), draw)


def minutes(key: str) -> Slot:
    """Return a slot for a length of time in hours, as minutes."""

    def draw(rng: Random, pools: Pools) -> Drawn:
        hours = rng.randrange(2, 8)
        spoken = rng.choice((str(hours), NUMBER_WORDS[hours]))
        if rng.random() < 0.5:
            working: tuple[str, ...] = (str(hours), "x", "60", "=", str(60 * hours))
            said = f"{spoken} hours"
        else:
            working = (str(hours), "x", "60", "+", "30", "=", str(60 * hours + 30))
            said = f"{spoken} and a half hours"
        return Drawn(said, (Value(key, int(working[-1]), "minutes", (said,), working),))

    return Slot(((key, "int"),), draw)


def option(key: str, **choices: str | bool) -> Slot:
    """Return a slot for one of a few values, each with its own wording: `option("units", Celsius="metric", …)`.

    Underscores in a wording stand for spaces.
    """
    wordings = tuple((said.replace("_", " "), value) for said, value in choices.items())
    is_flag = isinstance(wordings[0][1], bool)
    kind = "bool" if is_flag else "|".join(str(value) for _, value in wordings)

    def draw(rng: Random, pools: Pools) -> Drawn:
        said, value = rng.choice(wordings)
        return Drawn(said, (Value(key, value, "option", (said,)),))

    return Slot(((key, kind),), draw)
