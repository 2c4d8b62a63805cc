"""Responses whose regions are known, written piece by piece, and a slow reference for ResT's weights."""

import json
import random
from typing import NamedTuple

from rolewise.core.region import Region

OTHER, TAG, NAME = Region.OTHER, Region.TAG, Region.TOOL_NAME
ARGUMENTS, KEY, VALUE = Region.ARGUMENTS, Region.ARGUMENT_NAME, Region.ARGUMENT_VALUE
THINK, ANSWER = Region.THINK, Region.RESPONSE


class Case(NamedTuple):
    """A response, the region of each of its characters, its format; `exact` if parts of arguments are known too."""

    text: str
    regions: list[Region]
    format: str
    exact: bool


WORDS = [
    "weather",
    "in",
    "Oslo",
    "Köln",
    "東京",
    "🙂🙃",
    "naïve",
    "2024-05-01",
    "so",
    "I",
    "call",
    "it",
    "a<b",
    "e\u0301",
]
MENTIONS = ["the <tool_call> tag", 'say "hi"', "{braces}", "<response>", "[f(x)]", "a\nnew line"]
KEYS = ["city", "days", "Größe", "unit_of_measure", "name", "query", "parameters"]
NAMES = ["get_weather", "Find It", "api.search", "ünï", "book-flight"]


def value(rng):
    """A JSON value as (text of it, is it a string)."""
    words = " ".join(rng.sample(WORDS, rng.randint(1, 3)))
    chosen = rng.choice([words, f'{words} "quoted\\" \\', "", 3, -2.5e-3, True, None, [1, {"a": words}], {}, words * 5])
    return json.dumps(chosen, ensure_ascii=rng.random() < 0.2), isinstance(chosen, str)


def arguments(rng):
    """An object of arguments; the space before a part is the part's."""
    pieces = [("{", ARGUMENTS)]
    for number, key in enumerate(rng.sample(KEYS, rng.randint(0, 3))):
        text, is_string = value(rng)
        pieces += [(", " if number else "", ARGUMENTS), ('"', ARGUMENTS), (key, KEY), ('":', ARGUMENTS)]
        if is_string:
            pieces += [(' "', ARGUMENTS), (text[1:-1], VALUE), ('"', ARGUMENTS)]
        else:
            pieces += [(" " + text, VALUE)]
    return [*pieces, ("}", ARGUMENTS)]


def json_call(rng, key):
    return [('{"name": "', OTHER), (rng.choice(NAMES), NAME), (f'", "{key}": ', OTHER), *arguments(rng), ("}", OTHER)]


def thought(rng):
    return " ".join(rng.choices(WORDS + MENTIONS, k=rng.randint(0, 9)))


def rlla(rng):
    calls = rng.randint(0, 3)
    pieces = [("<think>", TAG), (f" {thought(rng)} ", THINK), ("</think>", TAG)]
    if calls:
        pieces += [("\n", OTHER), ("<tool_call>", TAG)]
        for _ in range(calls):
            pieces += [("\n", OTHER), *json_call(rng, "parameters")]
        pieces += [("\n", OTHER), ("</tool_call>", TAG)]
    if not calls or rng.random() < 0.3:
        pieces += [("\n", OTHER), ("<response>", TAG), (" It is done, 🙂. ", ANSWER), ("</response>", TAG)]
    return pieces + [("<|im_end|>", OTHER)] * (rng.random() < 0.5)


def hermes(rng):
    pieces = [("<think>", TAG), (f"\n{thought(rng)}\n", THINK), ("</think>", TAG)]
    calls = rng.randint(0, 3)
    for _ in range(calls):
        pieces += [("\n", OTHER), ("<tool_call>", TAG), ("\n", OTHER), *json_call(rng, "arguments")]
        pieces += [("\n", OTHER), ("</tool_call>", TAG)]
    return pieces if calls else [*pieces, ("\n\nAll is well.", ANSWER)]


def react(rng):
    pieces = [("Thought:", TAG), (f" {' '.join(rng.choices(WORDS, k=4))}\n", THINK)]
    if rng.random() < 0.3:
        return [*pieces, ("Final Answer:", TAG), (" It is 4.", ANSWER)]
    pieces += [("Action:", TAG), (" " + rng.choice(NAMES), NAME), ("\n", OTHER), ("Action Input:", TAG), (" ", OTHER)]
    return [*pieces, *arguments(rng)]


def mistral(rng):
    pieces = [("[TOOL_CALLS]", TAG)]
    for number in range(rng.randint(1, 2)):
        pieces += [("[TOOL_CALLS]", TAG)] * (number > 0)
        pieces += [(rng.choice(NAMES), NAME), ("[ARGS]", TAG), *arguments(rng)]
    return pieces


def llama3(rng):
    pieces = [("<|python_tag|>", TAG), *json_call(rng, "parameters")]
    return pieces + [("; ", OTHER), *json_call(rng, "parameters")] * (rng.random() < 0.5)


WRITERS = {"rlla": rlla, "hermes": hermes, "react": react, "mistral-args": mistral, "llama3": llama3}


def cut(rng, pieces):
    """The first characters alone. A tag that is cut is none; in a thought that is not closed it is thought."""
    left = rng.randrange(1, sum(len(text) for text, _ in pieces))
    kept = []
    for text, region in pieces:
        whole = len(text) <= left
        if not whole and region is TAG:
            region = THINK if kept and kept[-1][1] is THINK and text.startswith("</") else OTHER
        kept.append((text[:left], region))
        left -= len(text)
        if left <= 0:
            return kept
    return kept


def broken(rng, pieces):
    """A bracket too many behind each call, one too few behind the last, no closing tag, or a thought without end."""
    choice = rng.randrange(4)
    if choice == 0:
        return [(text + "}", region) if (text, region) == ("}", OTHER) else (text, region) for text, region in pieces]
    if choice == 1:
        last = max((i for i, piece in enumerate(pieces) if piece == ("}", OTHER)), default=None)
        return [piece for i, piece in enumerate(pieces) if i != last]
    if choice == 2:
        return [piece for piece in pieces if piece[0] not in ("</tool_call>", "</response>")]
    closing = next((i for i, piece in enumerate(pieces) if piece[0] == "</think>"), None)
    if closing is not None:
        return [piece for piece in pieces[:closing] if piece[0] != "</think>"] + [
            (text, THINK) for text, _ in pieces[closing + 1 :] if text != "<|im_end|>"
        ]
    return pieces


def cases(count, seed):
    """Responses in five formats, three fifths of them whole, the others cut or broken."""
    rng = random.Random(seed)
    made = []
    while len(made) < count:
        name = rng.choice(["rlla", "rlla", "rlla", *WRITERS])
        pieces = WRITERS[name](rng)
        damage = rng.choice([None, None, None, cut, broken])
        if damage is cut and name == "react":
            damage = None  # a label that is cut changes what the lines before it are
        if damage is broken and name not in ("rlla", "hermes"):
            damage = None  # without closing tags nothing says where calls go on
        if damage:
            pieces = damage(rng, pieces)
        text = "".join(text for text, _ in pieces)
        regions = [region for piece, region in pieces for _ in piece]
        made.append(Case(text, regions, name, exact=damage is None))
    return made


def slow_weights(regions, offsets, weight_of):
    """ResT's rule with lists and loops: weights (floats) of tokens at `offsets`, whose characters are in `regions`.

    `weight_of` says what a region counts; a token that is not wholly inside one counts as OTHER.
    """
    inside_arguments = (ARGUMENTS, KEY, VALUE)
    raw = []
    for start, end in offsets:
        found = set(regions[start:end])
        if len(found) == 1:
            region = found.pop()
        elif found and all(region in inside_arguments for region in found):
            region = ARGUMENTS
        else:
            region = OTHER
        weight = weight_of(region)
        raw.append(min(max(weight, 0.001), 8.0) if weight > 0 else 0.0)
    positive = [weight for weight in raw if weight > 0]
    return [weight / (sum(positive) / len(positive)) if positive else 0.0 for weight in raw]
