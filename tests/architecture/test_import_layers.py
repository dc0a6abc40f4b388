"""The layers of docs and design, held by a test: imports point down, and pure modules stay pure.

The tables below are the architecture. A change to them is a decision; a failure of a test here is answered by
moving code, and only with a reason by changing a table.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import pytest
from _support.source_tree import (
    GENERATED,
    PACKAGES,
    Module,
    imports,
    is_within,
    matches,
    modules,
    parse_module,
    report,
    written_modules,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Some modules that stand on the same floor; pure ones do no I/O, read no clock, draw no randomness."""

    name: str
    patterns: tuple[str, ...]
    pure: bool


# From the ground up: a module imports modules of its own layer and of those above it in this list, no others.
LAYERS = (
    Layer(
        name="ground",
        patterns=(
            "tlog",
            "tlog.errors",
            "tlog.encoding",
            "tlog.strict_json",
            "tlog.exit_codes",
            "tlog.peer_host",
        ),
        pure=True,
    ),
    Layer(name="signatures", patterns=("tlog.ed25519", "tlog.ml_dsa"), pure=True),
    Layer(
        name="trees",
        patterns=("tlog.merkle.*", "tlog.tiles", "tlog.integrate", "tlog.leaf_prover"),
        pure=True,
    ),
    Layer(
        name="notes",
        patterns=(
            "tlog.vkey",
            "tlog.note",
            "tlog.checkpoint",
            "tlog.cosignature",
            "tlog.cosigned",
            "tlog.freshness",
            "tlog.policy",
            "tlog.receipt",
        ),
        pure=True,
    ),
    Layer(
        name="events",
        patterns=(
            "tlog.lei",
            "tlog.envelope",
            "tlog.event_time",
            "tlog.usual_event",
            "tlog.event",
            "tlog.governance",
            "tlog.governance_schema",
            "tlog.restored",
            "tlog.membership",
            "tlog.reading",
            "tlog.validate",
            "tlog.evidence.*",
            "tlog.trade.*",
        ),
        pure=True,
    ),
    Layer(
        name="disk",
        patterns=(
            "tlog.durable_file",
            "tlog.storage.*",
            "tlog.key_file",
            "tlog.encrypted_key_file",
            "tlog.passphrase",
            "tlog.core_dumps",
            "tlog.evidence_store",
            "tlog.config_file",
            "tlog.tls_config",
            "tlog.tls",
            "tlog.certificates",
        ),
        pure=False,
    ),
    Layer(
        name="log",
        patterns=(
            "tlog.log",
            "tlog.log_state",
            "tlog.log_view",
            "tlog.edge_prover",
            "tlog.right_edge",
            "tlog.stored_leaves",
            "tlog.stored_notes",
            "tlog.mark_check",
            "tlog.marked_store",
            "tlog.mark_adoption",
            "tlog.freezing",
        ),
        pure=False,
    ),
    Layer(name="tile sources", patterns=("tlog.http_client", "tlog.tile_source.*"), pure=False),
    Layer(name="generated", patterns=("tlog.v1.*",), pure=False),
    Layer(
        name="roles",
        patterns=(
            "tlog.client.*",
            "tlog.witness.*",
            "tlog.remote_signer",
            "tlog.signer.*",
            "tlog.http_listener",
            "tlog.grpc_tls",
            "tlog.tile_application",
            "tlog.monitor.*",
            "tlog.gossip.*",
            "tlog.node.*",
            "tlog.fsck.*",
            "tlog.backup.*",
        ),
        pure=False,
    ),
    Layer(name="command line", patterns=("tlog.cli.*", "tlog.__main__"), pure=False),
    Layer(name="server", patterns=("server.*",), pure=False),
)

# Modules of upper layers that decide and compute only: the rules for pure code hold for them as well.
PURE_ABOVE = (
    "tlog.backup.manifest",
    "tlog.monitor.alerts",
    "tlog.monitor.evidence",
    "tlog.monitor.health",
    "tlog.monitor.judge",
    "tlog.monitor.prefix_tree",
    "tlog.monitor.watches",
    "tlog.gossip.call_limits",
    "tlog.gossip.compose",
    "tlog.gossip.conviction",
    "tlog.gossip.convictions",
    "tlog.gossip.followed",
    "tlog.gossip.held",
    "tlog.gossip.judgement",
    "tlog.gossip.message",
    "tlog.gossip.peer_book",
    "tlog.gossip.pool",
    "tlog.gossip.state",
    "tlog.node.alarms",
    "tlog.node.shown_view",
    "tlog.client.append_reply",
    "tlog.client.proven_entries",
    "tlog.client.trusted_log",
    "tlog.client.wire",
    "tlog.witness.core",
    "tlog.witness.request",
    "tlog.signer.protocol",
    "tlog.signer.duty",
    "server.admission",
    "server.wire",
)

# Who may import which third-party library (and who else needs it had better ask one of these modules).
HOMES = {
    "nacl": ("tlog.ed25519", "tlog.encrypted_key_file"),
    "cryptography": ("tlog.ml_dsa", "tlog.certificates", "server.doctor"),
    "lmdb": ("tlog.storage.lmdb_*",),
    "msgspec": (
        "tlog.strict_json",
        "tlog.envelope",
        "tlog.usual_event",
        "tlog.event",
        "tlog.governance",
        "tlog.governance_schema",
        "tlog.membership",
        "tlog.validate",
        "tlog.config_file",
        "tlog.tls_config",
        "tlog.witness.config",
        "tlog.monitor.config",
        "tlog.monitor.judge",
        "tlog.monitor.cursor",
        "tlog.node.config",
        "tlog.cli.*",
        "server.config",
        "server.sequencer",
        "server.wire",
    ),
    # Nodes serve and call Exchange by themselves: gossip is no part of the log's client.
    "grpc": ("tlog.client.*", "tlog.grpc_tls", "tlog.gossip.grpc_*", "tlog.v1.*", "server.*"),
    "grpc_status": ("tlog.client.*", "server.*"),
    "grpc_health": ("tlog.client.*", "server.*"),
    "grpc_reflection": ("server.*",),
    "google": ("tlog.client.*", "tlog.gossip.grpc_wire", "tlog.v1.*", "server.*"),
    "opentelemetry": ("server.tracing",),
    "prometheus_client": ("server.metrics", "server.metrics_histogram", "server.metrics_merge"),
    "tenacity": ("tlog.client.*",),
    "aiohttp": (
        "tlog.http_listener",
        "tlog.http_client",
        "tlog.tile_application",
        "tlog.tile_source.http",
        "tlog.witness.http",
        "server.http_call_log",
        "server.metrics_http",
        "server.tile_http",
    ),
    "yarl": ("tlog.http_client",),
    "httpx": ("tlog.http_client", "tlog.monitor.sinks"),
    "typer": ("tlog.cli.*",),
    "rich": ("tlog.cli.*",),
}

# What pure code may take from the standard library: what reads and writes nothing outside its arguments.
PURE_STANDARD_LIBRARY = frozenset({
    "__future__", "abc", "array", "base64", "binascii", "bisect", "calendar", "collections",
    "collections.abc", "contextlib", "copy", "dataclasses", "datetime", "enum", "functools", "hashlib",
    "heapq", "hmac", "ipaddress", "itertools", "json", "math", "operator", "re", "string", "struct",
    "textwrap", "types", "typing", "unicodedata", "urllib.parse",
})  # fmt: skip
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "breakpoint"})
IMPURE_METHODS = frozenset({"now", "utcnow", "today", "read_text", "read_bytes", "write_text", "write_bytes"})
# Randomness enters where `generate` is called, which is at the edge; a pure `generate` may pass it on.
RANDOM_CALLS = frozenset({"generate", "randombytes", "urandom"})

NAMES = frozenset(module.name for module in modules())


def layers_of(name: str) -> list[int]:
    """The positions of the layers whose patterns match; the package `tlog` itself matches exactly."""
    return [
        position
        for position, layer in enumerate(LAYERS)
        if any(matches(name, pattern) for pattern in layer.patterns)
    ]


def is_pure(name: str) -> bool:
    """Whether the rules for pure code hold for a module."""
    return name in PURE_ABOVE or any(LAYERS[position].pure for position in layers_of(name))


def upward_imports(module: Module) -> Iterator[str]:
    """Every import of the module that does not point down."""
    for own in layers_of(module.name)[:1]:
        yield from _upward_imports(module, own)


def _upward_imports(module: Module, own: int) -> Iterator[str]:
    for target, line in imports(module, NAMES):
        if target.split(".")[0] not in PACKAGES:
            continue
        for position in layers_of(target):
            if position > own:
                yield (
                    f"{module.name}:{line} imports {target}, which stands above it "
                    f"({LAYERS[own].name} < {LAYERS[position].name})"
                )
            elif LAYERS[own].name == "server" and LAYERS[position].name == "command line":
                yield f"{module.name}:{line} imports {target}: the server knows nothing of the command line"


def homeless_imports(module: Module) -> Iterator[str]:
    """Every third-party import of the module outside that library's homes."""
    for target, line in imports(module, NAMES):
        library = target.split(".")[0]
        if library in sys.stdlib_module_names or library in PACKAGES:
            continue
        if library not in HOMES:
            yield f"{module.name}:{line} imports {target}, a library without a home: give it one in HOMES"
        elif not any(matches(module.name, home) for home in HOMES[library]):
            yield f"{module.name}:{line} imports {target}, whose home is {', '.join(HOMES[library])}"


def impurities(module: Module) -> Iterator[str]:
    """Everything in the module that reads or writes what is not among its arguments."""
    for target, line in imports(module, NAMES):
        library = target.split(".")[0]
        if library in sys.stdlib_module_names and target not in PURE_STANDARD_LIBRARY:
            yield (
                f"{module.name}:{line} imports {target} in pure code: pass the value in, "
                "or add it to PURE_STANDARD_LIBRARY if it touches nothing outside its arguments"
            )
    for call, function in calls(module.tree):
        called = call.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        if isinstance(called, ast.Name) and name in IMPURE_CALLS:
            yield f"{module.name}:{call.lineno} calls {name}() in pure code"
        if isinstance(called, ast.Attribute) and name in IMPURE_METHODS:
            yield f"{module.name}:{call.lineno} calls .{name}() in pure code: pass the value in"
        if name in RANDOM_CALLS and function != "generate":
            yield f"{module.name}:{call.lineno} draws randomness in pure code: pass the key in"


def calls(tree: ast.AST, function: str = "") -> Iterator[tuple[ast.Call, str]]:
    """Every call below a node, with the name of the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(node, ast.Call):
            yield node, inside
        yield from calls(node, inside)


def dynamic_imports(module: Module) -> Iterator[str]:
    """Every import by name at run time, which would go past all the rules here.

    Siblings may be loaded so: `import_module(f"a.b.{x}")` in a module of the package a.b.
    """
    for call, _ in calls(module.tree):
        name = ast.unparse(call.func)
        if name not in {"__import__", "importlib.import_module", "import_module"}:
            continue
        parts = call.args[0].values if call.args and isinstance(call.args[0], ast.JoinedStr) else []
        package = module.name.rpartition(".")[0]
        if not (parts and isinstance(parts[0], ast.Constant) and parts[0].value == f"{package}."):
            yield f"{module.name}:{call.lineno} calls {name}(): write an import that everybody can see"


def test_every_module_is_in_exactly_one_layer() -> None:
    for module in modules():
        found = [LAYERS[position].name for position in layers_of(module.name)]
        assert found, (
            f"{module.path} is in no layer: decide what it may import and what may import it, "
            "and add it to LAYERS in tests/architecture/test_import_layers.py"
        )
        assert len(found) == 1, f"{module.path} is in several layers, {found}: make the patterns narrower"


def test_imports_point_down() -> None:
    report(found for module in modules() for found in upward_imports(module))


def test_no_imports_go_in_circles() -> None:
    graph = {
        module.name: {name for name, _ in imports(module, NAMES) if name in NAMES and name != module.name}
        for module in modules()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these modules import each other: {' <- '.join(error.args[1])}")


def test_third_party_libraries_stay_in_their_homes() -> None:
    report(found for module in modules() for found in homeless_imports(module))


def test_pure_modules_touch_nothing_outside_their_arguments() -> None:
    pure = [module for module in written_modules() if is_pure(module.name)]
    assert len(pure) >= 10, "the table names almost nothing pure: is it still the right table?"
    report(found for module in pure for found in impurities(module))


def test_nothing_is_imported_by_name_at_run_time() -> None:
    report(found for module in written_modules() for found in dynamic_imports(module))


def test_the_library_never_imports_the_server() -> None:
    for module in modules():
        if is_within(module.name, "tlog"):
            reached = [name for name, _ in imports(module, NAMES) if is_within(name, "server")]
            assert not reached, f"{module.name} imports {reached}: the server imports tlog, never the reverse"


# The rules themselves: each must find what it is there to find.


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("tlog.encoding", "import tlog.note"),
        ("tlog.encoding", "from tlog import note"),
        ("tlog.encoding", "def f():\n    from tlog.merkle.hashing import leaf_hash"),
        ("tlog.merkle.hashing", "from ..note import Verifier"),
        ("tlog.log", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tlog.client.retry"),
        ("tlog.cli.serve", "import server.app"),
        ("server.app", "import tlog.cli.report"),
    ],
)
def test_an_import_that_points_up_is_found(name: str, source: str) -> None:
    assert len(list(upward_imports(parse_module(name, source)))) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("tlog.note", "from tlog.encoding import decode_utf8\nfrom tlog import ed25519\nimport re"),
        ("tlog.client.log_client", "from tlog.v1 import log_pb2\nfrom tlog import log"),
        ("server.app", "from tlog.client import retry\nfrom .config import Config"),
    ],
)
def test_an_import_that_points_down_is_allowed(name: str, source: str) -> None:
    assert list(upward_imports(parse_module(name, source))) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("tlog.note", "import nacl.signing"),
        ("tlog.log", "import lmdb"),
        ("tlog.storage.memory", "from lmdb import Environment"),
        ("server.app", "from prometheus_client import Counter"),
        ("tlog.event", "import cloudevents"),
        ("tlog.log", "from google.protobuf import message"),
    ],
)
def test_a_library_away_from_home_is_found(name: str, source: str) -> None:
    assert len(list(homeless_imports(parse_module(name, source)))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import urllib.request",
        "from time import monotonic",
        "from pathlib import Path",
        "x = open('a')",
        "from datetime import datetime, UTC\nx = datetime.now(UTC)",
        "def f(key):\n    return key.generate('a')",
        "def generate():\n    return g()\ndef g():\n    return randombytes(32)",
    ],
)
def test_an_impurity_is_found(source: str) -> None:
    assert len(list(impurities(parse_module("tlog.note", source)))) == 1


def test_a_module_that_no_layer_covers_is_noticed() -> None:
    assert layers_of("tlog.something_new") == []
    assert layers_of("tlog.merkle_two") == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import importlib\nimportlib.import_module('server.app')", 1),
        ("from importlib import import_module\nimport_module(name)", 1),
        ("import_module(f'{name}.app')", 1),
        ("import_module(f'tlog.{name}')", 1),
        ("__import__('server')", 1),
        ("import_module(f'tlog.cli.{name}')", 0),
    ],
)
def test_an_import_by_name_is_found(source: str, found: int) -> None:
    assert len(list(dynamic_imports(parse_module("tlog.cli.serve", source)))) == found


def test_generated_code_is_where_the_table_says() -> None:
    assert [module.name for module in modules() if module.name.endswith(("_pb2", "_pb2_grpc"))] == [
        module.name for module in modules() if is_within(module.name, GENERATED) and module.name != GENERATED
    ]
