"""The configuration of a monitor: one TOML file, taken whole or refused whole.

Unknown names, wrong types and values out of range are errors that name the place; nothing is guessed. Paths
are relative to the file's own directory, so that a monitor's directory can be moved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, field

from tlog.config_file import (
    FilePath,
    HostPort,
    Section,
    Text,
    TilesPlace,
    Url,
    decode_config,
    read_config,
)
from tlog.encoding import parse_hex
from tlog.errors import ConfigError, MalformedError
from tlog.merkle import HASH_BYTES
from tlog.tls_config import ClientTlsSection, TlsSection

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrOff = Annotated[float, Meta(ge=0, le=31_536_000)]
"""Seconds; 0 turns the alert off."""


class LogSection(Section, frozen=True, kw_only=True):
    """Says which log to follow, where to read it, and by which keys to believe it."""

    policy_path: FilePath = "policy"
    """C2SP policy file."""
    origin: Text | None = None
    """Needed when the policy names several logs."""
    genesis: Text | None = None
    """Leaf hash of entry 0 (hex), as `tlog init` printed it."""
    server: HostPort | None = None
    """host:port of the log (gRPC); or `tiles`, one of the two."""
    tiles: TilesPlace | None = None
    """URL prefix or directory of the log's tiles."""
    timeout_s: Seconds = 15.0
    """How long one question to the log may take, retries included."""


class MonitorSection(Section, frozen=True, kw_only=True):
    """Says what to keep, and how hard to work."""

    state_path: FilePath = "state"
    mirror: bool = False
    """Keep every entry, so that the log can be served from here when it is gone."""
    poll_s: Seconds = 5.0
    """Time between two looks at the newest checkpoint."""
    threads: Annotated[int, Meta(ge=0, le=64)] = 0
    """Threads that verify signatures; 0: one for each processor that it may use, at most 8."""


class LimitsSection(Section, frozen=True, kw_only=True):
    """Says after how many seconds a condition is worth an alert; 0 turns one off."""

    silence_s: SecondsOrOff = 900.0
    """No fresh checkpoint that meets the policy."""
    lag_s: SecondsOrOff = 600.0
    """Entries that wait to be checked."""
    witness_s: SecondsOrOff = 3_600.0
    """A witness of the policy that does not cosign."""
    source_s: SecondsOrOff = 60.0
    """A source that cannot be read."""


class SinksSection(Section, frozen=True, kw_only=True):
    """Says where alerts go; each of them is also kept in the state directory."""

    log: bool = True
    """Lines on stderr."""
    jsonl_path: FilePath | None = None
    command: Annotated[list[Text], Meta(min_length=1, max_length=64)] | None = None
    """Program and arguments, run without a shell for each alert, which comes as JSON on stdin."""
    command_timeout_s: Seconds = 30.0
    webhook_url: Url | None = None
    webhook_timeout_s: Seconds = 10.0


class AlertsSection(SinksSection, frozen=True, kw_only=True):
    """Says where a monitor's alerts go, and the evidence among them that convicts."""

    convictions_path: FilePath | None = None
    """Where evidence that convicts is kept as well (`convictions` in the state directory): a node or a client
    that shares the directory refuses the log from then on."""


class OwnSourceSection(Section, frozen=True, kw_only=True):
    """Names a source of ours, and how to tell what is ours."""

    source: Text
    keys: list[Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]] = field(default_factory=list)
    """The raw public keys that we sign with (hex), all of them."""
    leaf_hashes_path: FilePath | None = None
    """A file with the leaf hashes (hex, one a line) of all entries that we made, written before sending."""


class WatchSection(Section, frozen=True, kw_only=True):
    """Says what to tell of in entries that break no rule."""

    business_keys: list[Text] = field(default_factory=list)
    own_sources: list[OwnSourceSection] = field(default_factory=list)


class Config(Section, frozen=True, kw_only=True):
    """Holds everything that `tlog monitor` can be told."""

    log: LogSection
    monitor: MonitorSection = field(default_factory=MonitorSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    alerts: AlertsSection = field(default_factory=AlertsSection)
    watch: WatchSection = field(default_factory=WatchSection)
    tls: TlsSection = field(default_factory=TlsSection)
    """What `tlog monitor serve` listens with."""
    client_tls: ClientTlsSection = field(default_factory=ClientTlsSection)

    @property
    def genesis_leaf_hash(self) -> bytes | None:
        """Return the pinned leaf hash of entry 0."""
        genesis = self.log.genesis
        return None if genesis is None else parse_hex(genesis, "genesis", length=HASH_BYTES)


def parse_config(text: str) -> Config:
    """Parse a configuration. Raises ConfigError, which names the table and key that is wrong."""
    config = decode_config(text, Config, what="the configuration", documented_in="docs/monitor.md")
    try:
        _ = config.genesis_leaf_hash
    except MalformedError as error:
        raise ConfigError(f"[log] genesis is no leaf hash: {error}") from error
    if (config.log.server is None) == (config.log.tiles is None):
        raise ConfigError("[log] has to name one place to read from: either `server` or `tiles`")
    config.tls.require_complete()
    return config


def load_config(path: Path) -> Config:
    """Read and parse a configuration file, and make its paths absolute. Raises ConfigError."""
    config = parse_config(read_config(path))
    base = path.resolve().parent

    def absolute(name: str | None) -> str | None:
        return None if name is None else str(base / name)

    tiles = config.log.tiles
    if tiles is not None and "://" not in tiles:
        tiles = absolute(tiles)
    replace = msgspec.structs.replace
    return replace(
        config,
        log=replace(config.log, policy_path=str(base / config.log.policy_path), tiles=tiles),
        monitor=replace(config.monitor, state_path=str(base / config.monitor.state_path)),
        alerts=replace(
            config.alerts,
            jsonl_path=absolute(config.alerts.jsonl_path),
            convictions_path=absolute(config.alerts.convictions_path),
        ),
        tls=config.tls.absolute(base),
        client_tls=config.client_tls.absolute(base),
        watch=replace(
            config.watch,
            own_sources=[
                replace(own, leaf_hashes_path=absolute(own.leaf_hashes_path))
                for own in config.watch.own_sources
            ],
        ),
    )
