"""Compares mathematical answers in a process of its own, which may be killed: `python -m rolewise.rewards.math_worker`.

Requests come as lines of JSON on standard input, replies leave so on standard output, the first to say that all is
loaded. math-verify's own time limits are off: they are signals, which long arithmetic never looks at. The one who asks
keeps the time, and kills.
"""

import json
import logging
import math
import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

MEMORY_LIMIT = 2 << 30  # bytes; powers of powers ask for more than there is

_SCIENTIFIC = re.compile(r"(?<![A-Za-z\d.])(-?(?:\d+\.?\d*|\.\d+))[eE]([+-]?\d+)(?![\d.A-Za-z])")
_DOLLARS = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
_LOOKS = re.compile(r"\\!\s*|\\(?:textbf|mathbf|boldsymbol)(?![A-Za-z])")
_UNIT_IN_WORDS = re.compile(r"(?<=\d)\s+[A-Za-z]{3,}[A-Za-z ]*$")
_POINT_BEFORE_SLASH = re.compile(r"(?<=\d)\.(?=/)")
_LIST = re.compile(r",\s")
_COMMA_BEFORE_THREE_DIGITS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TINY = 1e-3


def is_right(answer: str, reference: str) -> bool:
    """Whether two answers in LaTeX (without delimiters) are equal for math-verify.

    What it misreads is put right before: `4.5e33`, `18 dollars`, `1./3`, and `120,180` where the reference is a list.
    And since it takes all numbers near zero for equal, those must agree to six digits besides.
    """
    answer, reference = _clean(answer), _clean(reference)
    if _LIST.search(reference):
        answer = _COMMA_BEFORE_THREE_DIGITS.sub(", ", answer)
    read, expected = _read(answer), _read(reference)
    return bool(verify(expected, read, timeout_seconds=None)) and not _tiny_and_apart(expected[:1], read[:1])


def canonical(answer: str) -> str:
    """A text that is the same for answers that are the same expression, as far as is easily seen: 0.5 and 1/2, say."""
    read = _read(_clean(answer))
    expression = _value(read[0]) if read else None
    if not isinstance(expression, sympy.Basic):
        return str(expression if read else answer)
    with suppress(Exception):  # not everything that can be read can be evaluated
        return str(sympy.nsimplify(expression.doit(), rational=True))
    return str(expression)


def _clean(text: str) -> str:
    text = _LOOKS.sub("", _DOLLARS.sub("", text.replace("\0", " ").replace("\n", " "))).strip().rstrip(".")
    text = _POINT_BEFORE_SLASH.sub("", _UNIT_IN_WORDS.sub("", text))
    return _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)


def _read(text: str) -> list[Any]:
    """What math-verify reads: an expression and the normalised text, the text alone, or nothing."""
    found: list[Any] = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
    return found


def _value(expression: Any) -> Any:
    """The right side of an equation, anything else itself."""
    return expression.rhs if isinstance(expression, sympy.Eq) else expression


def _tiny_and_apart(expected: list[Any], read: list[Any]) -> bool:
    values = [_value(item) for item in (*expected, *read)]
    if not all(isinstance(value, sympy.Expr) and value.is_number for value in values):
        return False
    try:
        first, second = (complex(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return False
    return 0 < abs(first) < _TINY and not math.isclose(abs(first - second), 0, abs_tol=1e-6 * abs(first))


def _limit_process() -> None:
    """Leave Ctrl-C to the parent, and memory to the machine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    import resource

    with suppress(ValueError, OSError):  # a lower limit holds already, or the system knows none
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def _set_alarm(seconds: float) -> None:
    """End this process after so many seconds, even within long arithmetic and without a parent; 0 calls it off."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Serve requests until standard input ends."""
    _limit_process()
    logging.disable(logging.CRITICAL)
    # Libraries print; the pipe is ours alone.
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
        except Exception:  # sympy fails in many ways on what is no mathematics
            result = None
        _set_alarm(0)
        print(json.dumps({"result": result}), file=replies, flush=True)


if __name__ == "__main__":
    main()
