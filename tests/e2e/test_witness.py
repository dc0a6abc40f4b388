"""The real witness over real sockets: kills, restarts, two histories at once, a log taken up on the way."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from _support.command_line import REPOSITORY, tlog
from _support.real_witness import RealWitness, choose_port
from _support.submitting_log import SubmittingLog

from tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from tlog.cosignature import CosignerVerifier
from tlog.errors import RemoteError, WitnessConflictError, WitnessRefusedError
from tlog.merkle import verify_consistency
from tlog.note import Signature, Verifier, open_note
from tlog.witness.client import WitnessClient
from tlog.witness.core import origin_hash
from tlog.witness.request import format_add_checkpoint

ROUNDS = 8
WRITERS = 3


def make_witness(directory: Path, *logs: SubmittingLog, ml_dsa: bool = False) -> Path:
    options = [part for log in logs for part in ("--log", log.signer.vkey, "--origin", log.origin)]
    made = tlog(
        "witness", "init", directory, "--name", "witness.example/w1", *options, *["--ml-dsa"] * ml_dsa
    )
    assert made.code == 0, made
    return directory


def submit(witness: RealWitness, log: SubmittingLog, *sizes: int, history: int = 0) -> list[Signature]:
    """Submit checkpoints of these sizes one after the other, from the first on; the last cosignatures."""

    async def main() -> list[Signature]:
        found: list[Signature] = []
        async with WitnessClient(witness.url, witness.verifiers) as client:
            for old_size, size in pairwise(sizes):
                path = log.proof(old_size, size, history=history)
                found = await client.add_checkpoint(old_size, path, log.note(size, history=history), 10)
        return found

    return asyncio.run(main())


def monitored(witness: RealWitness, log: SubmittingLog) -> httpx.Response:
    return httpx.get(f"{witness.url}{origin_hash(log.origin).hex()}/checkpoint", trust_env=False)


def test_a_witness_cosigns_with_both_keys_and_remembers_over_a_restart(tmp_path: Path) -> None:
    log = SubmittingLog(origin="log.example/with a space + more")
    directory = make_witness(tmp_path / "w", log, ml_dsa=True)
    with RealWitness(directory) as witness:
        assert monitored(witness, log).status_code == 404
        found = submit(witness, log, 0, 5, 20)
        assert len(found) == 2
        assert witness.end() == 0
    with RealWitness(directory) as witness:
        shown = monitored(witness, log)
        keys = [*witness.verifiers, Verifier.from_vkey(log.signer.vkey)]
        note = open_note(shown.content, keys)
        assert parse_checkpoint(note.text) == log.checkpoint(20)
        assert set(note.signatures) >= set(found)
        assert len(note.signatures) == 3
        with pytest.raises(WitnessConflictError) as conflict:
            submit(witness, log, 0, 30)
        assert conflict.value.tree_size == 20
        assert len(submit(witness, log, 20, 30)) == 2
        assert witness.end(signal.SIGINT) == 0
        assert "Traceback" not in witness.errors


def test_a_second_witness_on_one_directory_is_refused(tmp_path: Path) -> None:
    log = SubmittingLog()
    directory = make_witness(tmp_path / "w", log)
    with RealWitness(directory) as witness:
        second = subprocess.run(
            [sys.executable, "-m", "tlog", "witness", "serve", str(directory)],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert second.returncode == 3
        assert f"process {witness.program.pid}" in second.stderr
        assert submit(witness, log, 0, 5)
        # Looking is allowed.
        (shown,) = tlog("witness", "show", directory, "--json").json["logs"]
        assert shown["tree_size"] == 5
        assert shown["root_hash"] == log.checkpoint(5).root_hash.hex()


def test_a_port_that_is_taken_ends_it_with_2(tmp_path: Path) -> None:
    with RealWitness(make_witness(tmp_path / "1")) as witness:
        other = make_witness(tmp_path / "2")
        config = other / "witness.toml"
        port = httpx.URL(witness.url).port
        config.write_text(config.read_text().replace("# port = 8653", f"port = {port}"))
        ended = subprocess.run(
            [sys.executable, "-m", "tlog", "witness", "serve", str(other), "--json"],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert ended.returncode == 2
    assert json.loads(ended.stderr[ended.stderr.index("{") :])["error"]["code"] == "config"


def test_a_log_is_taken_up_without_a_restart_and_a_broken_configuration_changes_nothing(
    tmp_path: Path,
) -> None:
    first, second = SubmittingLog(origin="log.example/1"), SubmittingLog(origin="log.example/2")
    directory = make_witness(tmp_path / "w", first)
    with RealWitness(directory) as witness:
        with pytest.raises(WitnessRefusedError) as refused:
            submit(witness, second, 0, 5)
        assert refused.value.status == 404
        assert tlog("witness", "add-log", directory, "--log", second.signer.vkey).code == 0
        witness.reload()
        until(lambda: "now knows 2 logs" in witness.errors)
        assert submit(witness, second, 0, 5)
        config = directory / "witness.toml"
        forgetful = config.read_text().partition("[[log]]")[0]
        for times, broken in enumerate(("[[log]]\n", forgetful), start=1):
            config.write_text(broken)
            witness.reload()
            until(lambda times=times: witness.errors.count("stay as they were") == times)
        assert submit(witness, first, 0, 5)


@pytest.mark.parametrize("origin", ["log.example/alliance", "not its key's name + a space"])
def test_a_log_that_signs_two_histories_leaves_evidence_on_the_witnesss_disk(
    tmp_path: Path, origin: str
) -> None:
    log = SubmittingLog(origin=origin, fork_at=3)
    directory = make_witness(tmp_path / "w", log)
    with RealWitness(directory) as witness:
        submit(witness, log, 0, 5)
        # Being out of step, or forged, is no contradiction.
        for note in (log.note(9), log.note(5, history=1).replace(b"\n5\n", b"\n6\n")):
            body = format_add_checkpoint(4, [], note)
            assert (
                httpx.post(f"{witness.url}add-checkpoint", content=body, trust_env=False).status_code >= 400
            )
        assert not (directory / "evidence").exists()
        for _ in range(2):
            with pytest.raises(WitnessRefusedError):
                submit(witness, log, 5, 5, history=1)
        (file,) = (directory / "evidence").iterdir()
        judged = tlog("evidence", "verify", file, "--log-key", log.signer.vkey, "--origin", origin, "--json")
        assert judged.code == 0
        assert [key["vkey"] for key in judged.json["convicted"]] == [log.signer.vkey]
        assert tlog("evidence", "verify", file, "--log-key", log.signer.vkey, "--origin", "else").code == 1
        assert str(file) in witness.errors
        assert "No file was written" not in witness.errors
        # The history that it has cosigned goes on.
        assert submit(witness, log, 5, 9)


class Acknowledged:
    """Everything that the witness ever gave out, in all rounds."""

    def __init__(self, log: SubmittingLog) -> None:
        self.log = log
        self.lock = threading.Lock()
        self.cosigned: list[tuple[Checkpoint, int]] = []

    def take(self, size: int, history: int, signature: Signature, verifier: CosignerVerifier) -> None:
        checkpoint = self.log.checkpoint(size, history=history)
        verifier.verify(format_checkpoint(checkpoint).encode(), signature.signature)
        with self.lock:
            self.cosigned.append((checkpoint, verifier.timestamp_s(signature.signature)))

    @property
    def largest(self) -> int:
        return max((checkpoint.tree_size for checkpoint, _ in self.cosigned), default=0)

    def check(self) -> None:
        """Two histories, or a smaller tree at a later time, were never cosigned."""
        roots: dict[int, bytes] = {}
        for checkpoint, _ in self.cosigned:
            assert roots.setdefault(checkpoint.tree_size, checkpoint.root_hash) == checkpoint.root_hash
        in_order = sorted(self.cosigned, key=lambda cosigned: (cosigned[0].tree_size, cosigned[1]))
        times = [timestamp_s for _, timestamp_s in in_order]
        assert times == sorted(times)
        history = int(roots[self.largest] != self.log.checkpoint(self.largest).root_hash)
        for size1, size2 in pairwise(sorted(roots)):
            path = self.log.proof(size1, size2, history=history)
            verify_consistency(size1, size2, path, roots[size1], roots[size2])


def stream(witness: RealWitness, acknowledged: Acknowledged, number: int) -> None:
    """Submit one checkpoint after the other, of both histories, until the witness is gone."""
    log, chance = acknowledged.log, random.Random(number)

    async def main() -> None:
        async with WitnessClient(witness.url, witness.verifiers) as client:
            old_size = 0
            while True:
                size = min(old_size + chance.randrange(4), log.size)
                history = chance.randrange(2)
                path = log.proof(old_size, size, history=history)
                try:
                    (signature,) = await client.add_checkpoint(
                        old_size, path, log.note(size, history=history), 10
                    )
                except WitnessConflictError as conflict:
                    old_size = conflict.tree_size
                except WitnessRefusedError as refused:
                    assert refused.status == 422
                except RemoteError:
                    return
                else:
                    acknowledged.take(size, history, signature, witness.verifiers[0])
                    old_size = size

    asyncio.run(main())


def test_kills_during_a_stream_of_checkpoints_never_make_it_cosign_two_histories(tmp_path: Path) -> None:
    log = SubmittingLog(fork_at=40, size=3_000)
    directory = make_witness(tmp_path / "w", log)
    acknowledged = Acknowledged(log)
    chance = random.Random(3)
    for number in range(ROUNDS):
        with RealWitness(directory) as witness:
            before = len(acknowledged.cosigned)
            writers = [
                threading.Thread(target=stream, args=(witness, acknowledged, WRITERS * number + writer))
                for writer in range(WRITERS)
            ]
            for writer in writers:
                writer.start()
            until(lambda before=before: len(acknowledged.cosigned) > before + 5)
            time.sleep(chance.uniform(0, 0.15))
            witness.end(signal.SIGKILL)
            for writer in writers:
                writer.join(30)
                assert not writer.is_alive()
    with RealWitness(directory) as witness:
        shown = open_note(monitored(witness, log).content, witness.verifiers)
        kept = parse_checkpoint(shown.text)
        assert kept.tree_size >= acknowledged.largest, "a checkpoint that was cosigned is forgotten"
        acknowledged.take(
            kept.tree_size,
            int(kept != log.checkpoint(kept.tree_size)),
            shown.signatures[0],
            witness.verifiers[0],
        )
    acknowledged.check()
    assert acknowledged.largest > 40, "the histories never parted: the test shows nothing"
    assert len({checkpoint.tree_size for checkpoint, _ in acknowledged.cosigned}) > 20


def test_the_check_of_the_kills_can_fail() -> None:
    log = SubmittingLog(fork_at=3, size=20)
    both = Acknowledged(log)
    both.cosigned = [(log.checkpoint(5), 1), (log.checkpoint(5, history=1), 2)]
    forked = Acknowledged(log)
    forked.cosigned = [(log.checkpoint(5), 1), (log.checkpoint(6, history=1), 2)]
    back_in_time = Acknowledged(log)
    back_in_time.cosigned = [(log.checkpoint(5), 2), (log.checkpoint(6), 1)]
    for wrong in (both, forked, back_in_time):
        with pytest.raises(Exception):  # noqa: B017
            wrong.check()


def test_the_port_of_a_test_is_chosen_by_the_system(tmp_path: Path) -> None:
    directory = make_witness(tmp_path / "w")
    choose_port(directory)
    assert "\nport = 0\n" in (directory / "witness.toml").read_text()


def until(condition: object, timeout_s: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)
