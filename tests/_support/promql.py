"""Which metrics a PromQL expression names, and whether it is one at all, as far as our rules go."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<number>\d+(?:\.\d+)?(?![a-zA-Z_]))
    | (?P<range>\[\d+[smhdwy]\])
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<operator>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},])
    )""",
    re.VERBOSE,
)
_FUNCTIONS = frozenset(
    "rate increase sum max min avg count histogram_quantile vector time clamp_max".split()  # noqa: SIM905
)
_GROUPING = frozenset({"by", "without"})
_SET_OPERATORS = frozenset({"and", "or", "unless"})


def metric_names(expression: str) -> set[str]:
    """Return the names of the metrics in an expression. Raises ValueError for what is not one."""
    tokens = _tokens(expression)
    names: set[str] = set()
    closers: list[str] = []
    inside_grouping = False
    for place, (kind, token) in enumerate(tokens):
        following = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        if token in ("(", "{"):
            closers.append({"(": ")", "{": "}"}[token])
            inside_grouping = token == "(" and place > 0 and tokens[place - 1][1] in _GROUPING
        elif token in (")", "}"):
            if not closers or closers.pop() != token:
                raise ValueError(f"{expression!r}: {token} closes nothing")
            inside_grouping = False
        elif kind == "range" and (
            place == 0 or (tokens[place - 1][0] != "name" and tokens[place - 1][1] != "}")
        ):
            raise ValueError(f"{expression!r}: {token} belongs to no metric")
        elif kind == "name" and not inside_grouping and "}" not in closers:
            if following == "(" or following in _GROUPING:
                if token not in _FUNCTIONS | _GROUPING | _SET_OPERATORS:
                    raise ValueError(f"{expression!r}: {token} is no function")
            elif token not in _SET_OPERATORS:
                names.add(token)
    if closers:
        raise ValueError(f"{expression!r}: {closers[-1]} is missing")
    return names


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place = 0
    while place < len(expression.rstrip()):
        found = _TOKEN.match(expression, place)
        if found is None:
            raise ValueError(f"{expression!r} is no PromQL from {expression[place:]!r} on")
        kind = str(found.lastgroup)
        tokens.append((kind, found[kind]))
        place = found.end()
    return tokens
