"""Gossip messages to protobuf and back. Counts are checked before anything becomes an object."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import TypeVar

from google.protobuf.message import DecodeError

from tlog.errors import MalformedError
from tlog.gossip.message import (
    MAX_CHECKPOINTS,
    MAX_EVIDENCE_HELD,
    MAX_EVIDENCE_PIECES,
    MAX_PATH_HASHES,
    MAX_PATHS,
    ConsistencyPath,
    GivenPath,
    GossipMessage,
    OfferedCheckpoint,
    WantedPath,
    check_message,
)
from tlog.v1 import gossip_pb2

Exchange = TypeVar("Exchange", gossip_pb2.ExchangeRequest, gossip_pb2.ExchangeResponse)


def encode_message(message: GossipMessage, exchange: Exchange) -> Exchange:
    """Write a message into an empty request or response, and return that."""
    exchange.evidence.extend(message.evidence)
    exchange.evidence_held.extend(message.evidence_held)
    for offered in message.checkpoints:
        exchange.checkpoints.add(
            checkpoint=offered.note,
            path_start_size=offered.path_start_size,
            consistency_path=offered.path,
        )
    for wanted in message.wanted:
        exchange.wanted.add(origin=wanted.origin, start_size=wanted.start_size, end_size=wanted.end_size)
    for given in message.paths:
        exchange.paths.add(
            origin=given.origin,
            start_size=given.path.start_size,
            end_size=given.path.end_size,
            hashes=given.path.hashes,
        )
    return exchange


def parse_exchange(data: bytes, exchange: Exchange) -> Exchange:
    """Read bytes into an empty request or response, and return that. Raises MalformedError."""
    try:
        exchange.ParseFromString(data)
    except DecodeError as error:
        raise MalformedError("these bytes are no message of gossip") from error
    return exchange


def decode_message(exchange: gossip_pb2.ExchangeRequest | gossip_pb2.ExchangeResponse) -> GossipMessage:
    """Read a message, and check it against every limit. Raises MalformedError."""
    _bound(exchange.evidence, MAX_EVIDENCE_PIECES, "pieces of evidence")
    _bound(exchange.evidence_held, MAX_EVIDENCE_HELD, "digests of evidence")
    _bound(exchange.checkpoints, MAX_CHECKPOINTS, "checkpoints")
    _bound(exchange.wanted, MAX_PATHS, "wanted paths")
    _bound(exchange.paths, MAX_PATHS, "paths")
    message = GossipMessage(
        evidence=tuple(exchange.evidence),
        evidence_held=tuple(exchange.evidence_held),
        checkpoints=tuple(
            OfferedCheckpoint(
                note=offered.checkpoint,
                path_start_size=offered.path_start_size,
                path=_hashes(offered.consistency_path),
            )
            for offered in exchange.checkpoints
        ),
        wanted=tuple(
            WantedPath(origin=wanted.origin, start_size=wanted.start_size, end_size=wanted.end_size)
            for wanted in exchange.wanted
        ),
        paths=tuple(
            GivenPath(
                origin=given.origin,
                path=ConsistencyPath(
                    start_size=given.start_size, end_size=given.end_size, hashes=_hashes(given.hashes)
                ),
            )
            for given in exchange.paths
        ),
    )
    check_message(message)
    return message


def _hashes(hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    _bound(hashes, MAX_PATH_HASHES, "hashes in a consistency path")
    return tuple(hashes)


def _bound(items: Sized, most: int, what: str) -> None:
    if len(items) > most:
        raise MalformedError(f"the message holds {len(items)} {what}; at most {most} are taken")
