"""The project's own source, as data: its modules, what each imports, and what each defines."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tlog", "server")
GENERATED = "tlog.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file: its dotted name, its path from the root, its syntax tree."""

    name: str
    is_package: bool
    path: str
    tree: ast.Module
    lines: int


def parse_module(name: str, source: str, *, is_package: bool = False, path: str = "") -> Module:
    """Make a Module of source text; tests use it to ask the rules about code that nobody wrote."""
    tree = ast.parse(source, filename=path or name)
    return Module(name=name, is_package=is_package, path=path, tree=tree, lines=len(source.splitlines()))


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the packages, sorted by name; generated ones too."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            relative = path.relative_to(ROOT).as_posix()
            source = path.read_text(encoding="utf-8")
            found.append(parse_module(name, source, is_package=is_package, path=relative))
    return tuple(found)


def written_modules() -> tuple[Module, ...]:
    """Every module that a person wrote."""
    return tuple(module for module in modules() if not is_within(module.name, GENERATED))


def is_within(name: str, package: str) -> bool:
    """Whether a dotted name is the package or below it."""
    return name == package or name.startswith(package + ".")


def matches(name: str, pattern: str) -> bool:
    """Whether a dotted name is `a.b`, or below it for the pattern `a.b.*`, or begins so for `a.b_*`."""
    if pattern.endswith(".*"):
        return is_within(name, pattern[:-2])
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern


def imports(module: Module, known: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Every (dotted name, line) that the module imports, anywhere in it: in functions and for types too.

    `from a import b` is an import of `a.b` where that is one of the `known` modules, and of `a` otherwise.
    """
    names = frozenset(known)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in names else base), node.lineno


def _base(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of what a `from … import` reads from."""
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join([*parts, node.module] if node.module else parts)


@cache
def committed_files() -> tuple[str, ...]:
    """The paths of all committed files, from the root; without git, of all files of the known folders."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached"], check=True, capture_output=True, text=True
        ).stdout.split("\0")
        # A file that is staged for deletion, or deleted and not staged yet, has nothing to read.
        return tuple(path for path in listed if path and (ROOT / path).is_file())
    except (OSError, subprocess.CalledProcessError):
        folders = (*PACKAGES, "proto", "tests", "bench", "docs", "examples", "deploy")
        below = (path for folder in folders for path in sorted((ROOT / folder).rglob("*")))
        here = (path for path in sorted(ROOT.iterdir()))
        return tuple(
            path.relative_to(ROOT).as_posix()
            for path in (*here, *below)
            if path.is_file() and "__pycache__" not in path.parts
        )


def report(found: Iterator[str]) -> None:
    """Fail with everything that was found, a line each."""
    lines = list(found)
    assert not lines, "\n" + "\n".join(lines)
