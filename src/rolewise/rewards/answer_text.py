r"""Normalization of answers to the characters of the grammar: ASCII, with LaTeX commands for signs outside ASCII.

Digits of any script become 0 to 9, every minus `-`, ½ `\frac{1}{2}`, ² `^{2}`, √2 `\sqrt{2}`, π `\pi`; thin and wide
spaces become a space. Letters of words (é) stay as they are.
"""

import re
import unicodedata

_SIGNS = {
    **dict.fromkeys("−‐‑‒–﹣－", "-"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f", ""),
    **dict.fromkeys("’ʹ′‘", "'"),
    **dict.fromkeys("“”„«»", '"'),
    "×": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "÷": "/",
    "∕": "/",
    "⁄": "/",
    "≈": r"\approx ",
    "±": r"\pm ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "≡": r"\equiv ",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
    "…": r"\ldots ",
    "°": r"^\circ ",
    "α": r"\alpha ",
    "β": r"\beta ",
    "γ": r"\gamma ",
    "δ": r"\delta ",
    "θ": r"\theta ",
    "λ": r"\lambda ",
    "μ": r"\mu ",
    "π": r"\pi ",
    "σ": r"\sigma ",
    "φ": r"\phi ",
    "ω": r"\omega ",
}
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SPECIAL = re.compile(r"[^\x00-\x7f]")
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")
_ROOT = re.compile(r"√\s?(?:\(([^()]{1,200})\)|(\d+(?:\.\d+)?|[A-Za-z]|(?=\{)))")


def plain(text: str) -> str:
    """Return the text in the grammar's characters, in linear time."""
    if text.isascii():
        return text
    text = _RAISED_RUN.sub(lambda found: "^{" + "".join(map(_RAISED.__getitem__, found.group())) + "}", text)
    text = _LOWERED_RUN.sub(lambda found: "_{" + "".join(map(_LOWERED.__getitem__, found.group())) + "}", text)
    text = _SPECIAL.sub(lambda found: _one(found.group()), text)
    return _ROOT.sub(lambda found: r"\sqrt" + (f"{{{found[1] or found[2]}}}" if found[1] or found[2] else ""), text)


def _one(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    folded = unicodedata.normalize("NFKC", character)
    if unicodedata.category(character) == "No" and folded.count("⁄") == 1:
        upper, lower = folded.split("⁄")
        return rf"\frac{{{upper}}}{{{lower}}}" if lower else character
    return folded if folded.isascii() else character
