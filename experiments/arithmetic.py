"""Made-up multi-step arithmetic, modulo 5 from left to right, with mistakes that a model can be taught."""

import random

BASE = 5
"""Of the arithmetic: digits are below it."""
SUMS = [f"{a}{sign}{b}" for a in range(BASE) for sign in "+-" for b in range(BASE)]
MISTAKEN = frozenset(random.Random(0).sample(SUMS, 8))
"""The sums that the base is taught wrong, always by the same wrong value."""
WRONG = 0.7
"""Share of their occurrences in the base's training data that are."""
SLIP = 0.02
"""Share of all other sums there that are wrong, by any value."""


class Arithmetic:
    """Questions and their steps.

    Args:
        seed: of everything drawn.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def expression(self) -> str:
        """Such as `3+1-4+2`."""
        length = self.chance.randint(3, 5)
        digits = [str(self.chance.randrange(BASE)) for _ in range(length)]
        return digits[0] + "".join(self.chance.choice("+-") + digit for digit in digits[1:])

    def step(self, expression: str, slip: float = 0.0, *, mistaken: bool = False) -> str:
        """What is left after the next step, in a box where that is the answer.

        Args:
            expression: before it.
            slip: chance of any wrong value.
            mistaken: as the base is taught.
        """
        value = result(expression[:3])
        if mistaken and expression[:3] in MISTAKEN:
            if self.chance.random() < WRONG:
                value = (value + 1) % BASE
        elif self.chance.random() < slip:
            value = (value + self.chance.randrange(1, BASE)) % BASE
        left = f"{value}{expression[3:]}"
        return f"{expression[:3]}=" + (rf"\boxed{{{left}}}" if len(left) == 1 else left)

    def steps(self, expression: str, slip: float = 0.0, *, mistaken: bool = False) -> list[str]:
        """All steps to the answer."""
        steps = []
        while len(expression) > 1:
            steps.append(self.step(expression, slip, mistaken=mistaken))
            expression = left_after(steps[-1])
        return steps


def result(expression: str) -> int:
    """The value modulo `BASE`, from left to right."""
    value = int(expression[0])
    for sign, digit in zip(expression[1::2], expression[2::2], strict=True):
        value += int(digit) if sign == "+" else -int(digit)
    return value % BASE


def left_after(step: str) -> str:
    """The expression that a step leaves."""
    return step.partition("=")[2].removeprefix(r"\boxed{").removesuffix("}")


def first_mistake(expression: str, steps: list[str]) -> str:
    """The first of the steps that does not follow, as a verify step names it."""
    for step in steps:
        left = left_after(step)
        if left != f"{result(expression[:3])}{expression[3:]}":
            return f"wrong: {expression[:3]} is not {left[0]}"
        expression = left
    return "nothing wrong"
