"""What a query asks for: its selectors, read by a PromQL parser, and whether a worker exports that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser

from streams.telemetry.observer import Metrics
from streams.telemetry.table import EVERY_METRIC

TABLE = {row.name: row for row in EVERY_METRIC}
OF_THE_SCRAPE = {"job", "instance"}
HISTOGRAM_SAMPLES = ("_bucket", "_sum", "_count")


@dataclass(frozen=True)
class Selector:
    """One vector selector, and the function that its range, if it has one, is given to."""

    name: str
    matchers: dict[str, str]
    function: str | None


def others() -> set[str]:
    """Samples that a worker exports beside those of the table."""
    text = Metrics().exposition()[0].decode()
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[0] != "#"} - set(TABLE) | {"up"}


def selectors(expression: str) -> Iterator[Selector]:
    """Parse an expression and yield every selector in it. Raises ValueError when it is none."""
    yield from _selectors(promql_parser.parse(expression), None)


def _selectors(node: Any, function: str | None) -> Iterator[Selector]:
    match node:
        case promql_parser.VectorSelector():
            yield Selector(node.name, {m.name: m.value for m in node.matchers.matchers}, function)
        case promql_parser.MatrixSelector():
            yield from _selectors(node.vector_selector, function)
        case promql_parser.Call():
            for argument in node.args:
                yield from _selectors(argument, node.func.name)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from _selectors(node.expr, None)
        case promql_parser.SubqueryExpr():
            yield from _selectors(node.expr, None)
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs, None)
            yield from _selectors(node.rhs, None)


def groupings(expression: str) -> Iterator[tuple[set[str], list[Selector]]]:
    """Yield for every aggregation `by` labels these labels and the selectors inside."""
    yield from _groupings(promql_parser.parse(expression))


def _groupings(node: Any) -> Iterator[tuple[set[str], list[Selector]]]:
    if isinstance(node, promql_parser.AggregateExpr):
        modifier = node.modifier
        if modifier is not None and modifier.type == promql_parser.AggModifierType.By:
            yield set(modifier.labels), list(_selectors(node.expr, None))
        yield from _groupings(node.expr)
    for child in ("lhs", "rhs", "expr"):
        if hasattr(node, child) and not isinstance(node, promql_parser.AggregateExpr):
            yield from _groupings(getattr(node, child))
    for argument in getattr(node, "args", ()):
        yield from _groupings(argument)


def divisors(expression: str) -> Iterator[str]:
    """Yield what an expression divides by, without parentheses."""
    for node in _nodes(promql_parser.parse(expression)):
        if isinstance(node, promql_parser.BinaryExpr) and str(node.op) == "/":
            divisor = node.rhs
            while isinstance(divisor, promql_parser.ParenExpr):
                divisor = divisor.expr
            yield str(divisor)


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in ("lhs", "rhs", "expr"):
        if hasattr(node, child):
            yield from _nodes(getattr(node, child))
    for argument in getattr(node, "args", ()):
        yield from _nodes(argument)


def labels_of(name: str) -> set[str] | None:
    """Labels of a sample that a worker exports; None when it exports no such sample."""
    if name in TABLE and TABLE[name].type != "histogram":
        return {*TABLE[name].labels, *OF_THE_SCRAPE}
    for suffix in HISTOGRAM_SAMPLES:
        row = TABLE.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
        if row is not None and row.type == "histogram":
            return {*row.labels, *OF_THE_SCRAPE, *(("le",) if suffix == "_bucket" else ())}
    return set(OF_THE_SCRAPE) if name in others() else None


def is_counter(name: str) -> bool:
    """Whether a sample only ever rises, so that its bare value means nothing."""
    return name.endswith(("_total", *HISTOGRAM_SAMPLES))
