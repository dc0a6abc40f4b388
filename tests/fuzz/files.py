"""Targets that read files: configurations, keys, and every kind of state that a program finds at its start.

Each writes its input to a folder of its own, which is emptied at the end of the process.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

from _support.alliance import key
from _support.signers import signer
from _support.tiled_log import ORIGIN as TILES_ORIGIN
from _support.tiled_log import SIGNER as TILES_SIGNER
from _support.tiled_log import resources
from fuzz.engine import Target
from fuzz.events import JSON_NASTY
from fuzz.proofs import evidence_seeds
from fuzz.values import ALLIANCE, LOG, POLICY, make_target, text_of, trees

from server.config import load_config as load_server_config
from server.config import parse_config as parse_server_config
from server.told_checkpoint import ToldCheckpoint
from tlog.backup.manifest import Manifest, format_manifest, parse_manifest
from tlog.cli.event_input import read_records, sign_event
from tlog.cli.member_entry import load_member, parse_member_key
from tlog.cli.rules import load_rules
from tlog.client.checkpoint_file import CheckpointFile
from tlog.errors import (
    ConfigError,
    CorruptionError,
    MalformedError,
    NotFoundError,
    RefusedError,
    RemoteError,
    StorageError,
    VerificationError,
)
from tlog.evidence_store import EvidenceStore
from tlog.gossip.kept_tiles import KeptTiles
from tlog.gossip.pool import Pool
from tlog.gossip.state import NoTrees
from tlog.gossip.state_directory import StateDirectory
from tlog.merkle import leaf_hash
from tlog.monitor.alert_book import JOURNAL_NAME, AlertBook, read_journal
from tlog.monitor.config import load_config as load_monitor_config
from tlog.monitor.config import parse_config as parse_monitor_config
from tlog.monitor.leaf_hash_file import LeafHashFile
from tlog.node.config import load_config as load_node_config
from tlog.node.config import parse_config as parse_node_config
from tlog.node.shown_file import ShownFile
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.export import Export
from tlog.tile_source.trust import LogKey
from tlog.tile_source.verified import VerifiedTiles
from tlog.witness.config import load_witness_config, parse_witness_config

VKEY = signer("log.example").vkey
CONFIGS = {
    "server": (
        parse_server_config,
        load_server_config,
        '[log]\nstore_path = "store"\nkey_path = "log.key"\n[grpc]\nport = 0\n'
        "[limits]\nmax_queued_entries = 10\n[witnesses]\ntimeout_s = 5.0\n"
        '[gossip]\nenabled = true\nstate_path = "gossip"\n',
    ),
    "witness": (
        parse_witness_config,
        load_witness_config,
        '[witness]\nstore_path = "store"\nkey_paths = ["witness.key"]\n[http]\nport = 1\n'
        f'[[log]]\norigin = "log.example"\nvkeys = ["{VKEY}"]\n',
    ),
    "monitor": (
        parse_monitor_config,
        load_monitor_config,
        '[log]\nserver = "[::1]:8650"\ngenesis = "%s"\n[limits]\nlag_s = 10.0\n[alerts]\ncommand = ["a"]\n'
        'webhook_url = "https://a.example/b"\n[watch]\nbusiness_keys = ["invoice:1"]\n' % ("0" * 64),
    ),
    "node": (
        parse_node_config,
        load_node_config,
        '[gossip]\npeers = ["a.example:1"]\nround_s = 1.5\n[[log]]\norigin = "o"\ntiles = "https://a.example/t"\n',
    ),
}
TOML_NASTY = (
    b"a = " + b"[" * 20_000,
    b"a." * 500 + b"a = 1",
    b"a = " + b"9" * 60_000,
    b"[a]\n" * 2,
    b'a = "\\ud800"',
    b"a = 1e9999",
    b"a = nan",
    b'a = """' + b"\\" * 60_000,
    b"\xff",
    b'[log]\nserver = "' + b"a." * 20_000 + b':1"\n',
    b'[alerts]\nwebhook_url = "http://' + b"a." * 1_900 + b'"\n[log]\nserver = "a:1"\n',
    b'[node]\n[[log]]\norigin = "o"\ntiles = "http://' + b"1:" * 1_900 + b'"\n',
)


@cache
def scratch(name: str) -> Path:
    """A folder for one target in this process."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_root()))


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="tlog-fuzz-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def write(name: str, data: bytes, *, mode: int = 0o600) -> Path:
    """Write a file anew in the target's folder."""
    path = scratch(name.partition("/")[0]) / Path(name).name
    path.write_bytes(data)
    path.chmod(mode)
    return path


def _config(name: str) -> Callable[[bytes], None]:
    parse, load, _ = CONFIGS[name]

    def run(data: bytes) -> None:
        path = write(f"config-{name}/config.toml", data)
        failed: ConfigError | None = None
        try:
            parse(text_of(data))
        except ConfigError as error:
            failed = error
        load(path)
        if failed is not None and b"\r" not in data:
            raise AssertionError(f"what a file may hold, a text may not: {failed}")

    return run


_MANIFEST = format_manifest(
    Manifest(
        origin="log.example",
        vkey=VKEY,
        tree_size=9,
        published=b"log.example\n9\n",
        is_frozen=True,
        previous_size=4,
        taken_s=1,
    )
)


def _manifest(data: bytes) -> None:
    manifest = parse_manifest(data)
    assert parse_manifest(format_manifest(manifest)) == manifest


def _member_key(data: bytes) -> None:
    parse_member_key(str(write("member-key/a.vkey", data)))


def _member(data: bytes) -> None:
    member = load_member(write("member/member.json", data), "bank")
    assert all(len(one.public_key) == 32 for one in member.keys)


def _rules(data: bytes) -> None:
    load_rules(write("rules/rules.json", data))


def _event_input(data: bytes) -> None:
    for record in read_records([write("event-input/events.json", data)]):
        if record.payload is not None:
            sign_event(record.payload, ALLIANCE.origin, [key("exporter")])


def _leaf_hashes(data: bytes) -> None:
    LeafHashFile(write("leaf-hash-file/own", data))(bytes(32))


def _shown(data: bytes) -> None:
    view = ShownFile(write("shown-file/shown.json", data)).load()
    assert view.largest_size >= 0


def _journal(data: bytes) -> None:
    directory = write(f"alert-journal/{JOURNAL_NAME}", data).parent
    list(read_journal(directory))
    book = AlertBook(directory, sinks=["a"])
    try:
        assert sum(book.counts.values()) >= 0
    finally:
        book.close()


def _checkpoint_file(data: bytes) -> None:
    CheckpointFile(write("checkpoint-file/trusted", data), LOG.name).load()


def _told(data: bytes) -> None:
    for path in scratch("told-checkpoint").iterdir():
        path.unlink()
    directory = scratch("told-checkpoint")
    (directory / "told").write_bytes(data)
    ToldCheckpoint(directory, POLICY)


def _state_directory(data: bytes) -> None:
    """The first byte says as what the rest lies there: the newest checkpoint, or one in doubt."""
    directory = scratch("state-directory")
    shutil.rmtree(directory)
    state = StateDirectory(directory, POLICY)
    log = directory / "logs" / hashlib.sha256(LOG.name.encode()).hexdigest()
    log.mkdir(parents=True)
    (log / ("unproven-0" if data[:1] == b"u" else "newest")).write_bytes(data[1:])
    Pool(POLICY, state, NoTrees())


def _evidence_store(data: bytes) -> None:
    """The name is right, so that the content is what is looked at."""
    directory = scratch("evidence-store")
    shutil.rmtree(directory)
    directory.mkdir()
    kind = data[:200].split(b"\n")[1:2]
    word = kind[0].decode("latin-1").split(" ")[-1] if kind else "sizes"
    if word not in {"same-size", "sizes", "empty", "leaf", "rule"}:
        word = "sizes"
    (directory / f"{word}-{hashlib.sha256(data).hexdigest()}.evidence").write_bytes(data)
    store = EvidenceStore(directory, POLICY)
    assert len(store.pieces()) <= 1
    store.is_convicted(LOG.name)


def _kept_tiles(data: bytes) -> None:
    """A length of 2 bytes and a checkpoint of that length, then the hashes of the leaves."""
    directory = scratch("kept-tiles")
    shutil.rmtree(directory)
    directory.mkdir()
    length = int.from_bytes(data[:2], "big")
    (directory / "checkpoint").write_bytes(data[2 : 2 + length])
    (directory / "level-0").write_bytes(data[2 + length :])
    kept = KeptTiles(directory, POLICY)
    kept.close()


EXPORTED = ("checkpoint", "tile/0/000.p/5", "tile/entries/000.p/5")
EXPORT_ENTRIES = tuple(b"entry %d" % number for number in range(5))


@cache
def _export_resources() -> dict[str, bytes]:
    return resources(EXPORT_ENTRIES)


def _export_folder(data: bytes) -> None:
    """The first byte chooses a file of an exported folder, and the rest is what lies there."""
    directory = scratch("export-folder")
    folder, copy = directory / "folder", directory / "copy"
    for path in (folder, copy):
        shutil.rmtree(path, ignore_errors=True)
    chosen = EXPORTED[data[0] % 3 if data else 0]
    for name, content in _export_resources().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data[1:] if name == chosen else content)
    trust = LogKey.from_vkey(TILES_SIGNER.vkey, TILES_ORIGIN)
    source = DirectoryTileSource(path=folder)
    tiles = VerifiedTiles(source, trust.open(source.checkpoint()))
    leaves = list(tiles.leaves(0, tiles.tree_size, entries=True))
    assert [entry for part in leaves for entry in part.entries or ()] == list(EXPORT_ENTRIES)[
        : tiles.tree_size
    ]
    with ExitStack() as stack:
        stack.enter_context(Export.begin(source, trust.open, copy)).run()


def _configs() -> list[Target]:
    return [
        # Short: they are the operator's own, and tomllib takes quadratic time for a name of many dots.
        Target(
            name=f"config-{name}",
            run=_config(name),
            seeds=(seed.encode(),),
            allowed=(ConfigError,),
            nasty=TOML_NASTY,
            max_bytes=4_096,
            weight=4,
        )
        for name, (_, _, seed) in CONFIGS.items()
    ]


@cache
def file_targets() -> tuple[Target, ...]:
    """Every parser of a file."""
    one, _ = trees()
    event = {
        "id": "1",
        "source": ALLIANCE.source("exporter"),
        "type": "trade.invoice.issued.v1",
        "subject": "s",
        "time": "2025-11-03T09:12:44Z",
    }
    line = json.dumps(event).encode()
    hashes = b"".join(one.leaf_hash(index) for index in range(4))
    note = one.note(4)
    journal = (
        b'{"alert":{"id":"a","kind":"silence","severity":"critical","time_s":1.5,"evidence":null},"sinks":["a"]}\n'
        b'{"delivered":"a","sink":"a"}\n'
    )
    every = (
        make_target("member-key", _member_key, [f"{LOG.vkey}\n".encode()], ConfigError),
        make_target(
            "member",
            _member,
            [
                b'{"id":"bank","name":"Bank","sources":["urn:bank"],"roles":["bank"],"keys":[{"public_key":"'
                + b"0a" * 32
                + b'","revoked":false}]}'
            ],
            ConfigError,
            nasty=JSON_NASTY,
        ),
        make_target(
            "rules",
            _rules,
            [b'{"roles":{"bank":["trade.claim.reserved.v1"]},"signature_counts":{},"checks_version":1}'],
            ConfigError,
            nasty=JSON_NASTY,
        ),
        make_target(
            "event-input",
            _event_input,
            [line, b"[" + line + b"," + line + b"]", line + b"\n\n" + line + b"\n"],
            ConfigError,
            MalformedError,
            RefusedError,
            nasty=JSON_NASTY,
        ),
        make_target("backup-manifest", _manifest, [_MANIFEST], MalformedError, nasty=JSON_NASTY),
        make_target("leaf-hash-file", _leaf_hashes, [leaf_hash(b"x").hex().encode() + b"\n"], ConfigError),
        make_target(
            "shown-file",
            _shown,
            [b'{"largest_size":5,"awaited_size":7,"awaited_since_s":1.5,"stale_since_s":null}\n'],
            nasty=[*JSON_NASTY, b'{"largest_size":-1,"awaited_since_s":1e308}', b'{"awaited_since_s":[]}'],
        ),
        make_target(
            "alert-journal", _journal, [journal], CorruptionError, nasty=[b"\n" * 100, b"{}\n" * 9_000]
        ),
        make_target("checkpoint-file", _checkpoint_file, [note], CorruptionError, ConfigError),
        make_target("told-checkpoint", _told, [note], CorruptionError),
        make_target(
            "state-directory",
            _state_directory,
            [b"n" + note, b"u" + note],
            CorruptionError,
            nasty=[b"n" + b"x" * 100_001],
        ),
        make_target("evidence-store", _evidence_store, evidence_seeds(), CorruptionError),
        make_target(
            "kept-tiles",
            _kept_tiles,
            [len(note).to_bytes(2, "big") + note + hashes],
            CorruptionError,
            StorageError,
        ),
        make_target(
            "export-folder",
            _export_folder,
            [bytes([at]) + _export_resources()[name] for at, name in enumerate(EXPORTED)],
            MalformedError,
            VerificationError,
            NotFoundError,
            RemoteError,
            StorageError,
        ),
    )
    weighted = [replace(target, weight=10 if target.name == "export-folder" else 4) for target in every]
    return (*_configs(), *weighted)
