"""What others know of a log: the newest checkpoints under its key that witnesses, nodes and marks hold.

Nobody is believed by a number: a checkpoint counts when one of the log's keys has signed it. The mark is the
operator's own file, and says of what was committed what nobody else may have seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from tlog.cosigned import is_by_the_log
from tlog.errors import NotFoundError, TlogError
from tlog.gossip.grpc_transport import GrpcTransport
from tlog.gossip.message import GossipMessage
from tlog.grpc_tls import channel_credentials
from tlog.policy import Policy
from tlog.tile_source.trust import LogKeys
from tlog.tls import ClientTls
from tlog.witness.client import WitnessClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Says which tree somebody knows of; `note` is what the log signed, None where a mark says so."""

    who: str
    tree_size: int
    root_hash: bytes
    note: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Holds what those say who answered, and for all others why they did not."""

    known: tuple[Known, ...]
    silent: tuple[tuple[str, str], ...]


def ask_around(
    keys: LogKeys,
    policy: Policy,
    nodes: Sequence[str],
    *,
    timeout_s: float,
    tls: ClientTls | None,
) -> Heard:
    """Ask the witnesses in a policy, and nodes by their addresses, what the log signed last.

    Nobody who is silent ends anything: the server asks again before it signs.
    """
    return asyncio.run(_ask_all(keys, policy, nodes, timeout_s, tls))


async def _ask_all(
    keys: LogKeys, policy: Policy, nodes: Sequence[str], timeout_s: float, tls: ClientTls | None
) -> Heard:
    origin = keys.logs[0][0]
    clients = [
        WitnessClient(witness.url.decode("ascii", "replace"), [witness.verifier], tls=tls)
        for witness in policy.witnesses
        if witness.url is not None and not is_by_the_log(witness, policy)
    ]
    carrier = GrpcTransport(
        timeout_s=timeout_s, credentials=None if tls is None else channel_credentials(tls)
    )
    asked: list[tuple[str, Coroutine[None, None, list[bytes]]]] = [
        *((f"the witness at {one.url}", _ask_witness(one, origin, timeout_s)) for one in clients),
        *((f"the node at {address}", _ask_node(carrier, address)) for address in nodes),
    ]
    try:
        answers = await asyncio.gather(*(one for _, one in asked), return_exceptions=True)
    finally:
        await carrier.close()
        for client in clients:
            await client.aclose()
    known: list[Known] = []
    silent: list[tuple[str, str]] = []
    for (who, _), answer in zip(asked, answers, strict=True):
        if isinstance(answer, TlogError):
            silent.append((who, str(answer)))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            mine = [one for note in answer if (one := _known(who, note, keys)) is not None]
            known += mine
            if not mine:
                silent.append((who, "it shows no checkpoint of this log"))
    return Heard(known=tuple(known), silent=tuple(silent))


async def _ask_witness(witness: WitnessClient, origin: str, timeout_s: float) -> list[bytes]:
    note = await witness.newest_checkpoint(origin, timeout_s)
    if note is None:
        raise NotFoundError("it has cosigned nothing of this log")
    return [note]


async def _ask_node(carrier: GrpcTransport, address: str) -> list[bytes]:
    answer = await carrier.exchange(address, GossipMessage())
    return [offered.note for offered in answer.checkpoints]


def _known(who: str, note: bytes, keys: LogKeys) -> Known | None:
    try:
        checkpoint = keys.open(note)
    except TlogError:
        # Of another log, or forged: nothing that this log has signed.
        return None
    return Known(who=who, tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash, note=note)
