"""Puts a monitor together from its configuration: the one place that knows all the parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tlog.client.trusted_log import TrustedLog
from tlog.errors import ConfigError, MalformedError, StorageError
from tlog.event import check_business_key, check_source
from tlog.evidence_store import EvidenceStore
from tlog.monitor.alert_book import AlertBook
from tlog.monitor.alert_desk import AlertDesk
from tlog.monitor.config import Config, SinksSection, WatchSection
from tlog.monitor.cursor import Cursor
from tlog.monitor.grpc_source import GrpcSource
from tlog.monitor.health import Limits
from tlog.monitor.health_file import HealthFile
from tlog.monitor.leaf_hash_file import LeafHashFile
from tlog.monitor.monitor import Monitor, Settings
from tlog.monitor.sinks import CommandSink, JsonLinesSink, LogSink, Sink, WebhookSink
from tlog.monitor.source import LogSource
from tlog.monitor.tile_log_source import TileLogSource
from tlog.monitor.views import Views
from tlog.monitor.watches import BusinessKeyWatch, LossWatch, SourceWatch, Watch
from tlog.policy import MAX_POLICY_BYTES, Policy, parse_policy
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.trust import LogPolicy
from tlog.tls import read_client_tls
from tlog.trade.keys import SCHEMES, parse_business_key

MAX_THREADS = 8
CONVICTIONS_NAME = "convictions"
"""Where in the state directory evidence that convicts is kept, unless the configuration says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMonitor:
    """Holds a monitor that is ready to run, with the parts that outsiders look at."""

    monitor: Monitor
    desk: AlertDesk
    cursor: Cursor


@contextmanager
def open_monitor(
    config: Config,
    *,
    clock: Callable[[], float],
    write: Callable[[str], None],
    also_keep_in: Path | None = None,
    on_conviction: Callable[[], None] = lambda: None,
) -> Iterator[OpenMonitor]:
    """Open everything that a configuration names, for the block; `write` gets the lines of the log sink.

    What convicts is kept in `also_keep_in` as well; `on_conviction` is called when it is there.

    Raises ConfigError, NotFoundError when the state directory was not made yet (`create_state`),
    StoreInUseError when another monitor runs on it, CorruptionError and StorageError.
    """
    policy, origin = load_policy(config)
    directory = Path(config.monitor.state_path)
    watches = make_watches(config.watch)
    sinks = make_sinks(config.alerts, write)
    with ExitStack() as stack:
        cursor = Cursor.open(directory, origin, keeps_entries=config.monitor.mirror)
        stack.callback(cursor.close)
        views = Views(policy, cursor, directory)
        book = AlertBook(directory, sinks=[sink.name for sink in sinks])
        source = make_source(config, views.policy, origin)
        stack.callback(source.close)
        count = config.monitor.threads or min(len(os.sched_getaffinity(0)), MAX_THREADS)
        threads = stack.enter_context(ThreadPoolExecutor(count, "verify"))
        kept_in = [Path(config.alerts.convictions_path or directory / CONVICTIONS_NAME)]
        if also_keep_in is not None:
            kept_in.append(also_keep_in)
        desk = stack.enter_context(
            AlertDesk(
                book,
                sinks,
                clock,
                convictions=[EvidenceStore(path, policy) for path in kept_in],
                on_conviction=on_conviction,
            )
        )
        monitor = Monitor(
            source=source,
            cursor=cursor,
            views=views,
            desk=desk,
            health_file=HealthFile(directory),
            threads=threads,
            clock=clock,
            settings=Settings(
                genesis_leaf_hash=config.genesis_leaf_hash,
                limits=Limits(
                    silence_s=config.limits.silence_s,
                    lag_s=config.limits.lag_s,
                    witness_s=config.limits.witness_s,
                    source_s=config.limits.source_s,
                ),
                watches=watches,
                poll_s=config.monitor.poll_s,
            ),
        )
        yield OpenMonitor(monitor=monitor, desk=desk, cursor=cursor)


def create_state(config: Config) -> None:
    """Make the state directory of a monitor that has checked nothing. Raises ConfigError, StorageError."""
    _, origin = load_policy(config)
    directory = Path(config.monitor.state_path)
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise StorageError(f"{directory} cannot be made: {error.strerror}") from error
    Cursor.create(directory, origin, keeps_entries=config.monitor.mirror).close()


def load_policy(config: Config) -> tuple[Policy, str]:
    """Read the policy file; returns it with the origin of the log that is followed. Raises ConfigError."""
    path = Path(config.log.policy_path)
    try:
        with path.open("rb") as file:
            policy = parse_policy(file.read(MAX_POLICY_BYTES + 1))
    except (OSError, MalformedError) as error:
        raise ConfigError(f"the policy {path} cannot be used: {error}") from error
    return policy, TrustedLog.for_origin(policy, config.log.origin).origin


def make_source(config: Config, policy: Policy, origin: str) -> LogSource:
    """Make what the log is read from. Raises ConfigError."""
    tls = read_client_tls(config.client_tls)
    if config.log.server is not None:
        return GrpcSource(config.log.server, timeout_s=config.log.timeout_s, tls=tls)
    tiles = config.log.tiles
    assert tiles is not None
    trust = LogPolicy(policy=policy, origin=origin)
    if "://" in tiles:
        from tlog.tile_source.http import HttpTileSource  # and with it an HTTP client: a fifth of a start

        http = HttpTileSource(tiles, timeout_s=config.log.timeout_s, tls=tls)
        return TileLogSource(http, trust, close=http.close)
    return TileLogSource(DirectoryTileSource(path=Path(tiles)), trust)


def make_watches(section: WatchSection) -> Sequence[Watch]:
    """Make the watches, and the one that everybody has.

    Raises ConfigError, also for what no event can ever match, and StorageError for a list of leaf hashes that
    cannot be read.
    """
    _check_watches(section)
    watches: list[Watch] = [LossWatch()]
    watches += [
        SourceWatch(
            source=own.source.removesuffix("/"),
            public_keys=frozenset(bytes.fromhex(key) for key in own.keys),
            is_ours=None if own.leaf_hashes_path is None else LeafHashFile(Path(own.leaf_hashes_path)),
        )
        for own in section.own_sources
    ]
    if section.business_keys:
        watches.append(BusinessKeyWatch(business_keys=frozenset(section.business_keys)))
    return watches


def _check_watches(section: WatchSection) -> None:
    try:
        for business_key in section.business_keys:
            check_business_key(business_key)
            if business_key.partition(":")[0] in SCHEMES:
                parse_business_key(business_key)
        for own in section.own_sources:
            # What lies below a source counts as well, so that its own last `/` would never be matched.
            check_source(own.source.removesuffix("/"))
    except MalformedError as error:
        raise ConfigError(f"[watch] has what no event can match: {error}") from error


def make_sinks(section: SinksSection, write: Callable[[str], None]) -> Sequence[Sink]:
    """Make the sinks that are configured."""
    sinks: list[Sink] = []
    if section.log:
        sinks.append(LogSink(write=write))
    if section.jsonl_path is not None:
        sinks.append(JsonLinesSink(path=Path(section.jsonl_path)))
    if section.command is not None:
        sinks.append(CommandSink(command=section.command, timeout_s=section.command_timeout_s))
    if section.webhook_url is not None:
        sinks.append(WebhookSink(url=section.webhook_url, timeout_s=section.webhook_timeout_s))
    return sinks
