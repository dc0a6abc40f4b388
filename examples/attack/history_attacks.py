"""Attacks by the log alone, on members and monitors who looked at it before and look again."""

from __future__ import annotations

from collections.abc import Sequence

from examples.attack.cast import (
    DECLARATION,
    EXPORTER,
    FOUNDING,
    INVOICES,
    NEWCOMER,
    admit,
    forged_invoice,
    invoice,
)
from examples.attack.double import copy_log
from examples.attack.lab import ALARM_WORDS, Lab
from tlog.errors import TlogError, VerificationError
from tlog.evidence import format_evidence, make_leaf
from tlog.merkle import leaf_hash

START = len(FOUNDING)
SHOWN = 28
"""Invoices in the history that everybody saw: 32 entries with the founding ones, a power of two."""


def rollback(lab: Lab) -> None:
    """Restore yesterday's database, then go on from there with other entries."""
    directory = lab.honest_log("log", INVOICES[:20])
    yesterday = copy_log(directory, lab.directory / "yesterday")
    (server,) = lab.serve(directory)
    door = lab.door(server)
    client = lab.member("member", door.address)
    client.append(INVOICES[20:SHOWN])
    monitor = lab.monitor("monitor", door.address)
    monitor.run()
    server.kill()
    (restored,) = lab.serve(lab.either(yesterday, directory))
    lab.lead(door, restored)
    lab.expect_alarm("member", client, "1 call")
    monitor.run()
    lab.look_at(monitor, "1 pass", "rollback")
    # The operator hopes that nobody sees it any more once the log has grown past where it was.
    with lab.member("somebody new", door.address, fresh=True) as other:
        other.append(lab.either([invoice(n, amount=1) for n in range(40, 60)], INVOICES[40:60]))
    monitor.run()
    lab.look_at(monitor, "2 passes", "rollback", "split_view")


def rewrite(lab: Lab) -> None:
    """Change one old entry, recompute the tree, and sign it."""
    _replace_history(lab, [*INVOICES[:5], invoice(5, amount=1), *INVOICES[6:SHOWN]])


def drop(lab: Lab) -> None:
    """Drop an entry that was acknowledged with a receipt."""
    _replace_history(lab, [*INVOICES[:5], *INVOICES[6:SHOWN]])


def reorder(lab: Lab) -> None:
    """Let two entries change places."""
    _replace_history(lab, [*INVOICES[:5], INVOICES[6], INVOICES[5], *INVOICES[7:SHOWN]])


def forged_signature(lab: Lab) -> None:
    """Take an entry in a member's name that the member never signed."""
    _break_a_rule(lab, forged_invoice(70))


def forbidden_type(lab: Lab) -> None:
    """Take an entry of a type that the member's role may not issue."""
    _break_a_rule(lab, invoice(70, event_type=DECLARATION))


def _replace_history(lab: Lab, other: Sequence[bytes]) -> None:
    """Show one history, then another under the same key that is longer, at the same address."""
    before = lab.double("before", INVOICES[:SHOWN])
    rest = INVOICES[SHOWN : SHOWN + 9]
    after = lab.double("after", [*lab.either(other, INVOICES[:SHOWN]), *rest])
    first, second = lab.serve(before, after)
    door = lab.door(first)
    client = lab.member("member", door.address)
    client.checkpoint()
    victim = INVOICES[5]
    # This one keeps nothing but the receipt that the log acknowledged its entry with.
    holder = lab.member("receipt holder", door.address, fresh=True)
    (receipt,) = holder.receipts([victim], leaf_indices=[START + 5])
    assert receipt is not None
    monitor = lab.monitor("monitor", door.address)
    monitor.run()
    lab.lead(door, second)
    lab.expect_alarm("member", client, "1 call")
    monitor.run()
    lab.look_at(monitor, "1 pass", "split_view")
    _compare_receipt(lab, door.address, victim, receipt)


def _compare_receipt(lab: Lab, address: str, entry: bytes, receipt: bytes) -> None:
    """Ask for what is at the place that a receipt proves, with no memory of any checkpoint."""
    index = START + 5
    client = lab.member("receipt holder", address, fresh=True)
    try:
        client.inclusion_proof(entry, leaf_index=index)
    except VerificationError as error:
        lab.saw("receipt holder", "1 call", ALARM_WORDS.get(type(error), str(error)))
    ((_, there),) = client.entries(index, index + 1)
    if there == entry:
        return
    (other,) = client.receipts([there], leaf_indices=[index])
    assert other is not None
    file = lab.directory / "receipts.tlog-evidence"
    file.write_bytes(format_evidence(make_leaf(leaf_hash(entry), receipt, leaf_hash(there), other)))
    lab.judge_evidence(file)


def _break_a_rule(lab: Lab, wrong: bytes) -> None:
    """Log an entry that the log had to refuse, and one governance entry after it."""
    if lab.is_armed:
        _is_refused_by_an_honest_server(lab, wrong)
    entries = [
        *INVOICES[:12],
        lab.either(wrong, INVOICES[70]),
        *INVOICES[12:20],
        admit(NEWCOMER, EXPORTER, FOUNDING),
        *INVOICES[20:24],
    ]
    (server,) = lab.serve(lab.double("log", entries))
    monitor = lab.monitor("monitor", str(server.announced["grpc"]))
    monitor.run()
    lab.look_at(monitor, "1 pass", "rule_broken")


def _is_refused_by_an_honest_server(lab: Lab, wrong: bytes) -> None:
    """Check that the entry is one that the real server, with its store filled by itself, does not take."""
    (server,) = lab.serve(lab.honest_log("honest", INVOICES[:3]))
    client = lab.member("asker", str(server.announced["grpc"]), fresh=True)
    try:
        client.append([wrong])
    except TlogError:
        return
    raise AssertionError("an honest server took the entry that the attack is about")
