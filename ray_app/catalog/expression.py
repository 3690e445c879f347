"""The score of a scenario: arithmetic over what a ranker predicts, parsed by `ast` into a whitelist; nothing is eval'd.

click: probability of a click; convert: of a purchase after a click; watch: expected watch time in seconds.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from ray_app.errors import InvalidField
from ray_app.types import Matrix, Scores

TASKS = ("click", "convert", "watch")  # the columns of what a ranker predicts
FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int]] = MappingProxyType(
    {"log1p": (np.log1p, 1), "log": (np.log, 1), "sqrt": (np.sqrt, 1), "exp": (np.exp, 1), "abs": (np.abs, 1),
     "min": (np.minimum, 2), "max": (np.maximum, 2)}
)  # fmt: skip
OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = MappingProxyType(
    {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
     ast.UAdd: np.positive, ast.USub: np.negative}
)  # fmt: skip
MOST_LONG, MOST_DEEP = 500, 40
ALLOWED = (
    f"numbers, {', '.join(TASKS)}, + - * / ** and parentheses, and {', '.join(FUNCTIONS)}; "
    'for example "click * (1 + 2 * convert) + 0.1 * log1p(watch)"'
)

Node = Callable[[Matrix], Any]


def parse(field: str, value: object) -> str:
    """The expression itself. Raises InvalidField that names the part which is not allowed."""
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_LONG:
        raise InvalidField(field, value, f"an expression of 1 to {MOST_LONG} characters: {ALLOWED}")
    _compiled(value, field)
    return value


def score(expression: str, predicted: Matrix) -> Scores:
    """predicted float32 [n, len(TASKS)] -> float32 [n]; what is no number (a logarithm of 0, say) is the lowest."""
    with np.errstate(all="ignore"):
        found = np.broadcast_to(_compiled(expression, "score")(predicted), len(predicted))
    most = float(np.finfo(np.float32).max)
    return np.asarray(np.nan_to_num(np.clip(found, -most, most), nan=-most), np.float32)


@lru_cache(maxsize=1024)
def _compiled(expression: str, field: str) -> Node:
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        where = f" at character {e.offset}" if isinstance(e, SyntaxError) else ""
        raise InvalidField(field, expression, f"an expression that can be read{where}: {ALLOWED}") from None
    return _node(tree.body, expression.strip(), field, 0)


def _node(part: ast.AST, whole: str, field: str, depth: int) -> Node:
    def inner(one: ast.AST) -> Node:
        return _node(one, whole, field, depth + 1)

    if depth > MOST_DEEP:
        raise InvalidField(field, whole, f"at most {MOST_DEEP} parts inside of each other")
    if isinstance(part, ast.Constant) and type(part.value) in (int, float) and np.isfinite(_number(part.value)):
        number = np.float64(_number(part.value))
        return lambda p: number
    if isinstance(part, ast.Name) and part.id in TASKS:
        column = TASKS.index(part.id)
        return lambda p: p[:, column].astype(np.float64)
    if isinstance(part, ast.UnaryOp) and type(part.op) in OPERATORS:
        return _apply(OPERATORS[type(part.op)], inner(part.operand))
    if isinstance(part, ast.BinOp) and type(part.op) in OPERATORS:
        return _apply(OPERATORS[type(part.op)], inner(part.left), inner(part.right))
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in FUNCTIONS:
        function, takes = FUNCTIONS[part.func.id]
        if len(part.args) == takes and not part.keywords:
            return _apply(function, *(inner(a) for a in part.args))
    raise InvalidField(field, ast.get_source_segment(whole, part) or whole, ALLOWED)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _apply(function: Callable[..., Any], *parts: Node) -> Node:
    return lambda p: function(*(part(p) for part in parts))
