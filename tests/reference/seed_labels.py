"""The labels that seeds are derived from, read from the source: a label that is renamed draws other numbers."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.reference import product

HERE = Path(__file__).resolve().parent
LABELS = HERE / "seed_labels.json"
ANY = "*"  # what is known when the program runs alone
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def seed_labels(root: Path) -> list[list[str | int]]:
    """The arguments of every call that derives a seed below `root`, what is not literal as `*`; sorted, none twice."""
    files = sorted(file for package in product.PACKAGES for file in (root / package).rglob("*.py"))
    labels = {label for file in files for label in _labels(ast.parse(file.read_text()))}
    return [list(label) for label in sorted(labels, key=repr) if set(label) != {ANY}]


def _labels(module: ast.Module) -> Iterator[tuple[str | int, ...]]:
    for function, call in _calls(module, product.SEED_FUNCTION):
        texts = [_literal(argument) for argument in call.args]
        named = [n for n, a in enumerate(call.args) if isinstance(a, ast.Name) and a.id in _parameters(function)]
        yield tuple(texts)
        for number in named:  # a literal that a caller of the enclosing function passes on
            for literal in _passed(module, function, call.args[number].id):  # type: ignore[attr-defined]
                yield (*texts[:number], literal, *texts[number + 1 :])


def _calls(module: ast.Module, name: str) -> Iterator[tuple[_Function | None, ast.Call]]:
    """All calls of a function or method by its name, with the function that they stand in."""

    def visit(node: ast.AST, function: _Function | None) -> Iterator[tuple[_Function | None, ast.Call]]:
        inner = node if isinstance(node, _Function) else function
        if isinstance(node, ast.Call) and _name(node.func) == name:
            yield function, node
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inner)

    return visit(module, None)


def _passed(module: ast.Module, function: _Function | None, parameter: str) -> Iterable[str]:
    """The literal texts that calls in the same module pass as a parameter."""
    assert function is not None
    names = _parameters(function)
    position = names.index(parameter) - (names[0] == "self")
    for _, call in _calls(module, function.name):
        by_name = [keyword.value for keyword in call.keywords if keyword.arg == parameter]
        arguments = by_name or call.args[position : position + 1]
        yield from (text for text in map(_literal, arguments) if isinstance(text, str) and text != ANY)


def _parameters(function: _Function | None) -> list[str]:
    return [] if function is None else [argument.arg for argument in function.args.args]


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _literal(node: ast.expr) -> str | int:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return ANY
