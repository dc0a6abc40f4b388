"""A witness's configuration: one TOML file, taken whole or refused whole.

Unknown names, wrong types and values out of range are errors that name the place. Paths are relative to the
file's own directory. Each `[[log]]` table is one log, or further keys of a log that stands above it already.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, field

from tlog.checkpoint import Checkpoint
from tlog.config_file import (
    Address,
    FilePath,
    FilePathOrNone,
    Port,
    Section,
    Text,
    decode_config,
    read_config,
)
from tlog.cosignature import CosignerVerifier
from tlog.encoding import shown
from tlog.errors import ConfigError, MalformedError
from tlog.merkle import EMPTY_ROOT
from tlog.note import Verifier
from tlog.policy import build_policy
from tlog.tls_config import TlsSection
from tlog.witness.core import WitnessedLog

MAX_ORIGIN_BYTES = 255
"""The longest origin of a witnessed log: an ML-DSA-44 cosignature has no room for a longer one."""

Seconds = Annotated[float, Meta(gt=0, le=3_600)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class WitnessSection(Section, frozen=True, kw_only=True):
    """Says which witness this is."""

    store_path: FilePath
    """Directory of the records. It is made by `tlog witness init`, and never again: see docs/witness.md."""
    key_paths: Annotated[tuple[FilePath, ...], Meta(max_length=16)] = ()
    """Files of the cosignature keys (types 0x04 and 0x06), mode 0600, encrypted or not; all of them sign."""
    key_passphrase_fd: Annotated[int, Meta(ge=-1, le=1_000_000)] = -1
    """File descriptor with the passphrase of encrypted key files, read once at the start; -1: none."""
    signer_socket: FilePathOrNone = ""
    """Unix socket of a `tlog signer` that holds one cosignature key, instead of key_paths or beside them."""
    evidence_path: FilePath = "evidence"
    """Directory for evidence against logs that signed two histories; made when there is any."""


class HttpSection(Section, frozen=True, kw_only=True):
    """Says where HTTP is served, and how patient it is."""

    listen_address: Address = "127.0.0.1"
    port: Port = 8653
    """0 lets the system choose; the witness prints what it chose."""
    max_connections: Count = 500
    read_timeout_s: Seconds = 10.0
    """How long the body of a request may take."""
    idle_timeout_s: Seconds = 30.0
    """How long a connection may take until the head of its next request is complete."""
    stop_timeout_s: Seconds = 10.0


class LogTable(Section, frozen=True, kw_only=True):
    """Names a log, and keys of it."""

    origin: Text
    vkeys: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=16)]


class WitnessConfig(Section, frozen=True, kw_only=True):
    """Holds everything that `tlog witness serve` can be told."""

    witness: WitnessSection
    http: HttpSection = field(default_factory=HttpSection)
    tls: TlsSection = field(default_factory=TlsSection)
    log: tuple[LogTable, ...] = ()


def parse_witness_config(text: str) -> WitnessConfig:
    """Parse a configuration, its logs included. Raises ConfigError, which names what is wrong."""
    config = decode_config(
        text, WitnessConfig, what="the witness's configuration", documented_in="docs/witness.md"
    )
    witnessed_logs(config.log)
    config.tls.require_complete()
    config.tls.require_safe(config.http.listen_address, "[http]")
    if not config.witness.key_paths and not config.witness.signer_socket:
        raise ConfigError(
            "the witness's configuration is refused: $.witness.key_paths names no key file, and "
            "$.witness.signer_socket no `tlog signer`: give one of them"
        )
    return config


def load_witness_config(path: Path) -> WitnessConfig:
    """Read and parse a configuration file, and make its paths absolute. Raises ConfigError."""
    config = parse_witness_config(read_config(path))
    base = path.resolve().parent
    return msgspec.structs.replace(
        config,
        witness=msgspec.structs.replace(
            config.witness,
            store_path=str(base / config.witness.store_path),
            key_paths=tuple(str(base / key_path) for key_path in config.witness.key_paths),
            evidence_path=str(base / config.witness.evidence_path),
            signer_socket=str(base / config.witness.signer_socket) if config.witness.signer_socket else "",
        ),
        tls=config.tls.absolute(base),
    )


def witnessed_logs(tables: Iterable[LogTable]) -> tuple[WitnessedLog, ...]:
    """Make the logs of their tables: the keys of tables with one origin are put together.

    Raises ConfigError for a key that cannot be used, one that is listed twice, or an origin that is too long.
    """
    verifiers: dict[str, dict[str, Verifier | CosignerVerifier]] = {}
    for table in tables:
        _check_origin(table.origin)
        known = verifiers.setdefault(table.origin, {})
        for vkey in table.vkeys:
            if vkey in known:
                raise ConfigError(f"the log {table.origin!a} is listed twice with the key {vkey!a}")
            try:
                known[vkey] = build_policy([vkey]).logs[0].verifier
            except MalformedError as error:
                raise ConfigError(f"a key of the log {table.origin!a} cannot be used: {error}") from error
    return tuple(
        WitnessedLog(origin=origin, verifiers=tuple(known.values())) for origin, known in verifiers.items()
    )


def format_log_table(log: LogTable) -> str:
    """Format one `[[log]]` table; `parse_witness_config` reads the same back."""
    return f"\n[[log]]\norigin = {_quoted(log.origin)}\nvkeys = [{', '.join(map(_quoted, log.vkeys))}]\n"


def append_log(path: Path, log: LogTable) -> bool:
    """Add a log, or a key of one, to a configuration file; returns False when it is listed already.

    The file is replaced whole and durably. Raises ConfigError when file or log cannot be used.
    """
    with _exclusively(path.parent):
        text = read_config(path)
        config = parse_witness_config(text)
        known = {vkey for table in config.log if table.origin == log.origin for vkey in table.vkeys}
        vkeys = tuple(vkey for vkey in log.vkeys if vkey not in known)
        if not vkeys:
            return False
        log = LogTable(origin=log.origin, vkeys=vkeys)
        new_text = text + ("" if text.endswith("\n") else "\n") + format_log_table(log)
        if parse_witness_config(new_text).log != (*config.log, log):
            raise ConfigError(f"the log {log.origin!a} cannot be written into {path}: add it by hand")
        _replace(path, new_text.encode())
    return True


def _check_origin(origin: str) -> None:
    try:
        length = len(Checkpoint(origin, 0, EMPTY_ROOT).origin.encode())
    except MalformedError as error:
        raise ConfigError(f"a log's origin cannot be used: {error}") from error
    if length > MAX_ORIGIN_BYTES:
        raise ConfigError(
            f"the origin {shown(origin)} has {length} bytes; at most {MAX_ORIGIN_BYTES} can be cosigned"
        )


def _quoted(text: str) -> str:
    # TOML's basic strings are JSON's, but for DEL, and for escapes that only make sense in pairs.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _exclusively(directory: Path) -> Iterator[None]:
    """Let nobody else change the configuration in the meantime; makes the change durable at the end."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"the directory {directory} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
