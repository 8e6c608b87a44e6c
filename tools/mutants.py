"""Mutants of a module: copies with one small change each.

What is changed (docs/testing.md says why these): comparisons, arithmetic, signs, ``and`` and
``or``, conditions, numbers by one, truth values, strings, the order of the first two arguments,
keyword arguments, slices, min and max and their like; statements are left out and None is
returned.

Left alone are annotations, documentation, what is raised (but not whether), and the texts of
f-strings.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Place: TypeAlias = ast.expr | ast.stmt

_COMPARISONS = {
    ast.Lt: ("<=", ">="), ast.LtE: ("<", ">"), ast.Gt: (">=", "<="), ast.GtE: (">", "<"),
    ast.Eq: ("!=",), ast.NotEq: ("==",), ast.Is: ("is not",), ast.IsNot: ("is",),
    ast.In: ("not in",), ast.NotIn: ("in",),
}  # fmt: skip
_OPERATORS = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*",
    ast.Pow: "*", ast.LShift: ">>", ast.RShift: "<<", ast.BitAnd: "|", ast.BitOr: "&",
    ast.BitXor: "&",
}  # fmt: skip
_FUNCTIONS = {"min": "max", "any": "all", "minimum": "maximum", "argmin": "argmax", "floor": "ceil"}
_FUNCTIONS |= {there: here for here, there in _FUNCTIONS.items()}
_SYMMETRIC = {"min", "max", "minimum", "maximum"}


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    Attributes:
        scope: Function or class that it is in, "" for the module itself.
        line: Number of the line.
        change: What was and what is, as "before → after".
        source: The changed module.
    """

    scope: str
    line: int
    change: str
    source: str


class Mutator:
    """Finds the mutants of a module's source."""

    def __init__(self, source: str) -> None:
        self._source = source.encode()
        self._tree = ast.parse(source)
        self._starts = [0]
        for line in self._source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def mutants(self) -> list[Mutant]:
        """Every mutant, in the order of the source."""
        found: dict[str, Mutant] = {}
        unchanged = ast.dump(self._tree)
        for scope, shown, node, text in self._walk(self._tree, "", None):
            low, high = self._span(node)
            changed = (self._source[:low] + text.encode() + self._source[high:]).decode()
            meaning = ast.dump(ast.parse(changed))
            first, last = self._span(shown)
            before = self._source[first:last].decode()
            after = (self._source[first:low] + text.encode() + self._source[high:last]).decode()
            change = " → ".join(re.sub(r"\s+", " ", side) for side in (before, after))
            if meaning != unchanged:
                found.setdefault(meaning, Mutant(scope, node.lineno, change, changed))
        return _numbered(list(found.values()))

    def _span(self, node: Place) -> tuple[int, int]:
        last, column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[last - 1] + column,
        )

    def _text(self, node: Place) -> str:
        low, high = self._span(node)
        return self._source[low:high].decode()

    def _walk(
        self, node: ast.AST, scope: str, outer: Place | None
    ) -> Iterator[tuple[str, Place, Place, str]]:
        """Scope, what to show, what to replace in it, and its replacement."""
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or _left_alone(child):
                    continue
                inner, around = scope, outer
                if isinstance(child, ast.FunctionDef | ast.ClassDef):
                    inner = f"{scope}.{child.name}".lstrip(".")
                if isinstance(child, Place):
                    around = child
                    shown = _shown(child, outer)
                    for text in self._replacements(child):
                        yield inner, shown, child, text
                yield from self._walk(child, inner, around)

    def _replacements(self, node: Place) -> Iterator[str]:
        return self._expressions(node) if isinstance(node, ast.expr) else self._statements(node)

    def _statements(self, node: ast.stmt) -> Iterator[str]:
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete | ast.Raise | ast.Expr):
            yield "pass"
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield "pass"
        if isinstance(node, ast.Return) and node.value is not None:
            yield "return None"
        if isinstance(node, ast.AugAssign):
            target, value = self._text(node.target), self._text(node.value)
            yield f"{target} {_OPERATORS[type(node.op)]}= {value}"
        if isinstance(node, ast.If | ast.While):
            low, high = self._span(node)
            start, end = (position - low for position in self._span(node.test))
            whole = self._source[low:high]
            negated = f"not ({self._text(node.test)})".encode()
            yield (whole[:start] + negated + whole[end:]).decode()

    def _expressions(self, node: ast.expr) -> Iterator[str]:
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = self._text(node.left), self._text(node.comparators[0])
            for operator in _COMPARISONS[type(node.ops[0])]:
                yield f"({left}) {operator} ({right})"
        elif isinstance(node, ast.Compare):  # a <= b < c: either comparison
            sides = [f"({self._text(side)})" for side in (node.left, *node.comparators)]
            signs = [
                ast.unparse(ast.Compare(ast.Name("a"), [op], [ast.Name("b")])) for op in node.ops
            ]
            signs = [sign.removeprefix("a ").removesuffix(" b") for sign in signs]
            for i, op in enumerate(node.ops):
                for operator in _COMPARISONS[type(op)]:
                    mine = [*signs[:i], operator, *signs[i + 1 :], ""]
                    yield " ".join(f"{side} {sign}" for side, sign in zip(sides, mine, strict=True))
        elif isinstance(node, ast.BinOp):
            left, right = self._text(node.left), self._text(node.right)
            yield f"(({left}) {_OPERATORS[type(node.op)]} ({right}))"
        elif isinstance(node, ast.UnaryOp):
            yield f"({self._text(node.operand)})"
        elif isinstance(node, ast.BoolOp):
            operator = " or " if isinstance(node.op, ast.And) else " and "
            yield f"({operator.join(f'({self._text(value)})' for value in node.values)})"
        elif isinstance(node, ast.IfExp):
            body, test, orelse = (self._text(n) for n in (node.body, node.test, node.orelse))
            yield f"({orelse}) if ({test}) else ({body})"
        elif isinstance(node, ast.Constant):
            yield from _constants(node.value)
        elif isinstance(node, ast.Call):
            yield from self._calls(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            parts = [self._text(n) if n else "" for n in (node.slice.lower, node.slice.upper)]
            value = self._text(node.value)
            if node.slice.step is None:
                for i in (0, 1):
                    if parts[i] and not (parts[i] == "0" and i == 0):
                        yield f"{value}[{':'.join('' if j == i else parts[j] for j in (0, 1))}]"

    def _calls(self, node: ast.Call) -> Iterator[str]:
        function = self._text(node.func)
        head, dot, name = function.rpartition(".")
        arguments = [self._text(argument) for argument in node.args]
        keywords = [
            f"{word.arg}={self._text(word.value)}" if word.arg else f"**{self._text(word.value)}"
            for word in node.keywords
        ]
        if name in _FUNCTIONS:
            yield f"{head}{dot}{_FUNCTIONS[name]}({', '.join(arguments + keywords)})"
        if len(arguments) >= 2 and name not in _SYMMETRIC:
            swapped = [arguments[1], arguments[0], *arguments[2:]]
            yield f"{function}({', '.join(swapped + keywords)})"
        for i in range(len(keywords)):
            yield f"{function}({', '.join(arguments + keywords[:i] + keywords[i + 1 :])})"


def _constants(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int | float):
        yield repr(value + 1)
        yield f"({value - 1!r})"
    elif isinstance(value, str):
        yield repr(value + "?")


def _left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # documentation
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias"
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error")


def _shown(node: Place, outer: Place | None) -> Place:
    """What shows where a node stands: of a constant what holds it, if that is short."""
    long = ast.FunctionDef | ast.ClassDef | ast.Dict | ast.Tuple
    return (
        outer if outer and isinstance(node, ast.Constant) and not isinstance(outer, long) else node
    )


def _numbered(mutants: list[Mutant]) -> list[Mutant]:
    """With a number behind changes that are written alike in one scope."""
    seen: Counter[tuple[str, str]] = Counter()
    numbered = []
    for mutant in mutants:
        key = mutant.scope, mutant.change
        seen[key] += 1
        change = mutant.change if seen[key] == 1 else f"{mutant.change} ({seen[key]})"
        numbered.append(Mutant(mutant.scope, mutant.line, change, mutant.source))
    return numbered
