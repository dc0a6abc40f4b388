"""The configuration of a node: one TOML file, taken whole or refused whole.

Unknown names, wrong types and values out of range are errors that name the place. Paths are relative to the
file's own directory, so that a node's directory can be moved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, field

from tlog.config_file import (
    Address,
    FilePath,
    FilePathOrNone,
    HostPort,
    HostPortOrNone,
    Port,
    Section,
    Text,
    TilesPlaceOrNone,
    decode_config,
    read_config,
)
from tlog.errors import ConfigError
from tlog.monitor.config import SecondsOrOff, SinksSection
from tlog.tls_config import ClientTlsSection, TlsSection

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class NodeSection(Section, frozen=True, kw_only=True):
    """Says whom to believe, and where to remember it."""

    policy_path: FilePath = "policy"
    """C2SP policy file: the logs that are followed; its quorum is not asked for here."""
    state_path: FilePath = "state"
    """Directory of checkpoints, evidence and trees; made if need be, and for one node only."""


class GossipSection(Section, frozen=True, kw_only=True):
    """Says whom to ask how often, and how much to answer."""

    listen_address: Address = "127.0.0.1"
    port: Port = 8655
    """0 lets the system choose; the node prints what it chose."""
    peers: list[HostPort] = field(default_factory=list)
    """Other members' nodes, host:port."""
    membership_port: Port = 0
    """Where it is not 0: also ask, on this port, the host of every active member's `https` sources."""
    own_address: HostPortOrNone = ""
    """host:port under which others reach this node, so that it does not ask itself."""
    round_s: Seconds = 10.0
    """Mean time between two rounds; each is drawn between half and one and a half of it."""
    fan_out: Annotated[int, Meta(ge=1, le=64)] = 3
    """Peers asked in one round, beside the logs."""
    timeout_s: Seconds = 10.0
    """How long one peer may take to answer."""
    patience_s: Seconds = 600.0
    """How long peers are asked for a consistency path before its lack is an alarm."""
    stale_s: SecondsOrOff = 600.0
    """How long a log may show less than it has signed before that is an alarm; 0 turns the alarm off."""
    calls_per_s: Annotated[float, Meta(gt=0, le=10_000)] = 20.0
    """Exchanges that one host may begin in the long run."""
    burst_calls: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """Exchanges that one host may begin at once."""
    max_concurrent_calls: Annotated[int, Meta(ge=1, le=10_000)] = 64
    """Exchanges that are answered at a time; more are turned away."""


class LogTable(Section, frozen=True, kw_only=True):
    """Says where one log of the policy is reached; a log without a table is known through peers only."""

    origin: Text
    server: HostPortOrNone = ""
    """host:port of its server (gRPC), which is asked in every round."""
    tiles: TilesPlaceOrNone = ""
    """URL prefix or directory of its tiles, to read the tree from; else it is read from `server`."""


class RoleSection(Section, frozen=True, kw_only=True):
    """Says whether another role runs in this process."""

    config_path: FilePathOrNone = ""
    """The configuration that `tlog monitor init` or `tlog witness init` made; "": it does not run here."""


class Config(Section, frozen=True, kw_only=True):
    """Holds everything that `tlog node serve` can be told."""

    node: NodeSection = field(default_factory=NodeSection)
    gossip: GossipSection = field(default_factory=GossipSection)
    tls: TlsSection = field(default_factory=TlsSection)
    client_tls: ClientTlsSection = field(default_factory=ClientTlsSection)
    log: list[LogTable] = field(default_factory=list)
    alerts: SinksSection = field(default_factory=SinksSection)
    monitor: RoleSection = field(default_factory=RoleSection)
    witness: RoleSection = field(default_factory=RoleSection)


def parse_config(text: str) -> Config:
    """Parse a configuration. Raises ConfigError, which names the table and key that is wrong."""
    config = decode_config(text, Config, what="the node's configuration", documented_in="docs/gossip.md")
    config.tls.require_complete()
    config.tls.require_safe(config.gossip.listen_address, "[gossip]")
    origins = [log.origin for log in config.log]
    if len(set(origins)) < len(origins):
        raise ConfigError("the node's configuration has two [[log]] tables of one origin: keep one")
    return config


def load_config(path: Path) -> Config:
    """Read and parse a configuration file, and make its paths absolute. Raises ConfigError."""
    config = parse_config(read_config(path))
    base = path.resolve().parent

    def absolute(name: str) -> str:
        return str(base / name) if name else ""

    replace = msgspec.structs.replace
    return replace(
        config,
        node=replace(
            config.node,
            policy_path=absolute(config.node.policy_path),
            state_path=absolute(config.node.state_path),
        ),
        tls=config.tls.absolute(base),
        client_tls=config.client_tls.absolute(base),
        alerts=replace(
            config.alerts,
            jsonl_path=absolute(config.alerts.jsonl_path) if config.alerts.jsonl_path else None,
        ),
        log=[log if "://" in log.tiles else replace(log, tiles=absolute(log.tiles)) for log in config.log],
        monitor=replace(config.monitor, config_path=absolute(config.monitor.config_path)),
        witness=replace(config.witness, config_path=absolute(config.witness.config_path)),
    )
