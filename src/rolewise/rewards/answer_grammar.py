r"""One grammar for mathematical answers, used for the model and the reference alike.

`read_answer` rewrites expressions that math-verify would misread, and notes information that it would ignore; `clash`
returns True if two notes exclude equal answers, and math-verify judges the rest. The rules that are a matter of taste:

- A unit may be omitted on either side. If both give a known one, they must be the same: 5 cm is not 5 m, and 100 cm is
  not 1 m either, because units are not converted. Words that are not a known unit (apples) don't count.
- Digits with a base equal the same digits without one (`101_2` and `101`), never those of another base.
- `9 a.m.` equals 9 but not `9 p.m.`; `7:00 PM` equals 7, but a bare `3:30` neither 3 nor 3.5.
- `5 million` is 5000000. `1,000`, `1 000`, `1\,000` and `1'000` are 1000, `1, 000` is a list.
- A choice is compared by its letter or by its value, whichever the other side gives.
- `18!` is a factorial, and `7, 8` are two values.
- A decimal number equals its own value, not the value that it is rounded from: 1.41421356 is not √2.
- 50 % equals 0.5 and also 50, which many references mean.
- Words that change a number (`dozen`, `squared`, `below`) must agree on both sides, and so must ellipses and primes.
- An ambiguous text equals only itself.

Every pattern runs in linear time, or on text of bounded length.
"""

import re
from dataclasses import dataclass

from rolewise.rewards.answer_text import plain
from rolewise.rewards.answer_units import unit_name

MAGNITUDES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}

_POWER = re.compile(r"(?<=[\w)}])\*\*(?=[\w({])")
_DELIMITERS = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])|\*\*|`")
_WORDS_IN_A_FONT = re.compile(
    r"\\(?:text(?:bf|it|sf|sl|sc|tt|up|md)|emph)\s*\{(?=[^{}\\\d]{0,200}?[A-Za-z]{2}[^{}\\\d]{0,200}\})"
)
_LOOKS = re.compile(
    r"\\!\s*|\\(?:text(?:bf|it)|math(?:bf|it|sf|tt|normal)|boldsymbol|bm|displaystyle|left|right)(?![A-Za-z])"
)
_QUOTED = re.compile(r'^"(.*)"$')
_SAID_BEFORE = re.compile(
    r"^(?:\\text\s*\{\s*)?(?:the |my |final )*answer(?: is|:)[\s:]*(\})?"
    r"|^(?:about|approximately|approx\.?|roughly|around|\\approx|\\sim|~)(?![A-Za-z])\s*",
    re.IGNORECASE,
)
_NAMED = re.compile(r"^[A-Za-z][A-Za-z ]{0,30}:\s+(?=[-+$\\]?\.?\d)")
_NAME_OF_RATIO = re.compile(r"^[A-Za-z][^=<>]{0,60}=\s*(?=\d{1,4}:\d{1,4}$)")
_GROUP = re.compile(r"(?<![\d.,])(\d{1,3})((?:(?:\{,\}|,\s?|\\,|'| )\d{3}(?!\d))+)(?![\d,.]\d)")
_PLAIN_COMMA = re.compile(r"(?<![\\{]),")
_SCIENTIFIC = re.compile(r"(?<![A-Za-z\d.])(-?(?:\d++(?:\.\d*+)?|\.\d++))[eE]([+-]?\d+)(?![\d.A-Za-z])")
_POINT_BEFORE_SLASH = re.compile(r"(?<=\d)\.(?=/)")
_MIXED = re.compile(r"(?<![\d.)/^_A-Za-z}])(\d{1,6})\s(\d{1,6})/(\d{1,6})(?![\d.])")
_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])")
_SQRT = re.compile(r"(?<![A-Za-z\\])sqrt\s?\(([^()]{1,200})\)")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textrm|textnormal|rm)\s*\{([^{}]*)\}")
_MAGNITUDE = re.compile(
    r"(?<=\d)(?:\s|~|\\[ ,;])*+(?:\\(?:text|mathrm)\{\s*)?"
    rf"({'|'.join(MAGNITUDES)})(?![A-Za-rt-z])s?(?:\s*\}}|(?=\s|$|\W)(\s*+[A-Za-z ]*+\}})?)",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^(\\(?:text|mathrm)\s*\{|\{)?\s*\(([A-Z])\)\s*(\})?")
_CLOCK = re.compile(r"^(\d{1,2})(?::(\d{2}))?(?:\s|\\ |~)*([ap])\.?\s?m\.?$", re.IGNORECASE)
_BARE_CLOCK = re.compile(r"^(\d{1,2}):(\d{2})$")
_BASE = re.compile(r"^\(?([0-9A-Z][0-9A-Z,. ]{0,200})\)?\s?(?:_\s?\{?\s?|\(?base[ -])\s?(\d{1,2}|[a-z]{3,5})\s?\}?\)?$")
_ANY_BASE = re.compile(r"\d_\{?\(?(\d{1,2}|[a-z](?![a-z]))")
_DOTS = re.compile(r"dots|\.\.|\. \.")
_DEGREE_NUMBER = re.compile(r"(?<![\d.])(\d{1,9}(?:\.\d{1,9})?)\s?\^\s?(?:\{\s?\\circ\s?\}|\\circ)")
_FUNCTION = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_CHANGING = re.compile(
    r"(?<![A-Za-z\\])(?:dozen|lakh|crore|mil|bn|half|halve|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|ten"
    r"|tenth|hundredth|thousandth|millionth|hundred|thousand|million|billion|trillion|squared|cubed|factorial|below"
    r"|negative|minus|than|if|mod|noon|midnight|[ap]\.?m)s?(?![A-Za-z])",
    re.IGNORECASE,
)
"""Words that change an adjacent number, unless a pattern above has read them."""
_RESIDUE = re.compile(r"^(?:[a-zA-Z]\s*\\equiv\s*)?(-?\d+)\s*\\(?:pmod|mod|bmod|pod)\s*+(?:\{\s*+)?(\d+)\s*\}?$")
_CURRENCIES = {r"\$": "dollar", "£": "pound sterling", r"\pounds": "pound sterling", "€": "euro", "¥": "yen"}
_CURRENCY = re.compile(r"\\\$|[£€¥]|\\pounds(?![a-z])")
_MONEY = re.compile(rf"[-+−(*\s]{{0,5}}({_CURRENCY.pattern})")
_CENTS = re.compile(r"(?:¢|\\cents?)$")
_DEGREES = re.compile(r"\^\s?(?:\{\s*\\circ\s*\}|\\circ)\s*$")
# Tried only where such words can begin, not again at each word.
_TRAILING = re.compile(r"(?<![A-Za-z.,/ ()])[.,/ ()]*+([A-Za-z][A-Za-z.,/ ()]*+(?:\^\s?\{?[23]\}?)?)$")
_LATEX_SPACE = re.compile(r"\\[ ,;:]")
_LATEX_SPACES = (r"\ ", r"\,", r"\;", r"\:")
_WORDS = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}")
_IDLE_SPACE = re.compile(r"(?<![\d,\s])\s++|(?<!\s)\s++(?!\d)")
_AND = re.compile(r"(?:,\s?)?\\text\s*\{\s?,?\s?(?:and|or)\s*\}|(?:,\s?)?\b(?:and|or)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_UNCOUNTED = re.compile(r"\\pm|\\mp|dots|\\\{")
_OR = re.compile(r"\\(?:text|mathrm|mbox)\s*\{\s*or\s*\}|\\lor(?![a-z])|\bor\b|\\cup(?![a-z])")
_RELATION = re.compile(r"(\\leq?(?:slant)?(?![a-z])|\\geq?(?:slant)?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=|>=|<|>)")
_VARIABLE = re.compile(r"^[A-Za-z]$")


@dataclass(frozen=True)
class Written:
    """A parsed answer.

    Attributes:
        latex: expression for math-verify.
        unit: its known name, or None.
        base: base of the digits in `latex`, or None.
        half: `a` or `p` for a.m. and p.m., or None.
        minutes: minutes of a time of day; None for anything else.
        label: letter of a choice, or None; if there is nothing else, `latex` is that letter.
        modulus: modulus of a residue, or None.
        changed: words that change the number in `latex`.
    """

    latex: str
    unit: str | None = None
    base: int | None = None
    half: str | None = None
    minutes: int | None = None
    label: str | None = None
    modulus: int | None = None
    changed: tuple[str, ...] = ()


def read_answer(text: str) -> Written:
    """Parse an answer in LaTeX, with or without delimiters, or in plain text."""
    found = _MONEY.match(text)
    money = _CURRENCIES[found[1]] if found else None
    text = plain(_CURRENCY.sub("", text.replace("\0", " ").replace("\n", " ")))
    text = _WORDS_IN_A_FONT.sub(r"\\text{", text)
    text = _LOOKS.sub("", _DELIMITERS.sub("", _POWER.sub("^", text))).strip()
    if not _DOTS.search(text[-5:]):
        text = text.rstrip(".,;").strip()
    text = _QUOTED.sub(r"\1", text).strip()
    text = _NAME_OF_RATIO.sub("", _NAMED.sub("", _without_preface(text)))
    label, text = _labelled(text)
    if time := _time(text):
        return time
    if based := _digits_of_base(text):
        return based
    if residue := _RESIDUE.match(text):
        return Written(residue[1], modulus=int(residue[2]))
    text = _expanded(text)
    changed = tuple(word.lower() for word in _CHANGING.findall(text))
    text, unit = _without_unit(text)
    latex = _as_intervals(text).replace(r"\sqrt{-1}", "i")
    return Written(latex, unit=unit or money, label=label, changed=changed)


def clash(first: Written, second: Written) -> bool:
    """Return True if the information besides the expressions rules out that two answers are equal."""
    pairs = (
        (first.unit, second.unit),
        (first.base, second.base),
        (first.half, second.half),
        (first.label, second.label),
        (first.modulus, second.modulus),
    )
    if any(one is not None and other is not None and one != other for one, other in pairs):
        return True
    if first.changed != second.changed:
        return True
    # math-verify ignores dots and primes.
    if bool(_DOTS.search(first.latex)) != bool(_DOTS.search(second.latex)):
        return True
    if first.latex.count("'") != second.latex.count("'"):
        return True
    bases = [sorted(_ANY_BASE.findall(one.latex)) for one in (first, second)]
    if bases[0] != bases[1] and (all(bases) or any(base.isalpha() for base in bases[0] + bases[1])):
        return True
    if first.minutes is not None and second.minutes is not None:
        return first.minutes != second.minutes
    # One time of day and one other value: full hours with a half of the day count as numbers, other times do not.
    return any(one.minutes is not None and (one.minutes > 0 or one.half is None) for one in (first, second))


def same_by_sight(first: Written, second: Written) -> bool:
    """Return True if two answers that don't clash are the same text, or the same letter of a choice."""
    if _bare(first.latex) == _bare(second.latex):
        return True
    labels = (first.label or first.latex, second.label or second.latex)
    return (
        labels[0] == labels[1]
        and first.latex != second.latex
        and (not first.latex or first.latex == labels[0]) | (not second.latex or second.latex == labels[1])
    )


def lists_of_unlike_length(first: str, second: str) -> bool:
    """Return True if two lists without braces (`1,1,2`) differ in their number of values; False if that is unclear."""
    lengths = [_length_of_list(text) for text in (first, second)]
    return None not in lengths and lengths[0] != lengths[1]


def _length_of_list(text: str) -> int | None:
    text = _THOUSANDS.sub("", _AND.sub(",", _LATEX_SPACE.sub(" ", text)))
    if _UNCOUNTED.search(text):
        return None
    depth, commas = 0, 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        commas += character == "," and depth == 0
    return commas + 1 if commas else None


def _bare(text: str) -> str:
    """Return a text without formatting and insignificant spaces; those between digits matter, as in `1, 000`."""
    return _IDLE_SPACE.sub("", _TEXT.sub(r"\1", text))


def _without_preface(text: str) -> str:
    while found := _SAID_BEFORE.match(text):
        rest = text[found.end() :]
        if found.group().lstrip().startswith("\\text") and not found[1]:
            rest = r"\text{" + rest
        text = rest.strip()
    return text


def _labelled(text: str) -> tuple[str | None, str]:
    r"""Return the letter of a choice, `(A)`, and the rest; the letter again if there is no rest."""
    found = _LABEL.match(text)
    if not found:
        return (text, text) if re.fullmatch("[A-Z]", text) else (None, text)
    rest = text[found.end() :]
    if found[1] and not found[3]:
        rest = found[1] + rest
    rest = re.sub(r"^(?:\s|~|\\[ ,;:]|\\quad(?![a-z]))+", "", rest)
    if rest[:1] in tuple("+-*/^_(=,"):  # (A)+3, (A)(B) and (A), (B) are not choices with a value
        return None, text
    return found[2], rest or found[2]


def _time(text: str) -> Written | None:
    flat = _TEXT.sub(r"\1", text).strip()
    if found := _CLOCK.match(flat):
        return Written(str(int(found[1])), half=found[3].lower(), minutes=int(found[2] or 0))
    if found := _BARE_CLOCK.match(flat):
        return Written(str(int(found[1])), minutes=int(found[2]))
    return None


def _digits_of_base(text: str) -> Written | None:
    found = _BASE.match(re.sub(r"\{,\}", "", _TEXT.sub(r"\1", text)).replace(r"\,", "").strip())
    if not found:
        return None
    base = _BASES.get(found[2]) or (int(found[2]) if found[2].isdigit() else 0)
    digits = re.sub(r"[, ]", "", found[1])
    if base < 2 or (not digits[:1].isdigit() and base <= 10):  # A_1 is a name
        return None
    return Written(digits.rstrip("."), base=base)


def _expanded(text: str) -> str:
    """Return numbers and words in math-verify's spelling."""
    text = _GROUP.sub(_joined, text)
    text = _MAGNITUDE.sub(
        lambda found: rf" \times 10^{{{MAGNITUDES[found[1].lower()]}}}" + (rf"\text{{{found[2]}" if found[2] else ""),
        text,
    )
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", _POINT_BEFORE_SLASH.sub("", text))
    if _FUNCTION.search(text):  # math-verify ignores degrees
        text = _DEGREE_NUMBER.sub(r"(\1 \\pi / 180)", text)
    text = _SQRT.sub(r"\\sqrt{\1}", _PI.sub(r"\\pi ", text))
    return _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)


def _joined(found: "re.Match[str]") -> str:
    if _PLAIN_COMMA.search(found[2]):
        return found.group()  # a list, or a number that math-verify knows
    return found[1] + re.sub(r"\D", "", found[2])


def _without_unit(text: str) -> tuple[str, str | None]:
    """Return an expression without the unit or noun at its end, and the unit's name if it is known."""
    if found := _DEGREES.search(text):
        return text[: found.start()].strip(), "degree"
    if found := _CENTS.search(text):
        return text[: found.start()].strip(), "cent"
    flat = re.sub(r"\\[ ,;:]|~", " ", _TEXT.sub(r" \1 ", text)) if _TEXT.search(text) else text
    flat = flat.strip()
    found = _TRAILING.search(flat.rstrip(" .")) if flat[:1] in "-+.0123456789\\(" else None
    start = _before_spacing(flat, found.start(1)) if found else 0
    if not found or not start:
        return text, None
    rest, words = flat[:start].rstrip(), found[1]
    if _WORDS.search(rest) or not re.search(r"[\d})]$|\\pi$|[0-9}a-z]\s*[a-z]$", rest):
        return text, None
    bare = _TEXT.search(text) is None
    name = unit_name(words)
    if bare and not re.search(r"\s|~|\\[ ,;:]", flat[start : found.end()][:2]):
        return text, name  # 3x and 2ab are products
    if bare and len(words) == 1:
        return text, name  # math-verify decides if m is a meter
    if bare and name is None and len(words.split()[0]) < 3:
        return text, None
    if re.search(r"\b(?:and|or)\b", words):
        return text, None
    return rest, name


def _before_spacing(text: str, position: int) -> int:
    """Return the position at which the spaces before a position begin, including LaTeX's."""
    while position:
        if text[max(0, position - 2) : position] in _LATEX_SPACES:
            position -= 2
        elif text[position - 1].isspace() or text[position - 1] == "~":
            position -= 1
        else:
            break
    return position


def _as_intervals(text: str) -> str:
    r"""Return `x<2 or x>3` as a union of intervals; anything else unchanged."""
    parts = _OR.split(text)
    if len(parts) < 2:
        return text
    read = [_interval(part) for part in parts]
    intervals = [one for one in read if one is not None]
    if len(intervals) < len(parts) or len({variable for variable, _ in intervals}) > 1:
        return text
    return r"\cup".join(interval for _, interval in intervals)


def _interval(text: str) -> tuple[str, str] | None:
    """Return the variable and the interval of `x<2` or `1<x\\le 2`."""
    pieces = [piece.strip() for piece in _RELATION.split(text)]
    signs = ["<" if sign[0] == "<" or sign.startswith((r"\l",)) else ">" for sign in pieces[1::2]]
    closed = [sign[-1:] == "=" or sign.startswith((r"\le", r"\ge")) for sign in pieces[1::2]]
    terms = pieces[::2]
    if len(set(signs)) != 1:
        return None
    if signs[0] == ">":
        terms, closed = terms[::-1], closed[::-1]
    if len(terms) == 2 and _VARIABLE.match(terms[0]):
        return terms[0], rf"(-\infty,{terms[1]}{']' if closed[0] else ')'}"
    if len(terms) == 2 and _VARIABLE.match(terms[1]):
        return terms[1], rf"{'[' if closed[0] else '('}{terms[0]},\infty)"
    if len(terms) == 3 and _VARIABLE.match(terms[1]):
        return terms[1], f"{'[' if closed[0] else '('}{terms[0]},{terms[2]}{']' if closed[1] else ')'}"
    return None
