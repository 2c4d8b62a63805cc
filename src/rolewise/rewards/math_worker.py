"""Compare mathematical answers in a separate, killable process: `python -m rolewise.rewards.math_worker`.

Requests arrive as lines of JSON on standard input, and replies leave as lines of JSON on standard output; the first
reply says that all is loaded. math-verify's own time limits are off: they are signals, which long arithmetic never
checks. The caller enforces the time limit by killing the process.
"""

import json
import logging
import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify
from sympy.core.function import AppliedUndef

from rolewise.rewards.answer_grammar import clash, lists_of_unlike_length, read_answer, same_by_sight

MEMORY_LIMIT = 2 << 30  # bytes; nested powers would need more memory than there is

_LIST = re.compile(r",\s")
_COMMA_BEFORE_THREE_DIGITS = re.compile(r"(?<=\d),(?=(?!0\d\d)\d{3}(?!\d))")
_LIST_OF_ZEROS = re.compile(r",\s+0+(?=\d)")  # math-verify reads 1, 000 as 1000
_APART = 1e-10
"""Relative difference up to which numbers count as equal: the rounding loss of a number of 15 digits, no more."""


def is_right(answer: str, reference: str) -> bool:
    """Return True if two answers in LaTeX (with or without delimiters), read by the grammar, are equal for math-verify.

    If one answer is a list (`120, 180`), the other's commas separate too. Because math-verify treats all close numbers
    as equal, numbers must also agree to ten digits.
    """
    first, second = read_answer(answer), read_answer(reference)
    if clash(first, second):
        return False
    if same_by_sight(first, second):
        return True
    texts = [first.latex, second.latex]
    if any(map(_LIST.search, texts)):
        texts = [_LIST_OF_ZEROS.sub(", ", _COMMA_BEFORE_THREE_DIGITS.sub(", ", text)) for text in texts]
    if lists_of_unlike_length(*texts):  # math-verify reads lists as sets
        return False
    read, expected = map(_read, texts)
    return bool(verify(expected, read, timeout_seconds=None)) and not _apart(expected[:1], read[:1])


def canonical(answer: str) -> str:
    """Return a text that is the same for expressions that are easily seen to be equal, such as 0.5 and 1/2.

    A text makes votes transitive, which equality is not: 5 cm and 5 m both equal 5. It omits units, because one
    question has one unit, and keeps bases and halves of the day.
    """
    written = read_answer(answer)
    if written.base is not None:
        return f"{written.latex}_{written.base}"
    if written.minutes is not None:
        return f"{written.latex}:{written.minutes:02}" + (f" {written.half}.m." if written.half else "")
    return _canonical_expression(written.latex, answer)


def _canonical_expression(latex: str, answer: str) -> str:
    read = _read(latex)
    expression = _value(read[0]) if read else None
    if not isinstance(expression, sympy.Basic):
        return str(expression if read else answer)
    with suppress(Exception):  # not every readable expression can be evaluated
        return str(sympy.nsimplify(expression.doit(), rational=True))
    return str(expression)


def _read(text: str) -> list[Any]:
    """Return math-verify's reading: an expression and the normalized text, the text alone, or nothing."""
    found: list[Any] = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
    return found


def _value(expression: Any) -> Any:
    """Return the value that a name equals, `5` of `x = 5`; anything else, `x + y = 5` too, unchanged."""
    return expression.rhs if isinstance(expression, sympy.Eq) and _is_name(expression.lhs) else expression


def _is_name(expression: Any) -> bool:
    return isinstance(expression, sympy.Symbol | AppliedUndef)


def _apart(expected: list[Any], read: list[Any]) -> bool:
    """Return True if both are numbers that differ in ten digits; numbers too long for this are left to math-verify."""
    items = (*expected, *read)
    equations = [item for item in items if isinstance(item, sympy.Eq)]
    if len({equation.lhs for equation in equations}) > 1 and not all(_is_name(equation.lhs) for equation in equations):
        return False  # x/2 = 1 and x = 2 say the same
    values = [item.rhs if isinstance(item, sympy.Eq) else item for item in items]
    if not all(isinstance(value, sympy.Expr) and value.is_number for value in values):
        return False
    try:
        first, second = (complex(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return False
    # math-verify accepts both 50 and 0.5 for 50 %
    return all(abs(first * share - second) > _APART * abs(second) for share in (1, 100, 0.01))


def _limit_process() -> None:
    """Leave Ctrl-C to the parent process, and limit the memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    import resource

    with suppress(ValueError, OSError):  # a lower limit applies already, or the system has none
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def _set_alarm(seconds: float) -> None:
    """End this process after this many seconds, even during long arithmetic and without a parent; 0 cancels it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Serve requests until standard input ends."""
    _limit_process()
    logging.disable(logging.CRITICAL)
    # Libraries print, but the pipe is for replies only.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    is_right(r"\frac{1}{2}", "0.5")  # the grammar is built on first use
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _set_alarm(request["limit"])
        try:
            if "reference" in request:
                result: Any = is_right(request["answer"], request["reference"])
            else:
                result = canonical(request["answer"])
        except Exception:  # sympy fails in many ways on text that is not mathematics
            result = None
        _set_alarm(0)
        print(json.dumps({"result": result}), file=replies, flush=True)


if __name__ == "__main__":
    main()
