"""Looks at a log's directory without a running server: what is wrong, and what to do about it.

`tlog doctor DIR` runs this program and shows what it finds. Nothing is changed, and no key leaves its file.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from server.config import Config, load_config
from tlog.cosigned import read_cosigned
from tlog.errors import ConfigError, StorageError, TlogError
from tlog.freshness import MAX_SKEW_S
from tlog.key_file import read_vkey_of
from tlog.log_view import LogView
from tlog.mark_check import check_mark
from tlog.note import open_note
from tlog.policy import Policy, parse_policy
from tlog.remote_signer import SignerLine, log_key_of
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.writer_lock import writer_pid

CONNECT_TIMEOUT_S = 3.0
CERTIFICATE_WARNING_S = 14 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Says what was looked at, whether it is well, what was found, and what to do where it is not."""

    check: str
    ok: bool
    found: str
    advice: str = ""


def examine(config_path: Path) -> Iterator[Finding]:
    """Look at everything that a configuration names; goes on past what is wrong."""
    try:
        config = load_config(config_path)
    except ConfigError as error:
        yield Finding(check="configuration", ok=False, found=str(error), advice="mend the configuration")
        return
    yield Finding(check="configuration", ok=True, found=f"{config_path} is taken whole")
    for look in (_keys, _signer, _store, _mark, _disk, _witnesses, _gossip, _certificates, _ports):
        yield from look(config)


def _keys(config: Config) -> Iterator[Finding]:
    for path in filter(None, (config.log.key_path, config.log.cosigner_key_path)):
        yield _tried("key", partial(_describe_key, Path(path)), "see the message (docs/operations.md)")


def _signer(config: Config) -> Iterator[Finding]:
    if config.log.signer_socket:
        advice = (
            "start it (`tlog signer serve`), or look at the forwarded socket; until then nothing is signed"
        )
        yield _tried("signer", partial(_describe_signer, config), advice)


def _describe_signer(config: Config) -> str:
    path = Path(config.log.signer_socket)
    with closing(SignerLine(path, timeout_s=config.log.signer_timeout_s)) as line:
        held = line.vkeys()
        origin = _origin(config)
        if origin is not None:
            log_key_of(line, origin)
        return f"{path} answers, and holds {', '.join(held)}"


def _origin(config: Config) -> str | None:
    """Return the origin that the store is bound to; None where it cannot be read, which is told elsewhere."""
    try:
        with closing(LmdbStore.open(Path(config.log.store_path), None, None, read_only=True)) as store:
            return store.origin
    except TlogError:
        return None


def _describe_key(path: Path) -> str:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ConfigError(f"{path} has mode {mode:04o}: others may have read it; rotate it, or chmod 600")
    vkey, is_encrypted = read_vkey_of(path)
    return f"{path} holds {vkey}" + (", encrypted" if is_encrypted else "")


def _store(config: Config) -> Iterator[Finding]:
    def describe() -> str:
        store = LmdbStore.open(Path(config.log.store_path), None, None, read_only=True)
        with closing(store), store.reader() as reader:
            view = LogView(reader)
            usage = store.usage()
            return (
                f"{store.origin} has {view.tree_size} entries, {view.published().tree_size} published; "
                f"{usage.used_bytes} of {usage.map_bytes} mapped bytes are used"
            )

    yield _tried("store", describe, "restore it from a backup, or name the directory that holds it")


def _mark(config: Config) -> Iterator[Finding]:
    advice = (
        "replay what is missing from a mirror (`tlog restore`); the server says what else there is to do "
        "when it is started (docs/operations.md, Restore)"
    )
    yield _tried("high-water mark", partial(_describe_mark, config), advice)
    path = config.store.high_water_mark_path
    if path and _are_on_one_device(Path(path), Path(config.log.store_path)):
        # No fault: a laptop has one disk. But whoever runs a log should know.
        found = (
            f"{path} lies on the same device as the store, and may be lost, or put back, with it; with the "
            "server stopped, move the file to another disk and set [store] high_water_mark_path "
            "(docs/operations.md, Restore)"
        )
        yield Finding(check="high-water mark's disk", ok=True, found=found)


def _are_on_one_device(mark: Path, store: Path) -> bool:
    try:
        return mark.stat().st_dev == store.stat().st_dev
    except OSError:
        return False  # what is missing is told elsewhere


def _describe_mark(config: Config) -> str:
    path = config.store.high_water_mark_path
    store = LmdbStore.open(Path(config.log.store_path), None, None, read_only=True)
    with closing(store):
        # Read first: a server that runs may move both on, and the store goes before its mark.
        mark = _read_mark(Path(path), store.origin) if path else None
        with store.reader() as reader:
            view = LogView(reader)
            if not path:
                if view.is_restored():
                    raise ConfigError(
                        "the store was made from a backup, and no high-water mark vouches for it"
                    )
                if view.is_marked():
                    raise ConfigError(
                        "one was kept of this log, and [store] high_water_mark_path names none: the server "
                        "signs nothing before it does"
                    )
                return "none is kept ([store] high_water_mark_path): an old copy looks like the newest"
            gap = check_mark(view, mark)
            if gap is not None and gap.lost is None:
                mark = _read_mark(Path(path), store.origin)
                is_ahead = mark is not None and mark.tree_size >= view.tree_size
                gap = None if is_ahead else check_mark(view, mark)
    if gap is not None:
        raise ConfigError(gap.reason)
    return f"{path} vouches for the store: {mark}"


def _read_mark(path: Path, origin: str) -> Mark | None:
    with HighWaterMarkFile(path, origin) as file:
        return file.mark


def _disk(config: Config) -> Iterator[Finding]:
    try:
        found = os.statvfs(config.log.store_path)
    except OSError as error:
        yield Finding(
            check="disk", ok=False, found=f"{config.log.store_path}: {error.strerror}", advice="make it"
        )
        return
    free_bytes, floor_bytes = found.f_bavail * found.f_frsize, config.store.min_free_bytes
    yield Finding(
        check="disk",
        ok=free_bytes > floor_bytes + 2**20,
        found=f"{free_bytes} bytes are free, and {floor_bytes} stay free ([store] min_free_bytes)",
        advice="make room: below the floor appends are refused",
    )


def _witnesses(config: Config) -> Iterator[Finding]:
    if not config.witnesses.policy_path:
        return
    try:
        policy = parse_policy(Path(config.witnesses.policy_path).read_bytes())
    except (OSError, TlogError) as error:
        yield Finding(check="witnesses", ok=False, found=str(error), advice="mend the policy file")
        return
    for witness in policy.witnesses:
        if witness.url is not None:
            yield _tried(
                "witness",
                partial(_reach, witness.url.decode()),
                "start it, or ask its operator; mind the firewall",
            )
    yield _tried("clock", partial(_clock, config, policy), "set this machine's clock by NTP")


def _reach(url: str) -> str:
    place = urlsplit(url)
    address = (place.hostname or "", place.port or (443 if place.scheme == "https" else 80))
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"nobody answers at {url}: {error}") from error
    return f"{url} answers"


def _clock(config: Config, policy: Policy) -> str:
    store = LmdbStore.open(Path(config.log.store_path), None, None, read_only=True)
    with closing(store), store.reader() as reader:
        note = LogView(reader).published().note
    times_s = [one.time_s for one in read_cosigned(open_note(note, policy.verifiers), policy)]
    if not times_s:
        return "nothing is cosigned yet, so there is nothing to hold the clock against"
    ahead_s = max(times_s) - time.time()
    if ahead_s > MAX_SKEW_S:
        raise ConfigError(f"the newest cosignature is {ahead_s:.0f} s ahead of this machine's clock")
    return f"the newest cosignature is {-ahead_s:.0f} s old by this machine's clock"


def _gossip(config: Config) -> Iterator[Finding]:
    state = Path(config.gossip.state_path)
    if config.gossip.enabled and state.exists():
        held = sum(1 for file in state.rglob("*") if file.is_file() and "evidence" in str(file))
        yield Finding(
            check="gossip",
            ok=os.access(state, os.W_OK),
            found=f"{state} holds {held} files of evidence",
            advice="let the server's user write there",
        )


def _certificates(config: Config) -> Iterator[Finding]:
    for path in filter(None, (config.tls.certificate_path, config.client_tls.certificate_path)):
        yield _tried("certificate", partial(_expiry, Path(path)), "renew it: it is taken up by itself")


def _expiry(path: Path) -> str:
    try:
        left_s = (
            x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp() - time.time()
        )
    except ValueError as error:
        raise ConfigError(f"{path} is no certificate: {error}") from error
    if left_s < CERTIFICATE_WARNING_S:
        raise ConfigError(f"{path} is valid for {max(0.0, left_s) / 86_400:.1f} days more")
    return f"{path} is valid for {left_s / 86_400:.0f} days more"


def _ports(config: Config) -> Iterator[Finding]:
    listeners = (
        ("grpc", config.grpc.listen_address, config.grpc.port),
        ("metrics", config.metrics.listen_address, config.metrics.port),
        ("tiles", config.tiles.listen_address, config.tiles.port),
    )
    for name, host, port in listeners:
        if port == 0:
            continue
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, port))
            found = f"[{name}] {host}:{port} is free: no server runs there"
            yield Finding(check="port", ok=True, found=found)
        except OSError as error:
            yield _refused_port(f"[{name}] {host}:{port}", error, writer_pid(Path(config.log.store_path)))


def _refused_port(place: str, error: OSError, server_pid: int | None) -> Finding:
    if error.errno != errno.EADDRINUSE:
        found = f"{place}: {error.strerror}"
        return Finding(check="port", ok=False, found=found, advice="set an address of this machine")
    if server_pid is None:
        return Finding(
            check="port",
            ok=False,
            found=f"{place} is taken by another program: no server writes to this log's store",
            advice="stop that program, or set another port",
        )
    return Finding(
        check="port", ok=True, found=f"{place} is in use: this log's server is process {server_pid}"
    )


def _tried(check: str, describe: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(check=check, ok=True, found=describe())
    except (TlogError, StorageError, OSError) as error:
        return Finding(check=check, ok=False, found=str(error), advice=advice)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found as one JSON document; returns 0 where all is well, else 1."""
    parser = argparse.ArgumentParser(prog="tlog-doctor", description="Run by `tlog doctor DIR`.")
    parser.add_argument("--config", type=Path, required=True)
    findings = list(examine(parser.parse_args(arguments).config))
    sys.stdout.write(json.dumps([asdict(finding) for finding in findings]) + "\n")
    return 0 if all(finding.ok for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
