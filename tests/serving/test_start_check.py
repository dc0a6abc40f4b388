"""Nothing is signed at a start before enough others have said what this log signed last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from _support.alliance import ORIGIN, Alliance, key
from _support.two_histories import TwoHistories

from server import start_check
from server.signing_guard import SigningGuard
from server.start_check import StartCheck
from tlog.cosignature import CosignatureSigner
from tlog.errors import NotCheckedError, ReadOnlyError, RemoteError, WitnessConflictError, WitnessRefusedError
from tlog.log import Log
from tlog.note import Signature, Verifier
from tlog.policy import Policy, build_policy, parse_policy
from tlog.storage.memory import MemoryStore
from tlog.storage.memory_witness_store import MemoryWitnessStore
from tlog.witness.core import Cosigned, WitnessedLog, origin_hash
from tlog.witness.request import format_add_checkpoint
from tlog.witness.witness import Witness

TIME_S = 1_700_000_000


class Shown:
    """A real witness, reached without a network; it can be dead, or without its monitoring endpoint."""

    def __init__(self, name: str, vkey: str) -> None:
        self.url = f"https://{name}"
        self.cosigner = CosignatureSigner(name=name, private_key=key(name))
        log = WitnessedLog(origin=ORIGIN, verifiers=(Verifier.from_vkey(vkey),))
        self.witness = Witness(MemoryWitnessStore(), [self.cosigner], [log], now_s=lambda: TIME_S)
        self.is_dead = False
        self.shows: Callable[[bytes | None], bytes | None] | None = lambda note: note
        self.is_asked = 0

    def cosign(self, note: bytes) -> None:
        assert isinstance(self.witness.add_checkpoint(format_add_checkpoint(0, (), note)), Cosigned)

    async def newest_checkpoint(self, origin: str, timeout_s: float) -> bytes | None:
        self.is_asked += 1
        if self.is_dead:
            raise RemoteError("it is dead")
        if self.shows is None:
            raise WitnessRefusedError("it answered 405", status=405)
        record = self.witness.latest(origin_hash(origin))
        return self.shows(None if record is None else record.note)

    async def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, timeout_s: float
    ) -> Sequence[Signature]:
        answer = self.witness.add_checkpoint(format_add_checkpoint(old_size, proof, note))
        if isinstance(answer, Cosigned):
            return answer.signatures
        if answer.status == 409:
            raise WitnessConflictError("another size", tree_size=int(answer.body))
        raise WitnessRefusedError(answer.body, status=answer.status)


class Rig:
    """A log that was restored at size 6, or was not, and those whom it asks."""

    def __init__(self, *, threshold: int = 2) -> None:
        self.alliance = Alliance()
        signer = self.alliance.signer
        self.log = Log(MemoryStore(signer.name, signer.vkey), signer)
        self.log.append([*self.alliance.governance, *self.alliance.entries(0, 2)])
        self.size = self.log.checkpoint().tree_size
        # The history that was: everything that is here, and three entries more.
        self.truth = TwoHistories(0, signer=signer)
        for entry in [*self.log.entries(0, self.size), *self.alliance.entries(2, 5)]:
            self.truth.trees["main"].append(entry)
        self.guard = SigningGuard()
        self.fatal: list[BaseException] = []
        self.witnesses = [Shown(f"w{number}.example", signer.vkey) for number in range(3)]
        lines = [f"log {signer.vkey}"]
        lines += [f"witness W{n} {w.cosigner.vkey} {w.url}" for n, w in enumerate(self.witnesses)]
        lines += [f"group G {threshold} W0 W1 W2", "quorum G", ""]
        self.policy = parse_policy("\n".join(lines).encode())

    async def start(
        self,
        *,
        policy: Policy | None = None,
        nodes: Sequence[str] = (),
        ask_node: Callable[[str], Awaitable[bool]] | None = None,
    ) -> StartCheck:
        is_witnessed = policy is None
        check = StartCheck(
            self.log,
            self.guard,
            policy=self.policy if policy is None else policy,
            witnesses=self.witnesses if is_witnessed else (),
            nodes=nodes,
            ask_node=ask_node,
            timeout_s=1.0,
            reading=ThreadPoolExecutor(1),
            on_fatal=self.fatal.append,
        )
        await check.start()
        return check

    def run(self) -> None:
        async def once() -> None:
            await (await self.start()).stop()

        asyncio.run(once())

    @property
    def unpublished(self) -> Policy:
        return build_policy([self.alliance.signer.vkey])


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_check, "MIN_PAUSE_S", 0.01)


def test_witnesses_that_hold_nothing_newer_let_the_log_sign(rig: Rig) -> None:
    rig.witnesses[0].cosign(rig.log.checkpoint().note)
    rig.witnesses[1].cosign(rig.truth.note("main", 3))
    rig.run()
    rig.guard.require_signing()


def test_one_witness_with_something_newer_stops_the_signing_and_names_the_gap(rig: Rig) -> None:
    rig.witnesses[2].cosign(rig.truth.note("main", rig.size + 3))
    rig.run()
    with pytest.raises(ReadOnlyError) as caught:
        rig.guard.require_signing()
    message = str(caught.value)
    root = rig.truth.held("main", rig.size + 3).root_hash.hex()
    assert f"the witness at https://w2.example holds size {rig.size + 3}, root {root}" in message
    assert f"entries [{rig.size}, {rig.size + 3}) are missing, it is an older copy" in message
    assert "tlog restore LOG_DIR LOG_DIR --replace ORIGIN --catch-up-from URL" in message


@pytest.mark.parametrize("at", [3, 6])
def test_a_witness_with_another_tree_of_that_size_stops_the_signing(rig: Rig, at: int) -> None:
    other = TwoHistories(at, signer=rig.alliance.signer)
    rig.witnesses[0].cosign(other.note("main", at))
    rig.run()
    with pytest.raises(ReadOnlyError, match=r"these are two histories.*Put a copy of the store's directory"):
        rig.guard.require_signing()


@pytest.mark.parametrize(
    ("threshold", "dead", "signs"),
    [(1, 0, True), (1, 1, False), (2, 1, True), (2, 2, False), (3, 2, True), (3, 3, False)],
)
def test_it_waits_while_those_that_did_not_answer_could_have_made_a_quorum(
    threshold: int, dead: int, signs: bool
) -> None:
    rig = Rig(threshold=threshold)
    for witness in rig.witnesses[:dead]:
        witness.is_dead = True
    rig.run()
    if signs:
        rig.guard.require_signing()
        return
    with pytest.raises(NotCheckedError, match=r"https://w0.example \(it is dead\).*goes on asking"):
        rig.guard.require_signing()


def test_it_goes_on_asking_until_the_witness_is_back(rig: Rig) -> None:
    async def run() -> None:
        for witness in rig.witnesses[:2]:
            witness.is_dead = True
        check = await rig.start()
        with pytest.raises(NotCheckedError):
            rig.guard.require_signing()
        rig.witnesses[0].is_dead = False
        async with asyncio.timeout(30):
            while rig.guard.read_only is not None:
                await asyncio.sleep(0.005)
        await check.stop()

    asyncio.run(run())


def test_a_witness_that_was_away_stops_the_signing_when_it_comes_back_with_more(rig: Rig) -> None:
    async def run() -> None:
        late = rig.witnesses[0]
        late.is_dead = True
        late.cosign(rig.truth.note("main", rig.size + 1))
        check = await rig.start()
        rig.guard.require_signing()
        late.is_dead = False
        async with asyncio.timeout(30):
            while not rig.guard.is_stopped:
                await asyncio.sleep(0.005)
        await check.stop()

    asyncio.run(run())


def test_a_witness_without_a_monitoring_endpoint_answers_by_its_size(rig: Rig) -> None:
    for witness in rig.witnesses:
        witness.shows = None
    rig.witnesses[0].cosign(rig.log.checkpoint().note)
    rig.witnesses[1].cosign(rig.truth.note("main", 2))
    rig.run()
    rig.guard.require_signing()


def test_a_number_alone_stops_no_log_and_is_no_answer_either() -> None:
    rig = Rig(threshold=1)
    rig.witnesses[0].shows = None
    rig.witnesses[0].cosign(rig.truth.note("main", rig.size + 3))
    rig.run()
    assert not rig.guard.is_stopped
    with pytest.raises(
        NotCheckedError, match=f"says that it cosigned size {rig.size + 3}, above the {rig.size}"
    ):
        rig.guard.require_signing()


def test_a_witness_that_refuses_this_tree_for_another_one_of_its_size_has_not_answered() -> None:
    rig = Rig(threshold=1)

    async def refuse(old_size: int, proof: Sequence[bytes], note: bytes, timeout_s: float) -> list[Signature]:
        raise WitnessConflictError("another root", tree_size=old_size)

    rig.witnesses[0].shows = None
    rig.witnesses[0].add_checkpoint = refuse  # type: ignore[method-assign]
    rig.run()
    with pytest.raises(NotCheckedError, match=f"cosigned another tree of size {rig.size}"):
        rig.guard.require_signing()


def test_what_is_not_signed_by_this_logs_key_is_no_answer() -> None:
    stranger = TwoHistories(30)
    for shown in (stranger.note("main", 30), b"junk", b""):
        rig = Rig(threshold=1)
        for witness in rig.witnesses:
            witness.cosign(rig.truth.note("main", rig.size + 1))
            witness.shows = lambda note, shown=shown: shown  # type: ignore[misc]
        rig.run()
        assert not rig.guard.is_stopped
        with pytest.raises(NotCheckedError, match="no checkpoint of this log"):
            rig.guard.require_signing()


def test_with_nobody_to_ask_it_signs(rig: Rig) -> None:
    async def run() -> None:
        await (await rig.start(policy=rig.unpublished)).stop()

    asyncio.run(run())
    rig.guard.require_signing()


@pytest.mark.parametrize(("answering", "signs"), [(0, False), (1, False), (2, True), (3, True)])
def test_without_a_quorum_more_than_half_of_the_nodes_have_to_answer(
    rig: Rig, answering: int, signs: bool
) -> None:
    names = ["a.example:1", "b.example:1", "c.example:1"]

    async def ask(address: str) -> bool:
        return address in names[:answering]

    async def run() -> None:
        await (await rig.start(policy=rig.unpublished, nodes=names, ask_node=ask)).stop()

    asyncio.run(run())
    if signs:
        rig.guard.require_signing()
    else:
        with pytest.raises(NotCheckedError, match=r"the node at c.example:1 \(no answer\)"):
            rig.guard.require_signing()


def test_a_bug_in_one_answer_is_no_answer_and_ends_nothing(rig: Rig) -> None:
    async def ask(address: str) -> bool:
        if address == "a":
            raise ValueError("a bug")
        return True

    async def run() -> None:
        await (await rig.start(policy=rig.unpublished, nodes=["a", "b", "c"], ask_node=ask)).stop()

    asyncio.run(run())
    rig.guard.require_signing()


def test_nobody_who_answered_is_asked_again(rig: Rig) -> None:
    async def run() -> None:
        rig.witnesses[0].is_dead = True
        check = await rig.start()
        async with asyncio.timeout(30):
            while rig.witnesses[0].is_asked < 3:
                await asyncio.sleep(0.005)
        await check.stop()

    asyncio.run(run())
    assert [witness.is_asked for witness in rig.witnesses[1:]] == [1, 1]
