"""Safe replacements for `eval` where the official code calls it on a model's output."""

import ast
import builtins
import inspect
from types import CodeType
from typing import Any

_LARGEST_EXPONENT = 1000
_ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict),
    *(ast.operator, ast.unaryop, ast.expr_context),
)


class Refused(Exception):
    """The expression exceeds the official format."""


def evaluate_arithmetic(source: str) -> Any:
    """Return the value of an expression of literals and operators, as in `2 * 3.5`.

    Raises:
        Refused: for anything else, and for powers that could fill the memory.
    """
    tree = ast.parse(source, mode="eval")
    powers = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and _grows(node.op)]
    if not all(isinstance(node, _ARITHMETIC) for node in ast.walk(tree)):
        raise Refused(f"not arithmetic of literals: {_shortened(source)}")
    if len(powers) > 1 or not all(_is_small(node.right) for node in powers):
        raise Refused(f"a power too large to compute: {_shortened(source)}")
    return eval(_compiled(tree), {"__builtins__": {}})


class CallGuard:
    """Evaluator of calls of the simulated tools' public methods, with literals or such calls as arguments.

    Attributes:
        refused: what was refused since this attribute was last set to None.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        """Args:
        namespace: namespace of the tools' objects, under names that end in `_instance`.
        """
        self._namespace = namespace
        self.refused: str | None = None

    def __call__(self, source: str) -> Any:
        """Return the value of the call.

        Raises:
            Refused: for anything but such a call; noted in `refused`.
            NameError: for an undefined name, as in Python.
            SyntaxError: as in Python.
        """
        tree = ast.parse(source, mode="eval")
        try:
            self._check_call(tree.body)
        except Refused:
            self.refused = f"not a plain call of a tool with literal arguments: {_shortened(source)}"
            raise
        return eval(_compiled(tree), self._namespace)

    def _check_call(self, node: ast.AST) -> None:
        if not isinstance(node, ast.Call):
            raise Refused("not a call")
        if not self._is_tool(node.func):
            self._check_unknown(node.func)
        for argument in node.args:
            self._check_value(argument)
        for keyword in node.keywords:
            if keyword.arg is None:
                raise Refused("arguments from a mapping")
            self._check_value(keyword.value)

    def _is_tool(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name) or node.attr.startswith("_"):
            return False
        owner = node.value.id
        if not owner.endswith("_instance") or owner not in self._namespace:
            return False
        return inspect.ismethod(getattr(self._namespace[owner], node.attr, None))

    def _check_value(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant):
            return
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            self._check_value(node.operand)
        elif isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            for element in node.elts:
                self._check_value(element)
        elif isinstance(node, ast.Dict):
            for part in [*node.keys, *node.values]:
                if part is None:
                    raise Refused("entries from a mapping")
                self._check_value(part)
        elif isinstance(node, ast.Call):
            self._check_call(node)
        else:
            self._check_unknown(node)

    def _check_unknown(self, node: ast.AST) -> None:
        """Raise NameError for an undefined name, a common mistake of models that the official code handles."""
        while isinstance(node, ast.Attribute):
            node = node.value
        if isinstance(node, ast.Name) and node.id not in self._namespace and not hasattr(builtins, node.id):
            raise NameError(f"name {node.id!r} is not defined")
        raise Refused("neither a tool nor a literal")


def _grows(operator: ast.operator) -> bool:
    return isinstance(operator, (ast.Pow, ast.LShift))


def _is_small(exponent: ast.expr) -> bool:
    try:
        value = ast.literal_eval(exponent)
    except ValueError:
        return False
    return isinstance(value, (int, float)) and abs(value) <= _LARGEST_EXPONENT


def _compiled(tree: ast.Expression) -> CodeType:
    return compile(tree, "<answer>", "eval")


def _shortened(source: str) -> str:
    return source if len(source) <= 200 else f"{source[:200]}…"
