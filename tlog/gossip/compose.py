"""What to tell a peer: evidence that it lacks, then the newest of each log, then what is in doubt. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tlog.gossip.convictions import Convictions
from tlog.gossip.held import HeldCheckpoint
from tlog.gossip.message import (
    MAX_CHECKPOINTS,
    MAX_EVIDENCE_BYTES,
    MAX_EVIDENCE_HELD,
    MAX_EVIDENCE_PIECES,
    MAX_MESSAGE_BYTES,
    MAX_PATH_HASHES,
    MAX_PATHS,
    GivenPath,
    GossipMessage,
    OfferedCheckpoint,
    PeerView,
    WantedPath,
    evidence_digest,
    offered_bytes,
)
from tlog.gossip.state import KeptTrees

_ROOM_BYTES = MAX_MESSAGE_BYTES - 32 * (MAX_EVIDENCE_HELD + MAX_PATHS * MAX_PATH_HASHES)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOfLog:
    """Holds what a node can tell of one log that it does not refuse.

    The first of `checkpoints` is the one that a path to this node should start at: its anchor, if it has one.
    """

    origin: str
    checkpoints: Sequence[HeldCheckpoint]


def compose_message(
    logs: Sequence[HeldOfLog],
    convictions: Convictions,
    wanted: Sequence[WantedPath],
    trees: KeptTrees,
    view: PeerView,
) -> GossipMessage:
    """Compose what a peer should hear, within every limit; what does not fit of later logs is left out.

    A checkpoint whose tree is kept comes with the path from what the peer was last seen to hold.
    """
    room = _ROOM_BYTES
    evidence: list[bytes] = []
    for piece in convictions.evidence:
        # A piece that is too long would be taken for an offence, and all else with it be dropped.
        fits = len(evidence) < MAX_EVIDENCE_PIECES and len(piece) <= min(room, MAX_EVIDENCE_BYTES)
        if fits and evidence_digest(piece) not in view.evidence:
            evidence.append(piece)
            room -= len(piece)
    checkpoints: list[OfferedCheckpoint] = []
    for log in logs:
        for offered in _offers(log, trees, view.sizes.get(log.origin, 0)):
            if len(checkpoints) < MAX_CHECKPOINTS and offered_bytes(offered) <= room:
                checkpoints.append(offered)
                room -= offered_bytes(offered)
    origins = {log.origin for log in logs}
    return GossipMessage(
        evidence=tuple(evidence),
        evidence_held=convictions.digests,
        checkpoints=tuple(checkpoints),
        wanted=tuple(wanted[:MAX_PATHS]),
        paths=tuple(_given([one for one in view.wanted if one.origin in origins], trees)),
    )


def _offers(log: HeldOfLog, trees: KeptTrees, peer_size: int) -> Iterator[OfferedCheckpoint]:
    for held in log.checkpoints:
        path = None
        if 0 < peer_size < held.tree_size:
            path = trees.path(log.origin, peer_size, held.tree_size)
        if path is None:
            yield OfferedCheckpoint(note=held.note)
        else:
            yield OfferedCheckpoint(note=held.note, path_start_size=peer_size, path=path.hashes)


def _given(wanted: Sequence[WantedPath], trees: KeptTrees) -> Iterator[GivenPath]:
    for one in wanted:
        path = trees.path(one.origin, one.start_size, one.end_size)
        if path is not None:
            yield GivenPath(origin=one.origin, path=path)
