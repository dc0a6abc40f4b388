"""Each member appends its own stream, over its own connection, and keeps its own receipts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

from examples.alliance.event_fields import EventFields
from examples.alliance.members import MEMBERS
from examples.demo.folder import Folder
from examples.demo.founding import ORIGIN, Founded
from tlog.cli.progress import Progress
from tlog.client.append_reply import Appended
from tlog.client.batcher import Batcher
from tlog.client.log_client import LogClient
from tlog.envelope import sign_entry
from tlog.event import build_event
from tlog.policy import Policy

# A member waits for receipts when this many of its events are on their way, as a back end would.
MAX_OUTSTANDING = 256
BATCH_ENTRIES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """Says how one member's stream went; latencies are from submit to verified receipt, in seconds."""

    member_id: str
    latencies_s: Sequence[float]
    first_receipt_name: str


def append_streams(
    address: str,
    policy: Policy,
    founded: Founded,
    folder: Folder,
    streams: dict[str, list[EventFields]],
    progress: Progress,
) -> list[StreamResult]:
    """Append every member's stream at the same time. Raises what the first member that failed met."""
    lock = threading.Lock()

    def advance() -> None:
        with lock:
            progress.advance()

    def one_member(member_id: str) -> StreamResult:
        with LogClient(
            address,
            policy,
            checkpoint_file=folder.trusted(member_id),
            genesis_leaf_hash=founded.genesis_leaf_hash,
        ) as client:
            return _append_stream(client, member_id, founded, folder, streams[member_id], advance)

    with ThreadPoolExecutor(max_workers=len(MEMBERS), thread_name_prefix="member") as threads:
        futures = [threads.submit(one_member, member.id) for member in MEMBERS]
        return [future.result() for future in futures]


def sign_event(fields: EventFields, founded: Founded, member_id: str) -> bytes:
    """Build and sign one event as its member's back end would."""
    payload = build_event(
        id=fields.id,
        source=fields.source,
        type=fields.type,
        subject=fields.subject,
        time=fields.time,
        origin=ORIGIN,
        refs=fields.refs,
        data=fields.data,
    )
    return sign_entry(payload, [founded.members[member_id]])


def _append_stream(
    client: LogClient,
    member_id: str,
    founded: Founded,
    folder: Folder,
    events: Sequence[EventFields],
    advance: Callable[[], None],
) -> StreamResult:
    folder.receipts(member_id).mkdir(parents=True)
    latencies_s: list[float] = []
    names: list[str] = []
    outstanding: deque[tuple[bytes, Future[Appended]]] = deque()

    def keep(entry: bytes, future: Future[Appended]) -> None:
        appended = future.result()
        names.append(f"{appended.leaf_index:08d}")
        path = folder.receipts(member_id) / names[-1]
        path.with_suffix(".entry").write_bytes(entry)
        path.with_suffix(".tlog-proof").write_bytes(appended.receipt)
        advance()

    with Batcher(client, max_entries=BATCH_ENTRIES) as batcher:
        for fields in events:
            if len(outstanding) == MAX_OUTSTANDING:
                keep(*outstanding.popleft())
            entry = sign_event(fields, founded, member_id)
            submitted = perf_counter()
            future = batcher.submit(entry)
            future.add_done_callback(
                lambda _, submitted=submitted: latencies_s.append(perf_counter() - submitted)  # type: ignore[misc]
            )
            outstanding.append((entry, future))
        while outstanding:
            keep(*outstanding.popleft())
    return StreamResult(member_id=member_id, latencies_s=latencies_s, first_receipt_name=names[0])
