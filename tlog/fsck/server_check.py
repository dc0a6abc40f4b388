"""Check a live log from outside, over gRPC: every entry against the signed root, and against the rules.

It is one replay, as a monitor does it (tlog.monitor.replay), from entry 0 to the newest checkpoint, in a
cursor of its own that is thrown away.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from tlog.client.trusted_log import TrustedLog, VerifiedCheckpoint
from tlog.errors import MalformedError, OutOfRangeError, ProofError, VerificationError
from tlog.fsck.findings import Finding, Findings, Part, Report
from tlog.monitor.cursor import Cursor
from tlog.monitor.replay import Replay
from tlog.monitor.source import LogSource

UNCHECKED = (
    "what only the store shows: stored tiles with their inner nodes, indexes, the governance list, the data "
    "file; run `tlog fsck` on the log's directory, which may be done beside the server"
)


def check_server(
    source: LogSource,
    trusted: TrustedLog,
    *,
    genesis_leaf_hash: bytes | None = None,
    progress: Callable[[int], None] = lambda _: None,
    on_size: Callable[[int], None] = lambda _: None,
) -> Report:
    """Replay a log from its first entry to the checkpoint that it shows now.

    `trusted` says whose signatures count. Raises what verifying that checkpoint raises, and RemoteError when
    the log cannot be read.
    """
    under = trusted.open_published(source.checkpoint())
    on_size(under.tree_size)
    findings = Findings()
    unchecked = [UNCHECKED]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tlog-fsck-")))
        threads = stack.enter_context(ThreadPoolExecutor(os.cpu_count() or 1, "fsck"))
        cursor = stack.enter_context(closing(Cursor.create(directory, trusted.origin, keeps_entries=False)))
        replay = Replay(cursor, genesis_leaf_hash=genesis_leaf_hash, threads=threads)
        try:
            governance_entries = _replay(source, trusted, under, replay, cursor, findings, progress)
        except (VerificationError, OutOfRangeError, MalformedError) as error:
            governance_entries = 0
            unchecked.append(f"everything from entry {cursor.position} on")
            findings.add(
                Finding(
                    part=Part.ENTRY if isinstance(error, ProofError) else Part.CHECKPOINT,
                    message=str(error),
                    leaf_index=cursor.position,
                )
            )
        checked = cursor.position
    return Report(
        source=source.name,
        origin=trusted.origin,
        tree_size=under.tree_size,
        root_hash=under.root_hash,
        entries=checked,
        tiles=0,
        governance_entries=governance_entries,
        findings=tuple(findings.kept),
        counts=dict(findings.counts),
        unchecked=tuple(unchecked),
    )


def _replay(
    source: LogSource,
    trusted: TrustedLog,
    under: VerifiedCheckpoint,
    replay: Replay,
    cursor: Cursor,
    findings: Findings,
    progress: Callable[[int], None],
) -> int:
    governance_entries = 0
    if under.tree_size == 0:
        return 0
    with closing(source.runs(0, under)) as runs, closing(replay.ahead(runs)) as ahead:
        for begun in ahead:
            if begun.run.note != under.note:
                under = trusted.open_published(begun.run.note)
            checked = replay.check(begun, under)
            for judged in checked.judged:
                governance_entries += judged.is_governance
                if judged.finding is not None:
                    findings.add(
                        Finding(
                            part=Part.RULE,
                            message=f"entry {judged.leaf_index} is in the tree, and breaks a rule "
                            f"({judged.finding.reason.value}): {judged.finding.message}",
                            leaf_index=judged.leaf_index,
                        )
                    )
            if replay.is_flush_due:
                cursor.flush()
            progress(len(checked.judged))
    return governance_entries
