"""`tlog init`: a directory with everything that one log needs, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.key_pair import VKEY_SUFFIX
from tlog.cli.keygen import generate_cosigner, generate_signer
from tlog.cli.new_directory import new_directory, write_durably
from tlog.cli.options import JsonOption
from tlog.cli.report import say, say_document, say_facts
from tlog.cli.rules import catalogue_rules
from tlog.cli.serve import CONFIG_NAME
from tlog.cosignature import CosignatureSigner
from tlog.errors import ConfigError, MalformedError, StorageError
from tlog.key_file import write_key_file
from tlog.note import Signer

KEY_NAME = "log.key"
COSIGNER_KEY_NAME = "cosigner.key"
COSIGNER_NAME = "log-cosigner"
STORE_NAME = "store"
MARK_NAME = "high-water.mark"
POLICY_NAME = "policy"
GOVERNANCE_NAME = "governance"

CONFIG_TEXT = """\
# What `tlog serve` runs with. Paths are relative to this file. Every line that is commented out shows the
# default; a name that is unknown, or a value out of range, is refused. docs/operations.md explains them all.

[log]
store_path = "store"
key_path = "log.key"
# For encrypted key files (`tlog key encrypt`): the descriptor that their passphrase is read from, once.
# key_passphrase_fd = -1
# Instead of key_path: the Unix socket of a `tlog signer` that holds the key.
# signer_socket = ""
# signer_cosigns = false
# signer_timeout_s = 2.0
# The log's own cosignature key: its time on every published checkpoint says "not later than".
cosigner_key_path = "cosigner.key"

[grpc]
# Plaintext on loopback; [tls] below lets it be reached from elsewhere.
# listen_address = "127.0.0.1"
# port = 8650
# reflection = false
# max_concurrent_calls = 1024
# max_concurrent_streams = 256
# max_connections = 2000
# idle_timeout_s = 300.0
# stop_timeout_s = 10.0

[server]
# Processes that answer calls and check signatures; 0: the one that writes does that as well.
# workers = 0

[metrics]
# enabled = true
# listen_address = "127.0.0.1"
# port = 8651

[tiles]
# The whole log as static resources (C2SP tlog-tiles), for any client and any cache.
# enabled = true
# listen_address = "127.0.0.1"
# port = 8652

[witnesses]
# Who has to cosign before anything is published; the log's own cosigner is none of them.
# policy_path = ""
# timeout_s = 5.0
# refresh_s = 60.0

[gossip]
# enabled = true
# state_path = "gossip"
# Members' nodes ("host:port") that are asked at every start what this log signed last.
# nodes = []

[limits]
# max_queued_entries = 20000
# max_queued_bytes = 67108864
# max_queue_s = 5.0
# max_commit_entries = 4000

[scrub]
# Everything that is stored is looked at, over and over, at this rate.
# enabled = true
# entries_per_s = 1000.0

[tracing]
# Traces of appends, to a collector of OpenTelemetry (the extra `otel`): http://127.0.0.1:4317. Empty: none.
# otlp_endpoint = ""
# sample_ratio = 0.01
# service_name = "tlog"

[quotas]
# What one member, and one caller before anything is verified, may bring; the membership goes first.
# member_events_per_s = 2000.0
# member_bytes_per_s = 8388608.0
# member_burst_events = 4000
# member_outstanding_events = 4000
# caller_events_per_s = 4000.0
# caller_bytes_per_s = 16777216.0
# caller_burst_events = 8000
# caller_outstanding_events = 4000
# caller_calls_per_s = 400
# caller_concurrent_calls = 512
# send_timeout_s = 30.0

[logging]
# format = "text"
# calls = "none"

[access]
# Who may read: "public", "members" (by certificate), or a list of roles, such as ["bank", "customs"].
# read = "public"

[tls]
# What gRPC, metrics and tiles are served with; a renewed certificate is used without a restart.
# certificate_path = ""
# key_path = ""
# client_ca_path = ""
# allow_plaintext_on_network = false

[client_tls]
# How witnesses are called, where they are behind an authority of your own, or ask who calls.
# ca_path = ""
# certificate_path = ""
# key_path = ""

[store]
# The newest commit, by which an old copy of the store is told from the newest: outside the store's directory,
# never in the same backup, and better on another disk.
high_water_mark_path = "high-water.mark"
# map_size_bytes = 1073741824
# What of the disk stays free: before that, appends are refused, and reading goes on.
# min_free_bytes = 268435456

[health]
# From when on the server says that it is not ready; 0: five times [witnesses] refresh_s.
# max_checkpoint_age_s = 0.0
# max_commit_s = 30.0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLog:
    """Says what was made: public facts only."""

    origin: str
    vkey: str
    cosigner_vkey: str
    genesis_leaf_hash: bytes
    governance_vkeys: tuple[str, ...]
    threshold: int
    tree_size: int
    root_hash: bytes


def init(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty directory.")],
    origin: Annotated[
        str,
        typer.Option(
            "--origin", help="The log's name for ever, such as log.example.org/alliance (no scheme)."
        ),
    ],
    governance_keys: Annotated[
        int, typer.Option("--governance-keys", min=1, max=16, help="How many governance keys to make.")
    ] = 3,
    threshold: Annotated[
        int, typer.Option("--threshold", min=1, max=16, help="How many of them must sign a change.")
    ] = 2,
    mark_directory: Annotated[
        Path | None,
        typer.Option(
            "--mark-directory",
            metavar="DIR",
            help="Where the high-water mark is kept, best on another disk; without it, beside the store.",
        ),
    ] = None,
    no_rules: Annotated[
        bool, typer.Option("--no-rules", help="Leave out the rules of the trade catalogue.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a log: keys, policy, configuration, and a store with its genesis."""
    if threshold > governance_keys:
        raise ConfigError(f"--threshold {threshold} is above --governance-keys {governance_keys}: lower it")
    mark_path = None if mark_directory is None else _mark_path(mark_directory)
    with _new_mark(mark_path), new_directory(directory) as building:
        made = _build(building, origin, governance_keys, threshold, mark_path, with_rules=not no_rules)
    shown_mark = directory / MARK_NAME if mark_path is None else mark_path
    if as_json:
        say_document(
            {
                "origin": made.origin,
                "vkey": made.vkey,
                "cosigner_vkey": made.cosigner_vkey,
                "genesis_leaf_hash": made.genesis_leaf_hash.hex(),
                "governance_vkeys": made.governance_vkeys,
                "threshold": made.threshold,
                "tree_size": made.tree_size,
                "root_hash": made.root_hash.hex(),
                "directory": str(directory),
                "policy": str(directory / POLICY_NAME),
                "config": str(directory / CONFIG_NAME),
                "high_water_mark": str(shown_mark),
            }
        )
        return
    say_facts(
        {
            "origin": made.origin,
            "vkey": made.vkey,
            "cosigner": f"{made.cosigner_vkey} (the log's own: says when, and is no witness)",
            "genesis": f"{made.genesis_leaf_hash.hex()} (leaf hash of entry 0: members pin it)",
            "log key": f"{directory / KEY_NAME} (secret)",
            "its cosigner": f"{directory / COSIGNER_KEY_NAME} (secret)",
            "governance": f"{directory / GOVERNANCE_NAME}/1.key … {governance_keys}.key (secret), "
            f"{threshold} must sign",
            "policy": f"{directory / POLICY_NAME} (give it to members)",
            "store": f"{directory / STORE_NAME}, {made.tree_size} entries",
            "its mark": f"{shown_mark} (never into the store's backup"
            + ("; better on another disk: --mark-directory)" if mark_path is None else ")"),
        }
    )
    say()
    say("Next:")
    say(f"  tlog serve {directory}")
    say("  tlog keygen member.example --out member.key       # each member, at home")
    say("  tlog member add ID --name NAME --source URI --role ROLE --key member.key.vkey \\")
    signing = " ".join(f"--sign {directory / GOVERNANCE_NAME / f'{n}.key'}" for n in range(1, threshold + 1))
    say(f"    --policy {directory / POLICY_NAME} {signing}")
    say("  Then hand the governance keys to different people, and take them off this machine.")
    say()
    say("Policies that name witnesses name the log's own cosigner too, and leave it out of every quorum:")
    say(f"  {policy_line(made.cosigner_vkey)}")


def _mark_path(directory: Path) -> Path:
    """Return where a mark is made in a directory that is there, and that holds none."""
    path = directory.absolute() / MARK_NAME
    if not directory.is_dir():
        raise ConfigError(f"--mark-directory {directory} is not a directory: make it first")
    return path


@contextmanager
def _new_mark(path: Path | None) -> Iterator[None]:
    """Make an empty file for a mark outside of the log's directory; it goes when the block does not end well.

    Raises ConfigError when it is there, StorageError when it cannot be made.
    """
    if path is None:
        yield
        return
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError as error:
        raise ConfigError(
            f"{path} is there already, perhaps another log's: name a directory for this one"
        ) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _build(
    directory: Path,
    origin: str,
    key_count: int,
    threshold: int,
    mark_path: Path | None,
    *,
    with_rules: bool,
) -> NewLog:
    # Imported here: a usage error needs no store.
    from tlog.envelope import sign_entry
    from tlog.governance import build_genesis, build_rules
    from tlog.log import Log
    from tlog.merkle import leaf_hash
    from tlog.storage.high_water_mark import HighWaterMarkFile, Mark

    signer = generate_signer(origin, "--origin")
    cosigner = generate_cosigner(origin, "--origin")
    # Without the origin in it: a name has at most 255 bytes, and an origin may have them all.
    governors = [generate_signer(f"governance-{n}", "--origin") for n in range(1, key_count + 1)]
    time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        genesis = build_genesis(
            origin=origin,
            time=time,
            log_vkeys=[signer.vkey],
            governance_keys=[governor.public_key for governor in governors],
            threshold=threshold,
        )
    except MalformedError as error:
        raise ConfigError(f"--origin cannot be used: {error}") from error
    entries = [sign_entry(genesis, governors[:threshold])]
    genesis_leaf_hash = leaf_hash(entries[0])
    if with_rules:
        rules = build_rules(
            origin=origin, time=time, seq=1, prev=genesis_leaf_hash.hex(), rules=catalogue_rules()
        )
        entries.append(sign_entry(rules, governors[:threshold]))

    (directory / GOVERNANCE_NAME).mkdir(mode=0o700)
    keys: dict[str, Signer | CosignatureSigner] = {KEY_NAME: signer, COSIGNER_KEY_NAME: cosigner}
    keys |= {f"{GOVERNANCE_NAME}/{n}.key": governor for n, governor in enumerate(governors, start=1)}
    for name, key in keys.items():
        write_key_file(directory / name, key)
        # What changes of keys are asked with, also when the secret half is elsewhere, or lost.
        write_durably(directory / f"{name}{VKEY_SUFFIX}", f"{key.vkey}\n".encode())
    write_durably(directory / POLICY_NAME, policy_text(signer.vkey, cosigner.vkey).encode())
    write_durably(directory / CONFIG_NAME, _config_text(mark_path).encode())
    with Log.create(directory / STORE_NAME, signer) as log:
        checkpoint = log.append(entries).checkpoint.checkpoint
    with HighWaterMarkFile(mark_path or directory / MARK_NAME, origin) as mark:
        mark.write(Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash))
    return NewLog(
        origin=origin,
        vkey=signer.vkey,
        cosigner_vkey=cosigner.vkey,
        genesis_leaf_hash=genesis_leaf_hash,
        governance_vkeys=tuple(governor.vkey for governor in governors),
        threshold=threshold,
        tree_size=checkpoint.tree_size,
        root_hash=checkpoint.root_hash,
    )


def _config_text(mark_path: Path | None) -> str:
    if mark_path is None:
        return CONFIG_TEXT
    # A string of JSON is one of TOML.
    return CONFIG_TEXT.replace(f'"{MARK_NAME}"', json.dumps(str(mark_path), ensure_ascii=False))


def policy_text(vkey: str, cosigner_vkey: str) -> str:
    """Write the policy that members get: this log, and its own cosigner, which no quorum counts."""
    return (
        f"log {vkey}\n"
        "# The log's own cosigner: it says when a checkpoint was there, and is no independent witness.\n"
        "# Leave it out of every group and quorum.\n"
        f"{policy_line(cosigner_vkey)}\n"
        "quorum none\n"
    )


def policy_line(cosigner_vkey: str) -> str:
    """Write the line by which a policy knows a log's own cosigner."""
    return f"witness {COSIGNER_NAME} {cosigner_vkey}"
