"""Attacks on what witnesses are for: a quorum with a traitor in it, and a log that withholds.

The traitor is one key with two stores, each under a real witness: it cosigns whatever either half shows it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from examples.attack.cast import INVOICES, LOG_SIGNER, invoice
from examples.attack.double import copy_log
from examples.attack.lab import Lab
from examples.attack.processes import Process, tlog, witness_process
from tlog.client.log_client import LogClient
from tlog.errors import PolicyError
from tlog.gossip.judgement import Outcome
from tlog.key_file import read_cosigner_key_file
from tlog.policy import build_policy, format_policy
from tlog.storage.lmdb_witness_store import LmdbWitnessStore
from tlog.witness.core import origin_hash

TRAITOR = "traitor.example"
HONEST = ("witness-1.example", "witness-2.example", "witness-3.example")
NOWHERE = "http://127.0.0.1:9/"
QUORUM = 3
"""Of four: two quorums have two witnesses in common, so that one traitor is not enough for two histories."""
WAIT_S = 20.0
SILENCE_S = 2.0


def two_faced_witness(lab: Lab) -> None:
    """Show one history to witnesses 1 and 2, another to witness 3, and both to a witness who cosigns both."""
    directories = [_make_witness(lab, name) for name in (*HONEST, TRAITOR)]
    directories.append(_second_face(directories[-1], lab.directory / "second face"))
    processes = lab.start(witness_process(directory) for directory in directories)
    vkeys = [_vkey(directory) for directory in directories[:4]]
    one, two, three, traitor, second_face = (str(process.announced["url"]) for process in processes)
    lab.use_policy([LOG_SIGNER.vkey], vkeys, QUORUM)
    shown = INVOICES[:24]
    other = lab.either([*shown[:9], *(invoice(number, amount=1) for number in range(9, 24))], shown)
    to_a = _witnessed_log(lab, "shown to A", shown, vkeys, [one, two, NOWHERE, traitor])
    (server_a,) = lab.serve(to_a)
    client_a = lab.member("member A", str(server_a.announced["grpc"]))
    _await_published(client_a, len(shown))
    second = lab.either([one, two, three, second_face], [one, two, three, traitor])
    (server_b,) = lab.serve(_witnessed_log(lab, "shown to B", other, vkeys, second))
    client_b = lab.member("member B", str(server_b.announced["grpc"]))
    _hold_the_quorum(lab, client_b, directories[:3])
    _compare_what_witnesses_show(lab, server_a, [second_face, three] if lab.is_armed else [traitor, three])


def withheld_updates(lab: Lab) -> None:
    """Freeze a witnessed log for member B; the old cosignatures show their age to a monitor."""
    directory = _make_witness(lab, HONEST[0])
    (witness,) = lab.start([witness_process(directory)])
    vkey = _vkey(directory)
    lab.use_policy([LOG_SIGNER.vkey], [vkey], 1)
    live = _witnessed_log(lab, "live", INVOICES[:20], [vkey], [str(witness.announced["url"])])
    (server,) = lab.serve(live)
    client = lab.member("member A", str(server.announced["grpc"]))
    _await_published(client, 20)
    server.stop()
    # As it was, but it asks no witness any more: one that is asked would tell it that it is behind.
    frozen = _frozen_copy(lab, live, vkey)
    server, stale = lab.serve(live, frozen)
    door = lab.door(server)
    monitor_a = lab.monitor("monitor A", str(server.announced["grpc"]), silence_s=SILENCE_S)
    monitor_b = lab.monitor("monitor B", door.address, silence_s=SILENCE_S)
    for monitor in (monitor_a, monitor_b):
        monitor.run()
        assert not monitor.alerts
    if lab.is_armed:
        lab.lead(door, stale)
    time.sleep(SILENCE_S + 1.0)
    for monitor in (monitor_a, monitor_b):
        monitor.run()
        lab.look_at(monitor, f"{SILENCE_S:g} s limit", "silence")
    if "monitor A" in lab.record.noticed_by:
        raise AssertionError("the monitor of the log that goes on heard silence")
    lab.note("withholding contradicts nothing that was signed: no evidence can exist")


def _make_witness(lab: Lab, name: str) -> Path:
    directory = lab.directory / name
    tlog("witness", "init", directory, "--name", name, "--log", LOG_SIGNER.vkey, "--json")
    config = directory / "witness.toml"
    config.write_text(config.read_text().replace("# port = 8653", "port = 0"))
    return directory


def _second_face(directory: Path, copy: Path) -> Path:
    """Make a witness with the same key that knows nothing of what the first one cosigned."""
    copy.mkdir()
    for name in ("witness.toml", "witness.key"):
        (copy / name).write_bytes((directory / name).read_bytes())
    (copy / "witness.key").chmod(0o600)
    LmdbWitnessStore.create(copy / "store").close()
    return copy


def _vkey(directory: Path) -> str:
    return read_cosigner_key_file(directory / "witness.key").vkey


def _witnessed_log(
    lab: Lab, name: str, entries: Sequence[bytes], vkeys: Sequence[str], urls: Sequence[str]
) -> Path:
    """Make a log whose server asks these witnesses at these addresses."""
    config = '[witnesses]\npolicy_path = "witnesses"\ntimeout_s = 2.0\nrefresh_s = 0.5\n'
    directory = lab.log(name, entries, config=config)
    _write_witnesses(directory, vkeys, urls)
    return directory


def _write_witnesses(directory: Path, vkeys: Sequence[str], urls: Sequence[str]) -> None:
    threshold = min(QUORUM, len(vkeys))
    lines = format_policy(build_policy([LOG_SIGNER.vkey], vkeys, threshold)).decode().splitlines()
    at = dict(zip(vkeys, urls, strict=True))
    with_urls = [f"{line} {at[line.split()[2]]}" if line.startswith("witness ") else line for line in lines]
    (directory / "witnesses").write_text("\n".join(with_urls) + "\n")


def _frozen_copy(lab: Lab, live: Path, vkey: str) -> Path:
    frozen = copy_log(live, lab.directory / "frozen")
    _write_witnesses(frozen, [vkey], [NOWHERE])
    return frozen


def _await_published(client: LogClient, invoices: int) -> None:
    """Wait until the log has published all its entries. Raises PolicyError when it does not in time."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            if client.checkpoint().tree_size >= invoices:
                return
        except PolicyError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _hold_the_quorum(lab: Lab, client: LogClient, honest: Sequence[Path]) -> None:
    """Check that the second history is never published, and that honest witnesses say what they saw."""
    deadline = time.monotonic() + (4.0 if lab.is_armed else WAIT_S)
    published = False
    while not published and time.monotonic() < deadline:
        try:
            published = client.checkpoint().tree_size > 0
        except PolicyError:
            time.sleep(0.2)
    if lab.is_armed and published:
        raise AssertionError("the second history met a quorum with one traitor in it")
    if not published:
        lab.saw("member B", "every call", "the quorum is not met: nothing is believed")
    for directory in honest:
        files = sorted((directory / "evidence").glob("*"))
        for file in files:
            lab.judge_evidence(file.read_bytes())
        if files:
            lab.saw("honest witnesses", "1 call", "do not cosign, keep evidence")


def _compare_what_witnesses_show(lab: Lab, server: Process, urls: Sequence[str]) -> None:
    """Let member A read what the other half's witnesses show, and judge it with the tree that it keeps."""
    node, client = lab.node("member A", str(server.announced["grpc"]))
    lab.wait_for(node.follow(client))
    key = origin_hash(LOG_SIGNER.name).hex()
    for url in urls:
        answer = httpx.get(f"{url}{key}/checkpoint", timeout=5.0)
        if answer.status_code != httpx.codes.OK:
            continue
        judgement = lab.wait_for(node.judge(answer.content))
        if judgement.outcome in (Outcome.SPLIT_VIEW, Outcome.UNPROVEN, Outcome.UNSETTLED):
            lab.note(f"what a witness shows is judged {judgement.outcome}")
    lab.look_at_node(node, "1 look")
