"""The publisher on a real log and real witnesses (without HTTP), some of them slow, dead or odd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from _support.alliance import ORIGIN, Alliance, key

from server import witnessed_publisher
from server.metrics import Metrics
from server.own_cosigner import OwnCosigner
from server.publisher import CheckpointFeed
from server.witnessed_publisher import WitnessedPublisher
from tlog.checkpoint import Checkpoint
from tlog.cosignature import CosignatureSigner, CosignatureVerifier
from tlog.errors import (
    RemoteError,
    StateUnknownError,
    StorageError,
    WitnessConflictError,
    WitnessRefusedError,
)
from tlog.log import Log
from tlog.note import Signature, Verifier, open_note, parse_note
from tlog.policy import Policy, build_policy, open_checkpoint, parse_policy
from tlog.receipt import verify_receipt
from tlog.storage.memory import MemoryStore
from tlog.storage.memory_witness_store import MemoryWitnessStore
from tlog.witness.core import Cosigned, WitnessedLog, origin_hash
from tlog.witness.request import format_add_checkpoint
from tlog.witness.witness import Witness

TIME_S = 1_700_000_000


class NearWitness:
    """A real witness, reached without a network; it can be made slow, dead, or refused."""

    def __init__(self, name: str, vkey: str) -> None:
        self.url = f"near:{name}"
        self.cosigner = CosignatureSigner(name=name, private_key=key(name))
        log = WitnessedLog(origin=ORIGIN, verifiers=(Verifier.from_vkey(vkey),))
        self.ticks = False
        """Whether its clock goes on by a second each time that it is asked."""
        self.witness = Witness(
            MemoryWitnessStore(),
            [self.cosigner],
            [log],
            now_s=lambda: TIME_S + (len(self.asked) if self.ticks else 0),
        )
        self.open = asyncio.Event()
        self.open.set()
        self.is_dead = False
        self.asked: list[int] = []
        self.is_closed = False

    async def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, timeout_s: float
    ) -> Sequence[Signature]:
        self.asked.append(old_size)
        try:
            async with asyncio.timeout(timeout_s):
                await self.open.wait()
        except TimeoutError as error:
            raise RemoteError("too slow") from error
        if self.is_dead:
            raise RemoteError("dead")
        answer = self.witness.add_checkpoint(format_add_checkpoint(old_size, proof, note))
        if isinstance(answer, Cosigned):
            return answer.signatures
        if answer.status == 409:
            raise WitnessConflictError("another size", tree_size=int(answer.body))
        raise WitnessRefusedError(answer.body, status=answer.status)

    async def newest_checkpoint(self, origin: str, timeout_s: float) -> bytes | None:
        if self.is_dead:
            raise RemoteError("dead")
        record = self.witness.latest(origin_hash(origin))
        return None if record is None else record.note

    async def aclose(self) -> None:
        self.is_closed = True


class FullStore(MemoryStore):
    """A real store on a disk that is full now and then, or whose writes break off."""

    failures: list[Exception]

    def __init__(self, origin: str, log_vkey: str) -> None:
        super().__init__(origin, log_vkey)
        self.failures = []

    def publish(self, checkpoint: bytes) -> None:
        if self.failures:
            raise self.failures.pop()
        super().publish(checkpoint)


class Rig:
    """One log with three witnesses of which `threshold` are needed."""

    def __init__(self, threading: ThreadPoolExecutor, *, threshold: int, refresh_s: float) -> None:
        self.alliance = Alliance()
        signer = self.alliance.signer
        self.store = FullStore(signer.name, signer.vkey)
        self.log = Log(self.store, signer, publish_at_commit=False)
        self.witnesses = [NearWitness(f"w{number}.example", signer.vkey) for number in range(3)]
        self.policy = build_policy(
            [signer.vkey], [witness.cosigner.vkey for witness in self.witnesses], threshold
        )
        self.metrics = Metrics()
        with self.log.view() as view:
            self.feed = CheckpointFeed(view.published(), self.metrics)
        self.fatal: list[BaseException] = []
        self.own = CosignatureSigner(name=ORIGIN, private_key=key("own cosigner"))
        self.own_verifier = CosignatureVerifier.from_vkey(self.own.vkey)
        self.now_s = TIME_S
        self.publisher = WitnessedPublisher(
            self.log,
            self.feed,
            self.metrics,
            policy=self.policy,
            witnesses=self.witnesses,
            cosigner=OwnCosigner(self.own, now_s=lambda: self.now_s),
            timeout_s=0.5,
            refresh_s=refresh_s,
            reading=threading,
            on_fatal=self.fatal.append,
        )

    def append(self, *entries: bytes) -> int:
        signed = self.log.append(entries).checkpoint
        self.publisher.committed(signed)
        return signed.tree_size

    async def published(self, tree_size: int) -> bytes:
        async with asyncio.timeout(30):
            newest = await self.feed.wait_beyond(tree_size - 1)
        assert newest is not None
        return newest.note


@asynccontextmanager
async def rig(*, threshold: int = 2, refresh_s: float = 60.0) -> AsyncIterator[Rig]:
    with ThreadPoolExecutor(2) as threads:
        made = Rig(threads, threshold=threshold, refresh_s=refresh_s)
        made.publisher.start()
        try:
            yield made
        finally:
            await made.publisher.stop()
            assert all(witness.is_closed for witness in made.witnesses)
            assert made.fatal == []


def signers(note: bytes) -> set[str]:
    return {signature.name for signature in parse_note(note)[1]}


def test_a_checkpoint_is_published_with_the_quorum_and_the_logs_own_time() -> None:
    async def scenario() -> None:
        async with rig() as r:
            size = r.append(*r.alliance.governance)
            note = await r.published(size)
            assert open_checkpoint(note, r.policy).tree_size == size
            opened = open_note(note, [r.own_verifier])
            assert r.own_verifier.timestamp_s(opened.signatures[0].signature) == TIME_S
            receipt = r.log.receipt(0)
            assert verify_receipt(r.alliance.governance[0], receipt, r.policy).tree_size == size

    asyncio.run(scenario())


def test_a_round_makes_one_proof_and_checks_no_signature_before_the_quorum_may_be_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with rig(threshold=3) as r:
            before = r.append(*r.alliance.governance)
            await r.published(before)
            proven: list[tuple[int, int | None]] = []
            checked: list[int] = []

            def prove(size1: int, size2: int | None = None) -> list[bytes]:
                proven.append((size1, size2))
                return Log.prove_consistency(r.log, size1, size2)

            def open_counted(note: bytes, policy: Policy) -> Checkpoint:
                checked.append(len(parse_note(note)[1]))
                return open_checkpoint(note, policy)

            monkeypatch.setattr(r.log, "prove_consistency", prove)
            monkeypatch.setattr(witnessed_publisher, "open_checkpoint", open_counted)
            size = r.append(r.alliance.entry(1))
            await r.published(size)
            assert proven == [(before, size)]
            assert checked == [5], "the log's signature, its own cosignature, and three witnesses'"

    asyncio.run(scenario())


def test_without_the_quorum_nothing_is_published_and_commits_go_on() -> None:
    async def scenario() -> None:
        async with rig() as r:
            for witness in r.witnesses[:2]:
                witness.is_dead = True
            r.append(*r.alliance.governance)
            size = r.append(r.alliance.entry(1))
            await asyncio.sleep(0.7)
            assert r.feed.newest.tree_size == 0
            assert r.log.checkpoint().tree_size == size
            # Backoff: a dead witness is asked now and then, not in a loop.
            assert len(r.witnesses[0].asked) <= 4
            r.witnesses[0].is_dead = False
            assert open_checkpoint(await r.published(size), r.policy).tree_size == size

    asyncio.run(scenario())


def test_a_slow_witness_delays_nobody_and_its_answer_is_added_when_it_comes() -> None:
    async def scenario() -> None:
        async with rig() as r:
            slow = r.witnesses[2]
            slow.open.clear()
            size = r.append(*r.alliance.governance)
            note = await r.published(size)
            assert slow.cosigner.name not in signers(note)
            slow.open.set()
            async with asyncio.timeout(30):
                while slow.cosigner.name not in signers(r.feed.newest.note):
                    await asyncio.sleep(0.01)
            assert open_checkpoint(r.feed.newest.note, r.policy).tree_size == size

    asyncio.run(scenario())


def test_what_was_committed_during_a_round_is_cosigned_as_one_by_the_next() -> None:
    async def scenario() -> None:
        async with rig(threshold=3) as r:
            for witness in r.witnesses:
                witness.open.clear()
            first = r.append(*r.alliance.governance)
            await asyncio.sleep(0.05)
            for number in range(20):
                last = r.append(r.alliance.entry(number))
            for witness in r.witnesses:
                witness.open.set()
            await r.published(last)
            assert r.feed.newest.tree_size == last
            assert all(len(witness.asked) <= 3 for witness in r.witnesses)
            assert first < last

    asyncio.run(scenario())


def test_a_publisher_that_does_not_know_where_its_witnesses_are_finds_out() -> None:
    async def scenario() -> None:
        async with rig() as r:
            size = r.append(*r.alliance.governance)
            await r.published(size)
            await r.publisher.stop()
            for witness in r.witnesses:
                # What a restart forgets: the sizes.
                witness.asked.clear()
            fresh = WitnessedPublisher(
                r.log,
                r.feed,
                Metrics(),
                policy=r.policy,
                witnesses=r.witnesses,
                cosigner=None,
                timeout_s=0.5,
                refresh_s=60,
                reading=ThreadPoolExecutor(1),
                on_fatal=r.fatal.append,
            )
            fresh.start()
            later = r.log.append([r.alliance.entry(1)]).checkpoint
            fresh.committed(later)
            assert open_checkpoint(await r.published(later.tree_size), r.policy)
            await fresh.stop()
            assert any(witness.asked[:2] == [0, size] for witness in r.witnesses)

    asyncio.run(scenario())


def test_a_witness_that_is_ahead_of_the_log_is_an_alarm_and_gives_nothing() -> None:
    async def scenario() -> None:
        async with rig(threshold=3) as r:
            size = r.append(*r.alliance.governance)
            await r.published(size)
            # The same log, further on: an older copy of the store was put back here.
            signer = r.alliance.signer
            further = Log(MemoryStore(signer.name, signer.vkey), signer)
            further.append(r.alliance.governance)
            ahead = further.append(r.alliance.entries(0, 5)).checkpoint
            witness = r.witnesses[0]
            proof = further.prove_consistency(size)
            await witness.add_checkpoint(size, proof, ahead.note, 1.0)
            r.append(r.alliance.entry(100))
            await asyncio.sleep(0.5)
            assert r.feed.newest.tree_size == size
            text = r.metrics.registry.get_sample_value(
                "tlog_publish_witness_calls_total", {"witness": witness.url, "outcome": "RemoteError"}
            )
            assert text is not None
            assert text >= 1

    asyncio.run(scenario())


def test_when_nothing_is_appended_a_fresh_cosignature_is_still_obtained() -> None:
    async def scenario() -> None:
        async with rig(refresh_s=0.2) as r:
            size = r.append(*r.alliance.governance)
            await r.published(size)
            r.now_s = TIME_S + 100
            async with asyncio.timeout(30):
                while True:
                    opened = open_note(r.feed.newest.note, [r.own_verifier])
                    if r.own_verifier.timestamp_s(opened.signatures[0].signature) == TIME_S + 100:
                        break
                    await asyncio.sleep(0.02)
            assert r.feed.newest.tree_size == size
            r.now_s = TIME_S
            await asyncio.sleep(0.5)
            opened = open_note(r.feed.newest.note, [r.own_verifier])
            assert r.own_verifier.timestamp_s(opened.signatures[0].signature) == TIME_S + 100

    asyncio.run(scenario())


def test_a_disk_that_was_full_once_does_not_end_publishing() -> None:
    async def scenario() -> None:
        async with rig() as r:
            r.store.failures.append(StorageError("no space left: nothing was written"))
            size = r.append(*r.alliance.governance)
            assert open_checkpoint(await r.published(size), r.policy).tree_size == size
            assert r.store.failures == []

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", [StateUnknownError("EIO"), RuntimeError("a bug")])
def test_what_only_a_restart_can_mend_is_told_and_never_ends_publishing_in_silence(
    failure: Exception,
) -> None:
    async def scenario() -> None:
        async with rig() as r:
            r.store.failures.append(failure)
            r.append(*r.alliance.governance)
            async with asyncio.timeout(30):
                while not r.fatal:
                    await asyncio.sleep(0.01)
            r.fatal.clear()

    asyncio.run(scenario())


def test_a_witness_that_has_cosigned_is_left_in_peace_while_another_is_missing() -> None:
    async def scenario() -> None:
        async with rig(threshold=3) as r:
            r.witnesses[2].is_dead = True
            size = r.append(*r.alliance.governance)
            await asyncio.sleep(1.5)
            assert r.feed.newest.tree_size == 0
            assert [len(witness.asked) for witness in r.witnesses[:2]] == [1, 1]
            r.witnesses[2].is_dead = False
            assert open_checkpoint(await r.published(size), r.policy).tree_size == size
            assert [len(witness.asked) for witness in r.witnesses[:2]] == [1, 1]

    asyncio.run(scenario())


def test_a_cosignature_that_grows_old_while_another_is_missing_is_asked_for_again() -> None:
    async def scenario() -> None:
        async with rig(threshold=3, refresh_s=0.3) as r:
            r.witnesses[2].is_dead = True
            r.append(*r.alliance.governance)
            await asyncio.sleep(1.0)
            assert 2 <= len(r.witnesses[0].asked) <= 5

    asyncio.run(scenario())


def test_a_refresh_keeps_what_was_cosigned_by_a_witness_that_is_gone_since() -> None:
    async def scenario() -> None:
        async with rig(threshold=1, refresh_s=0.1) as r:
            size = r.append(*r.alliance.governance)
            await r.published(size)
            everybody = {ORIGIN, *(witness.cosigner.name for witness in r.witnesses)}
            async with asyncio.timeout(30):
                while signers(r.feed.newest.note) != everybody:
                    await asyncio.sleep(0.01)
            for witness in r.witnesses[1:]:
                witness.is_dead = True
            before = len(r.witnesses[0].asked)
            async with asyncio.timeout(30):
                while len(r.witnesses[0].asked) < before + 3:
                    assert signers(r.feed.newest.note) == everybody
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_witness_that_answers_with_an_older_cosignature_takes_no_newer_one_away() -> None:
    class Replaying(NearWitness):
        first: Sequence[Signature] = ()

        async def add_checkpoint(
            self, old_size: int, proof: Sequence[bytes], note: bytes, timeout_s: float
        ) -> Sequence[Signature]:
            answer = await super().add_checkpoint(old_size, proof, note, timeout_s)
            self.first = self.first or answer
            return self.first if len(self.asked) > 2 else answer

    async def scenario() -> None:
        async with rig(threshold=3, refresh_s=0.1) as r:
            verifier = CosignatureVerifier.from_vkey(r.witnesses[0].cosigner.vkey)
            for witness in r.witnesses:
                witness.__class__ = Replaying
                witness.ticks = True
            r.append(*r.alliance.governance)
            async with asyncio.timeout(30):
                while len(r.witnesses[0].asked) < 5:
                    await asyncio.sleep(0.01)
            (cosignature,) = open_note(r.feed.newest.note, [verifier]).signatures
            assert verifier.timestamp_s(cosignature.signature) == TIME_S + 2

    asyncio.run(scenario())


def test_a_bug_that_a_witness_meets_is_told_and_does_not_end_publishing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(NearWitness):
        async def add_checkpoint(
            self, old_size: int, proof: Sequence[bytes], note: bytes, timeout_s: float
        ) -> Sequence[Signature]:
            raise UnicodeEncodeError("ascii", "\u00fc", 0, 1, "what the library said once")

    async def scenario() -> None:
        async with rig(threshold=2) as r:
            r.witnesses[0].__class__ = Odd
            size = r.append(*r.alliance.governance)
            assert open_checkpoint(await r.published(size), r.policy).tree_size == size

    asyncio.run(scenario())
    assert "a bug" in caplog.text
    assert "UnicodeEncodeError" in caplog.text


def test_late_cosignatures_add_up() -> None:
    async def scenario() -> None:
        async with rig(threshold=1) as r:
            for witness in r.witnesses[1:]:
                witness.open.clear()
            size = r.append(*r.alliance.governance)
            await r.published(size)
            for witness in r.witnesses[1:]:
                witness.open.set()
            async with asyncio.timeout(30):
                while len(signers(r.feed.newest.note) - {ORIGIN}) < 3:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_stop_gives_the_last_commit_its_chance() -> None:
    async def scenario() -> None:
        async with rig() as r:
            r.append(*r.alliance.governance)
            size = r.append(r.alliance.entry(1))
        assert r.feed.newest.tree_size == size

    asyncio.run(scenario())


def test_a_policy_without_this_log_or_a_witness_without_a_url_is_refused(tmp_path) -> None:
    from server.witness_policy import read_policy, witness_clients
    from tlog.errors import ConfigError

    alliance = Alliance()
    log = Log(MemoryStore(alliance.origin, alliance.signer.vkey), alliance.signer)
    witness = CosignatureSigner(name="w.example", private_key=key("w"))
    file = tmp_path / "policy"
    file.write_text("quorum none\n")
    with pytest.raises(ConfigError, match="does not name this log"):
        read_policy(file, log)
    with pytest.raises(ConfigError, match="cannot be used"):
        read_policy(tmp_path / "absent", log)
    with pytest.raises(ConfigError, match="no URL"):
        witness_clients(parse_policy(f"witness w {witness.vkey}\nquorum w\n".encode()))
    clients = witness_clients(
        parse_policy(f"witness w {witness.vkey} http://127.0.0.1:1\nquorum w\n".encode())
    )
    assert [client.url for client in clients] == ["http://127.0.0.1:1"]


def test_one_witness_is_asked_once_however_its_url_ends() -> None:
    from server.witness_policy import witness_clients

    vkeys = [CosignatureSigner(name="w.example", private_key=key(f"w{number}")).vkey for number in range(2)]
    lines = [
        f"witness {number} {vkey} http://127.0.0.1:1/w{'/' * number}" for number, vkey in enumerate(vkeys)
    ]
    (client,) = witness_clients(parse_policy("\n".join([*lines, "quorum none\n"]).encode()))
    assert client.url == "http://127.0.0.1:1/w"


def test_more_witnesses_than_a_checkpoint_can_carry_are_refused_at_the_start(tmp_path: Path) -> None:
    from server.witness_policy import MAX_COSIGNERS, read_policy
    from tlog.errors import ConfigError

    alliance = Alliance()
    log = Log(MemoryStore(alliance.origin, alliance.signer.vkey), alliance.signer)
    file = tmp_path / "policy"
    for count in (MAX_COSIGNERS, MAX_COSIGNERS + 1):
        names = (f"w{number}.example" for number in range(count))
        vkeys = [CosignatureSigner(name=name, private_key=key(name)).vkey for name in names]
        witnesses = [f"witness {number} {vkey} http://127.0.0.1:1" for number, vkey in enumerate(vkeys)]
        file.write_text("\n".join([f"log {log.vkey}", *witnesses, "quorum none\n"]))
        if count == MAX_COSIGNERS:
            assert len(read_policy(file, log).witnesses) == MAX_COSIGNERS
        else:
            with pytest.raises(ConfigError, match=f"room for {MAX_COSIGNERS}"):
                read_policy(file, log)
