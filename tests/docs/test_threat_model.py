"""docs/threat-model.md names tests that are there, and for every attack that fails one that shows it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[^`:]*)(?:::([^`]+))?`", PAGE)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "---" not in line and "shown by" not in line
]


@cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_a_test_that_is_named_is_there(path: str, name: str) -> None:
    named = ROOT / path
    assert named.is_dir() if path.endswith("/") else named.is_file(), f"there is no {path}"
    if path.endswith("/"):
        assert list(named.glob("test_*.py")), f"there is no test in {path}"
    if name:
        assert name in names_in(named), f"{path} has no {name}"


def test_what_is_not_possible_is_shown_by_a_test() -> None:
    assert len(ROWS) > 30
    for attack, happens, shown_by, *more in ROWS:
        assert not more, attack
        assert "`tests/" in shown_by or happens.startswith("possible"), f"nothing shows: {attack}"


@pytest.mark.parametrize(
    "attacker",
    [
        "The log operator",
        "A member",
        "A witness",
        "A gossiping peer",
        "A monitor or a mirror",
        "The network",
        "The storage",
    ],
)
def test_every_attacker_has_a_table(attacker: str) -> None:
    section = PAGE.split(f"\n## {attacker}\n")[1].split("\n## ")[0]
    assert section.count("\n| ") > 2
