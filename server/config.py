"""The configuration: one TOML file, taken whole or refused whole.

Unknown names, wrong types and values out of range are errors that name the place; nothing is guessed. Paths
are relative to the file's own directory, so that a log's directory can be moved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from tlog.config_file import (
    Address,
    FilePath,
    FilePathOrNone,
    HostPort,
    Port,
    Section,
    Text,
    decode_config,
    read_config,
)
from tlog.errors import ConfigError
from tlog.tls_config import ClientTlsSection, TlsSection

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1, le=2**46)]
Rate = Annotated[float, Meta(gt=0, le=1e12)]
Seconds = Annotated[float, Meta(gt=0, le=3_600)]


class LogSection(Section, frozen=True, kw_only=True):
    """Says which log this is."""

    store_path: FilePath
    """Directory of the LMDB store."""
    key_path: FilePathOrNone = ""
    """File with the log's signing key, mode 0600, encrypted or not; "": a signer holds it."""
    cosigner_key_path: FilePathOrNone = ""
    """File with the log's own cosignature key, whose time goes onto every published checkpoint; "": none."""
    key_passphrase_fd: Annotated[int, Meta(ge=-1, le=1_000_000)] = -1
    """File descriptor with the passphrase of encrypted key files, read once at the start; -1: none."""
    signer_socket: FilePathOrNone = ""
    """Unix socket of the `tlog signer` that holds the log's key, instead of key_path."""
    signer_cosigns: bool = False
    """Whether that signer holds the key of the log's own cosigner too."""
    signer_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """How long the signer may take for one signature."""


class GrpcSection(Section, frozen=True, kw_only=True):
    """Says where gRPC listens, and how much it takes."""

    listen_address: Address = "127.0.0.1"
    port: Port = 8650
    """0 lets the system choose; the server prints what it chose."""
    reflection: bool = False
    max_concurrent_calls: Count = 1_024
    """Unary calls under way; more are pushed back."""
    max_concurrent_streams: Count = 256
    """GetEntries and WatchCheckpoints streams under way; more are pushed back."""
    max_connections: Count = 2_000
    """Connections of one process; more are turned away."""
    idle_timeout_s: Seconds = 300.0
    """How long a connection may be without a call."""
    stop_timeout_s: Seconds = 10.0
    """How long a graceful stop waits for calls in flight."""


class HealthSection(Section, frozen=True, kw_only=True):
    """Says from when on health is NOT_SERVING, and `/readyz` 503."""

    max_checkpoint_age_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """Oldest published checkpoint, by the witnesses' quorum where there is one; 0: five times refresh_s."""
    max_commit_s: Seconds = 30.0
    """How long one commit may take."""


class ServerSection(Section, frozen=True, kw_only=True):
    """Says how many processes serve gRPC."""

    workers: Annotated[int, Meta(ge=0, le=64)] = 0
    """Processes that answer calls and check signatures; 0: the one that writes does that as well."""


class MetricsSection(Section, frozen=True, kw_only=True):
    """Says where Prometheus metrics are served over HTTP."""

    enabled: bool = True
    listen_address: Address = "127.0.0.1"
    port: Port = 8651


class TilesSection(Section, frozen=True, kw_only=True):
    """Says where the log is served as static resources over HTTP (C2SP tlog-tiles)."""

    enabled: bool = True
    listen_address: Address = "127.0.0.1"
    port: Port = 8652


class WitnessesSection(Section, frozen=True, kw_only=True):
    """Says who has to cosign a checkpoint before it is published; without a policy nobody."""

    policy_path: FilePathOrNone = ""
    """C2SP policy file with this log, its witnesses with their URLs, and the quorum; "": no witnesses."""
    timeout_s: Seconds = 5.0
    """How long one witness may take to answer."""
    refresh_s: Seconds = 60.0
    """How often the newest checkpoint is cosigned again when nothing is appended."""


class GossipSection(Section, frozen=True, kw_only=True):
    """Says whether members' nodes may compare with the log itself what they hold of it."""

    enabled: bool = True
    state_path: FilePath = "gossip"
    """Directory of the evidence that was heard; it is made if need be."""
    nodes: tuple[HostPort, ...] = ()
    """Members' nodes (host:port) that are asked at every start what this log signed last."""


class LimitsSection(Section, frozen=True, kw_only=True):
    """Bounds what may wait for the sequencer; what does not fit is pushed back with a delay."""

    max_queued_entries: Count = 20_000
    max_queued_bytes: Bytes = 64 * 2**20
    max_queue_s: Seconds = 5.0
    """How long the oldest Append may wait for its commit before new ones are pushed back."""
    max_commit_entries: Annotated[int, Meta(ge=1_000, le=100_000)] = 4_000
    """Most entries of one commit; at least one whole Append of 1,000."""


class QuotasSection(Section, frozen=True, kw_only=True):
    """Says how much one caller and one member may bring; what the membership says of a member goes first."""

    member_events_per_s: Rate = 2_000.0
    """Events that a member may append in the long run, where its membership says 0."""
    member_bytes_per_s: Rate = 8.0 * 2**20
    member_burst_events: Count = 4_000
    """Events at once; as many seconds' worth of bytes."""
    member_outstanding_events: Count = 4_000
    """Events between their verification and their commit."""
    caller_events_per_s: Rate = 4_000.0
    """Entries that a caller (certificate, else host) may send in the long run, before they are verified."""
    caller_bytes_per_s: Rate = 16.0 * 2**20
    caller_burst_events: Count = 8_000
    caller_outstanding_events: Count = 4_000
    """Entries of a caller's calls under way."""
    caller_calls_per_s: Rate = 400.0
    """Calls of any kind, those that are refused as well."""
    caller_concurrent_calls: Count = 512
    """Calls and streams of one caller under way."""
    send_timeout_s: Seconds = 30.0
    """How long a reader of a stream may take for one message, 128 KiB or so."""


class LoggingSection(Section, frozen=True, kw_only=True):
    """Says what is written to stderr, and how."""

    format: Literal["text", "json"] = "text"
    """`"json"`: one JSON object a line."""
    calls: Literal["none", "failed", "all"] = "none"
    """Which calls get a line each: request id, caller, member, code, duration."""


class TracingSection(Section, frozen=True, kw_only=True):
    """Says where traces of appends go; for it the extra `otel` has to be installed."""

    otlp_endpoint: str = ""
    """Collector of OpenTelemetry, by OTLP over gRPC, such as `http://127.0.0.1:4317`; "": no traces."""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Share of the calls that are traced whose caller says nothing about it."""
    service_name: Text = "tlog"


class AccessSection(Section, frozen=True, kw_only=True):
    """Says who may read, over gRPC and HTTP; who may append is decided by signatures and the membership."""

    read: Literal["public", "members"] | Annotated[tuple[Text, ...], Meta(min_length=1, max_length=64)] = (
        "public"
    )
    """`"public"`; `"members"`: active ones, by certificate; or a list: those who have one of these roles."""


class StoreSection(Section, frozen=True, kw_only=True):
    """Tunes the store."""

    map_size_bytes: Annotated[int, Meta(ge=2**20, le=2**46)] = 2**30
    """Address space that LMDB maps at first; it grows by itself."""
    min_free_bytes: Annotated[int, Meta(ge=0, le=2**46)] = 2**28
    """What of the disk stays free: appends that would take it are refused; 0: no floor."""
    high_water_mark_path: FilePathOrNone = ""
    """File outside the store's directory, best on another disk, with the newest commit; "": none."""


class ScrubSection(Section, frozen=True, kw_only=True):
    """Says how fast everything that is stored is looked at again, over and over."""

    enabled: bool = True
    entries_per_s: Annotated[float, Meta(gt=0, le=1_000_000)] = 1_000.0
    """Most entries a second; a round takes the tree's size divided by this."""


class Config(Section, frozen=True, kw_only=True):
    """Holds everything that `tlog serve` can be told."""

    log: LogSection
    server: ServerSection = field(default_factory=ServerSection)
    grpc: GrpcSection = field(default_factory=GrpcSection)
    health: HealthSection = field(default_factory=HealthSection)
    metrics: MetricsSection = field(default_factory=MetricsSection)
    tiles: TilesSection = field(default_factory=TilesSection)
    witnesses: WitnessesSection = field(default_factory=WitnessesSection)
    gossip: GossipSection = field(default_factory=GossipSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    store: StoreSection = field(default_factory=StoreSection)
    scrub: ScrubSection = field(default_factory=ScrubSection)
    quotas: QuotasSection = field(default_factory=QuotasSection)
    logging: LoggingSection = field(default_factory=LoggingSection)
    tracing: TracingSection = field(default_factory=TracingSection)
    access: AccessSection = field(default_factory=AccessSection)
    tls: TlsSection = field(default_factory=TlsSection)
    client_tls: ClientTlsSection = field(default_factory=ClientTlsSection)
    """How witnesses are called."""


def parse_config(text: str) -> Config:
    """Parse a configuration. Raises ConfigError, which names the table and key that is wrong."""
    config = decode_config(text, Config, what="the configuration", documented_in="docs/operations.md")
    _check_key_sources(config.log)
    config.tls.require_complete()
    if config.access.read != "public" and not config.tls.client_ca_path:
        raise ConfigError(
            "[access] read lets not everybody read, and nobody can tell who calls: set [tls] client_ca_path"
        )
    if config.gossip.nodes and not config.gossip.enabled:
        raise ConfigError(
            "[gossip] nodes are to be asked what this log signed last, and enabled = false keeps it from "
            "asking: set it to true, or take the nodes out"
        )
    config.tls.require_safe(config.grpc.listen_address, "[grpc]")
    if config.metrics.enabled:
        config.tls.require_safe(config.metrics.listen_address, "[metrics]")
    if config.tiles.enabled:
        config.tls.require_safe(config.tiles.listen_address, "[tiles]")
    return config


def _check_key_sources(log: LogSection) -> None:
    if bool(log.key_path) == bool(log.signer_socket):
        raise ConfigError(
            "the configuration is refused: the log's key is in a file ($.log.key_path) or with a `tlog "
            "signer` ($.log.signer_socket): give one of the two"
        )
    if log.signer_cosigns and (log.cosigner_key_path or not log.signer_socket):
        raise ConfigError(
            "the configuration is refused: $.log.signer_cosigns is for a signer that holds the cosigner's "
            "key too: give signer_socket, and leave cosigner_key_path out"
        )


def load_config(path: Path) -> Config:
    """Read and parse a configuration file, and make its paths absolute. Raises ConfigError."""
    config = parse_config(read_config(path))
    base = path.resolve().parent

    def absolute(name: str) -> str:
        return str(base / name) if name else ""

    placed = msgspec.structs.replace(
        config,
        log=msgspec.structs.replace(
            config.log,
            store_path=str(base / config.log.store_path),
            key_path=absolute(config.log.key_path),
            signer_socket=absolute(config.log.signer_socket),
            cosigner_key_path=absolute(config.log.cosigner_key_path),
        ),
        witnesses=msgspec.structs.replace(
            config.witnesses, policy_path=absolute(config.witnesses.policy_path)
        ),
        tls=config.tls.absolute(base),
        client_tls=config.client_tls.absolute(base),
        store=msgspec.structs.replace(
            config.store, high_water_mark_path=absolute(config.store.high_water_mark_path)
        ),
        gossip=msgspec.structs.replace(config.gossip, state_path=str(base / config.gossip.state_path)),
    )
    _require_mark_outside(placed)
    return placed


def _require_mark_outside(config: Config) -> None:
    mark, store = config.store.high_water_mark_path, Path(config.log.store_path).resolve()
    if mark and Path(mark).resolve().is_relative_to(store):
        raise ConfigError(
            f"[store] high_water_mark_path is {mark}, and has to be outside of {store}: else it is put back "
            "with an old copy of the store, and vouches for that"
        )
