"""As much of PromQL as the dashboard is written in, over pages of metrics that were fetched by hand.

Selectors with =, != and =~; rate over a range; sum, max and min, with by; histogram_quantile; time();
arithmetic. What is computed is what Prometheus computes, but for its extrapolation to the edges of a range.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Labels: TypeAlias = frozenset[tuple[str, str]]
Vector: TypeAlias = dict[Labels, float]
Page: TypeAlias = Mapping[tuple[str, Labels], float]
"""One page of metrics: values by name and labels."""

_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<range>\[\d+[smh]\])|(?P<number>\d+(?:\.\d+)?)'
    r"|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<sign>=~|!=|[-+*/=(){},]))"
)
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"')
_AGGREGATES: Mapping[str, Callable[[list[float]], float]] = {"sum": math.fsum, "max": max, "min": min}
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda left, right: left / right if right else math.nan,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """Is one page, and when it was fetched, Unix time in seconds."""

    at_s: float
    page: Page


def parse_page(text: str) -> Page:
    """Parse a page of metrics in Prometheus's text format."""
    return {
        (name, frozenset(_LABEL.findall(labels or ""))): float(value)
        for name, labels, value in _SAMPLE.findall(text)
    }


def evaluate(expression: str, scrapes: Sequence[Scrape], *, range_s: float | None = None) -> Vector:
    """Evaluate an expression at the last of these scrapes, oldest first; a scalar has no labels.

    Ranges that are written in the expression are `range_s` long, where it is given. Raises ValueError for
    what is not in this part of PromQL. Requires at least one scrape.
    """
    return _Evaluation(expression, scrapes, range_s).result()


class _Evaluation:
    def __init__(self, expression: str, scrapes: Sequence[Scrape], range_s: float | None) -> None:
        self._expression = expression
        self._scrapes = scrapes
        self._range_s = range_s
        self._tokens = self._split(expression)
        self._place = 0

    def result(self) -> Vector:
        value = self._sum()
        if self._place != len(self._tokens):
            raise self._error("ends too late")
        return value

    def _split(self, expression: str) -> list[tuple[str, str]]:
        tokens, place, end = [], 0, len(expression.rstrip())
        while place < end:
            found = _TOKEN.match(expression, place)
            if found is None:
                raise ValueError(f"{expression!r} is not known from {expression[place:]!r} on")
            tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            place = found.end()
        return tokens

    def _error(self, what: str) -> ValueError:
        return ValueError(f"{self._expression!r} {what}, at token {self._place}")

    def _next(self) -> str:
        return self._tokens[self._place][1] if self._place < len(self._tokens) else ""

    def _take(self, wanted: str | None = None) -> str:
        token = self._next()
        if not token or (wanted is not None and token != wanted):
            raise self._error(f"lacks {wanted or 'its end'}")
        self._place += 1
        return token

    def _sum(self) -> Vector:
        value = self._product()
        while self._next() in ("+", "-"):
            value = _combined(self._take(), value, self._product())
        return value

    def _product(self) -> Vector:
        value = self._one()
        while self._next() in ("*", "/"):
            value = _combined(self._take(), value, self._one())
        return value

    def _one(self) -> Vector:
        kind, token = self._tokens[self._place] if self._place < len(self._tokens) else ("", "")
        self._take()
        if kind == "number":
            return {frozenset(): float(token)}
        if token == "(":
            value = self._sum()
            self._take(")")
            return value
        if kind != "name":
            raise self._error(f"has {token!r} where a value should be")
        if token in _AGGREGATES:
            return self._aggregate(_AGGREGATES[token])
        match token:
            case "time":
                self._take("(")
                self._take(")")
                return {frozenset(): self._scrapes[-1].at_s}
            case "rate":
                self._take("(")
                value = self._rate(self._take())
                self._take(")")
                return value
            case "histogram_quantile":
                self._take("(")
                quantile = float(self._take())
                self._take(",")
                buckets = self._sum()
                self._take(")")
                return _quantiles(quantile, buckets)
        wanted = self._selector(token)
        return {
            labels: value for (name, labels), value in self._scrapes[-1].page.items() if wanted(name, labels)
        }

    def _aggregate(self, function: Callable[[list[float]], float]) -> Vector:
        kept: set[str] = set()
        if self._next() == "by":
            self._take()
            self._take("(")
            while self._next() != ")":
                kept.add(self._take())
                if self._next() == ",":
                    self._take()
            self._take(")")
        self._take("(")
        groups: dict[Labels, list[float]] = {}
        for labels, value in self._sum().items():
            groups.setdefault(frozenset(pair for pair in labels if pair[0] in kept), []).append(value)
        self._take(")")
        return {labels: function(values) for labels, values in groups.items()}

    def _selector(self, name: str) -> Callable[[str, Labels], bool]:
        tests: list[Callable[[dict[str, str]], bool]] = []
        if self._next() == "{":
            self._take()
            while self._next() != "}":
                label, sign, text = self._take(), self._take(), self._take()[1:-1]
                tests.append(_label_test(label, sign, text))
                if self._next() == ",":
                    self._take()
            self._take("}")
        return lambda found, labels: found == name and all(test(dict(labels)) for test in tests)

    def _rate(self, name: str) -> Vector:
        wanted = self._selector(name)
        if self._place == len(self._tokens) or self._tokens[self._place][0] != "range":
            raise self._error("lacks a range")
        written = self._take()
        seconds = self._range_s or float(written[1:-2]) * {"s": 1, "m": 60, "h": 3600}[written[-2]]
        last = self._scrapes[-1]
        inside = [scrape for scrape in self._scrapes if scrape.at_s >= last.at_s - seconds]
        first = inside[0]
        if first is last:
            return {}
        return {
            labels: max(0.0, value - first.page.get((found, labels), 0.0)) / (last.at_s - first.at_s)
            for (found, labels), value in last.page.items()
            if wanted(found, labels)
        }


def _label_test(label: str, sign: str, text: str) -> Callable[[dict[str, str]], bool]:
    match sign:
        case "=":
            return lambda labels: labels.get(label, "") == text
        case "!=":
            return lambda labels: labels.get(label, "") != text
        case "=~":
            return lambda labels: re.fullmatch(text, labels.get(label, "")) is not None
    raise ValueError(f"{sign!r} compares no labels")


def _combined(sign: str, left: Vector, right: Vector) -> Vector:
    function = _ARITHMETIC[sign]
    if set(right) == {frozenset()}:
        return {labels: function(value, right[frozenset()]) for labels, value in left.items()}
    if set(left) == {frozenset()}:
        return {labels: function(left[frozenset()], value) for labels, value in right.items()}
    return {labels: function(value, right[labels]) for labels, value in left.items() if labels in right}


def _quantiles(quantile: float, buckets: Vector) -> Vector:
    """Interpolate within the bucket that the quantile falls into; nothing was counted: not a number."""
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in buckets.items():
        bound = float(dict(labels)["le"])
        rest = frozenset(pair for pair in labels if pair[0] != "le")
        groups.setdefault(rest, []).append((bound, count))
    return {labels: _quantile(quantile, sorted(counts)) for labels, counts in groups.items()}


def _quantile(quantile: float, counts: Sequence[tuple[float, float]]) -> float:
    total = counts[-1][1]
    if not total:
        return math.nan
    rank, below_bound, below = quantile * total, 0.0, 0.0
    for bound, count in counts:
        if count >= rank:
            if math.isinf(bound):
                return below_bound
            return below_bound + (bound - below_bound) * (rank - below) / (count - below)
        below_bound, below = bound, count
    return below_bound
