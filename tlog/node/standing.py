"""How a node stands, read from its directory: it may be running, or not."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tlog.checkpoint import parse_checkpoint
from tlog.errors import ConfigError, MalformedError
from tlog.evidence_store import EvidenceStore
from tlog.gossip.held import HeldCheckpoint
from tlog.gossip.kept_tiles import CHECKPOINT_NAME
from tlog.gossip.pool import Pool
from tlog.gossip.state import NoTrees
from tlog.gossip.state_directory import StateDirectory
from tlog.node.config import Config
from tlog.node.shown_file import ShownFile
from tlog.note import parse_note
from tlog.policy import MAX_POLICY_BYTES, Policy, parse_policy

TREES_NAME = "trees"
SHOWN_NAME = "shown"
ALERTS_NAME = "alerts"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStanding:
    """Says what a node holds of one log; `kept_size` is the size of the tree that it keeps.

    `stale_since_s`, in seconds since 1970, is set while the log shows this node less than it has signed.
    """

    origin: str
    newest: HeldCheckpoint | None
    kept_size: int
    unproven: tuple[HeldCheckpoint, ...]
    is_refused: bool
    stale_since_s: float | None

    @property
    def is_trusted(self) -> bool:
        """Whether nothing speaks against the newest checkpoint."""
        return not self.is_refused and not self.unproven


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Says how a node stands: its logs, and the files of its evidence."""

    logs: tuple[LogStanding, ...]
    evidence_paths: tuple[Path, ...]

    @property
    def is_well(self) -> bool:
        """Whether every log is trusted and shows all that it has signed, and nobody is convicted."""
        return not self.evidence_paths and all(
            log.is_trusted and log.stale_since_s is None for log in self.logs
        )


def load_policy(config: Config) -> Policy:
    """Read the node's policy, which has to list a log. Raises ConfigError."""
    path = Path(config.node.policy_path)
    try:
        with path.open("rb") as file:
            policy = parse_policy(file.read(MAX_POLICY_BYTES + 1))
    except (OSError, MalformedError) as error:
        raise ConfigError(f"the policy {path} cannot be used: {error}") from error
    if not policy.logs:
        raise ConfigError(f"the policy {path} lists no log: there is nothing to gossip about")
    unknown = {log.origin for log in config.log} - {log.origin for log in policy.logs}
    if unknown:
        raise ConfigError(f"the policy {path} lists no log {min(unknown)!r}, which has a [[log]] table")
    return policy


def tree_directory(config: Config, origin: str) -> Path:
    """Return the directory of the tree that is kept of a log."""
    return Path(config.node.state_path) / TREES_NAME / sha256(origin.encode()).hexdigest()


def shown_path(config: Config, origin: str) -> Path:
    """Return the file that remembers what a log has shown."""
    return Path(config.node.state_path) / SHOWN_NAME / f"{sha256(origin.encode()).hexdigest()}.json"


def alerts_directory(config: Config) -> Path:
    """Return the directory of the journal of alerts."""
    return Path(config.node.state_path) / ALERTS_NAME


def read_standing(config: Config) -> Standing:
    """Read a node's directory. Raises ConfigError, CorruptionError and StorageError."""
    policy = load_policy(config)
    state = StateDirectory(Path(config.node.state_path), policy)
    pool = Pool(policy, state, NoTrees())
    logs = tuple(
        LogStanding(
            origin=origin,
            newest=pool.newest(origin),
            kept_size=_kept_size(tree_directory(config, origin) / CHECKPOINT_NAME),
            unproven=pool.unproven(origin),
            is_refused=pool.convictions.is_refused(origin),
            stale_since_s=ShownFile(shown_path(config, origin)).load().stale_since_s,
        )
        for origin in pool.origins
    )
    stored = EvidenceStore(state.evidence_directory, policy).pieces()
    return Standing(logs=logs, evidence_paths=tuple(piece.path for piece in stored))


def _kept_size(path: Path) -> int:
    try:
        return parse_checkpoint(parse_note(path.read_bytes())[0]).tree_size
    except (OSError, MalformedError):
        # Not there yet; what is wrong with it, the node says when it opens it.
        return 0
