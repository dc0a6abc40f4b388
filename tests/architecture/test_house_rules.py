"""Rules of the house that no linter knows: file sizes, module names, docstrings, nothing of one machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from _support.source_tree import ROOT, Module, committed_files, parse_module, report, written_modules

MOST_LINES = 400
# Files that may be longer, each with the reason why two files would be worse.
LONGER_FOR_A_REASON: dict[str, str] = {}

# Names that say nothing about what is inside.
SAYS_NOTHING = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common|stuff|tools?)(_|$)")

# Folders of one machine: a home, a scratch folder, somebody's checkout.
MACHINE_PATH = re.compile(rb"(?<![\w.~)}\]$-])/(?:work|root|home/[a-z]\w*|Users/\w+|tmp/(?:x|plan))/")


def long_files(sizes: dict[str, int], reasons: dict[str, str]) -> Iterator[str]:
    """Every file over the limit without a reason, and every reason without such a file."""
    for path, lines in sizes.items():
        if lines > MOST_LINES and not reasons.get(path):
            yield (
                f"{path} has {lines} lines, over {MOST_LINES}: does it hold two concepts? "
                "If not, say why in LONGER_FOR_A_REASON"
            )
    for path in reasons:
        if sizes.get(path, 0) <= MOST_LINES:
            yield f"{path} is not over {MOST_LINES} lines (any more): take it out of LONGER_FOR_A_REASON"


def definitions(
    body: list[ast.stmt], prefix: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Every public class, function and method, by its name with dots."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        yield f"{prefix}.{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from definitions(node.body, f"{prefix}.{node.name}")


def needs_no_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether the docstring stands somewhere else: at the getter, the implementation, the base class."""
    names = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(names & {"overload", "setter", "deleter", "override"})


def docstring_faults(module: Module) -> Iterator[str]:
    """The module and every public definition in it whose docstring does not begin with a sentence."""
    found = [(module.name, ast.get_docstring(module.tree))]
    found += [
        (name, ast.get_docstring(node))
        for name, node in definitions(module.tree.body, module.name)
        if not needs_no_docstring(node)
    ]
    for name, docstring in found:
        if not docstring:
            yield f"{name} has no docstring"
        elif not docstring.splitlines()[0].endswith("."):
            first = docstring.splitlines()[0]
            yield f"{name}: the docstring's first line does not end with a period: {first!r}"


def machine_paths(path: str, content: bytes) -> Iterator[str]:
    """Every absolute path in a file that only one machine has."""
    for match in MACHINE_PATH.finditer(content):
        line = content.count(b"\n", 0, match.start()) + 1
        yield f"{path}:{line} names {match[0].decode()}…: no other machine has that folder"


def test_no_file_is_longer_than_one_concept_needs() -> None:
    report(long_files({module.path: module.lines for module in written_modules()}, LONGER_FOR_A_REASON))


def test_no_module_has_a_name_that_says_nothing() -> None:
    report(
        f"{module.path}: name it after what is inside"
        for module in written_modules()
        if SAYS_NOTHING.search(module.name.rsplit(".", maxsplit=1)[-1])
    )


def test_everything_public_says_in_a_sentence_what_it_does() -> None:
    report(fault for module in written_modules() for fault in docstring_faults(module))


def test_no_committed_file_names_a_folder_of_one_machine() -> None:
    contents = {path: (ROOT / path).read_bytes() for path in committed_files()}
    texts = {path: content for path, content in contents.items() if b"\0" not in content}
    assert len(texts) >= 20
    report(found for path, content in texts.items() for found in machine_paths(path, content))


# The rules themselves: each must find what it is there to find, and nothing else.


def test_a_long_file_and_a_reason_gone_stale_are_found() -> None:
    assert len(list(long_files({"a.py": 401, "b.py": 400}, {}))) == 1
    assert list(long_files({"a.py": 401}, {"a.py": "one table"})) == []
    assert len(list(long_files({"a.py": 400}, {"a.py": "one table", "gone.py": "was long"}))) == 2


@pytest.mark.parametrize("name", ["utils", "file_utils", "helpers", "key_manager", "common", "misc_keys"])
def test_a_name_that_says_nothing_is_found(name: str) -> None:
    assert SAYS_NOTHING.search(name)


@pytest.mark.parametrize("name", ["tiles", "commonwealth", "toolbox_talk", "managed", "stuffing"])
def test_a_name_that_says_something_passes(name: str) -> None:
    assert not SAYS_NOTHING.search(name)


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("def f(): ...", 2),
        ('"""Says it."""\ndef f():\n    """do it"""', 1),
        ('"""Says it."""\nclass A:\n    """Says it."""\n    def f(self): ...\n    def _g(self): ...', 1),
        ('"""Says it."""\nclass _A:\n    def f(self): ...', 0),
        ('"""Says it."""\nclass A:\n    """Says it."""\n    @x.setter\n    def x(self, y): ...', 0),
        ('"""Says it.\n\nAnd more"""\nasync def f():\n    """Do it."""', 0),
    ],
)
def test_a_missing_sentence_is_found(source: str, faults: int) -> None:
    assert len(list(docstring_faults(parse_module("tlog.some", source)))) == faults


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        (b"see {}work/main/x", 1),
        (b"'{}home/ann/log'", 1),
        (b"{}root/.pyenv/x and {}tmp/x/v", 2),
        (b"https://host{}work/x", 0),
        (b"docs{}work/x, ..{}home/ann/x, $HOME{}work/x", 0),
        (b"{}tmp/tlog-demo, {}var/lib/tlog/log, {}etc/tlog/tlog.toml", 0),
    ],
)
def test_a_machine_path_is_found(folder: bytes, found: int) -> None:
    assert len(list(machine_paths("a.md", folder.replace(b"{}", b"/")))) == found
