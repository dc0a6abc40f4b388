"""No parser crashes, hangs, or takes more memory than its input is worth, on valid, nasty and damaged bytes.

A short run, the same every time; `make fuzz` runs longer, with other damage (CONTRIBUTING.md).
"""

from __future__ import annotations

import ast
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from _support.source_tree import report, written_modules
from fuzz import corpus
from fuzz.engine import fuzz
from fuzz.targets import targets

EXECUTIONS = 150
LARGEST_BYTES = 2**18
BYTES_FOR_EACH = 100
BYTES_FOR_NONE = 8 * 2**20

# What is a parser by its name, but takes nothing that a stranger, or a damaged disk, could have made.
NO_PARSERS = {
    "server.witness_policy.read_policy": "reads a file, and parse_policy parses it",
    "tlog.fsck.meta_check.read_meta_rows": "stands below check_store",
    "tlog.passphrase.read_passphrase": "takes any bytes",
    "tlog.cli.files.read_file": "gives bytes to a parser",
    "tlog.cli.governance_entry.read_governance_keys": "reads several files by read_key_file",
    "tlog.config_file.decode_config": "stands below every parse_config",
    "tlog.config_file.read_config": "stands below every load_config",
    "tlog.monitor.assembly.load_policy": "reads a file, and parse_policy parses it",
    "tlog.monitor.cursor.read_record": "reads what Cursor wrote into its LMDB store",
    "tlog.monitor.standing.read_standing": "puts together what other readers gave",
    "tlog.node.standing.load_policy": "reads a file, and parse_policy parses it",
    "tlog.node.standing.read_standing": "puts together what other readers gave",
    "tlog.cli.options.load_policy": "reads a file, and parse_policy parses it",
    "tlog.cli.evidence_view.load_trust": "reads a file, and parse_policy parses it",
    "tlog.reading.parse_reading_rule": "takes what parse_config checked",
    "tlog.storage.lmdb_header.read_meta": "stands below check_data_file",
    "tlog.storage.lmdb_page.parse_tree_page": "stands below DataFile, of lmdb-pages",
    "tlog.tile_source.directory.read_if_there": "stands below DirectoryTileSource, of export-folder",
    "tlog.tile_source.log_view.read_tile": "reads a log at hand",
    "tlog.witness.app.read_cosigners": "reads several files by read_cosigner_key_file",
    "tlog.vkey.parse_ed25519_vkey": "stands below Verifier.from_vkey",
    "tlog.vkey.parse_ml_dsa_vkey": "stands below parse_cosigner_vkey",
    "tlog.vkey.parse_ed25519_skey": "stands below Signer.from_skey",
    "tlog.vkey.parse_ml_dsa_skey": "stands below parse_cosigner_skey",
}
_PARSER = re.compile(r"(parse|decode|read|load)_\w+")


@pytest.mark.parametrize("name", targets())
def test_no_damage_makes_a_parser_fail(name: str) -> None:
    target = targets()[name]
    inputs = corpus.inputs(target)
    executions = len(inputs) + EXECUTIONS // target.weight
    ran = fuzz(target, inputs, Random(name), executions=executions)
    assert ran.finding is None, str(ran.finding)
    assert ran.executions == executions


def test_every_valid_input_is_taken() -> None:
    for target in targets().values():
        for data in target.seeds:
            target.run(data)


def test_the_committed_inputs_are_those_that_the_code_makes_and_those_that_once_failed() -> None:
    """Run `python -m tests.fuzz --write-corpus` after a format or a target has changed."""
    assert {path.name for path in corpus.CORPUS.iterdir()} <= set(targets()), "a folder of no target"
    for target in targets().values():
        if not target.is_repeatable:
            continue
        made = {
            corpus.name_of(kind, data)
            for kind, every in (("valid", target.seeds), ("nasty", target.nasty))
            for data in every
            if len(data) <= corpus.MAX_BYTES
        }
        committed = corpus.read(target.name)
        assert made == {name for name in committed if name.startswith(("valid-", "nasty-"))}, target.name
        for name, data in committed.items():
            assert name == corpus.name_of(name.partition("-")[0], data), f"{target.name}/{name} was changed"


@pytest.mark.parametrize("name", targets())
def test_a_long_input_takes_no_more_memory_than_it_is_worth(name: str) -> None:
    target = targets()[name]
    longest = min(LARGEST_BYTES, 4 * target.max_bytes)
    long = [data * (longest // max(1, len(data))) for data in target.seeds[:2]]
    for data in [*long, *sorted(target.nasty, key=len)[-2:]]:
        tracemalloc.start()
        try:
            target.run(data)
        except target.allowed:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak <= BYTES_FOR_NONE + BYTES_FOR_EACH * len(data), f"{peak} bytes for {len(data)}"


def parsers(found: dict[str, ast.Module]) -> Iterator[str]:
    """Every public function that is a parser by its name, as module.function."""
    for module, tree in found.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and _PARSER.fullmatch(node.name):
                yield f"{module}.{node.name}"


def test_every_parser_has_a_target() -> None:
    sources = "\n".join(
        path.read_text() for path in Path(__file__).parent.glob("*.py") if path != Path(__file__)
    )
    named = set(re.findall(r"\w+", sources))
    every = set(parsers({module.name: module.tree for module in written_modules()}))
    report(
        f"{parser} is called by no target: add one in tests/fuzz, or say in NO_PARSERS why it needs none"
        for parser in sorted(every - NO_PARSERS.keys())
        if parser.rpartition(".")[2] not in named
    )
    report(f"{parser} in NO_PARSERS is there no more" for parser in NO_PARSERS.keys() - every)


def test_a_parser_without_a_target_is_found() -> None:
    tree = ast.parse("def parse_this(data): ...\ndef _parse_that(data): ...\ndef format_it(): ...")
    assert list(parsers({"tlog.some": tree})) == ["tlog.some.parse_this"]
