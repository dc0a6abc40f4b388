"""A log with three real witnesses over real sockets: published means cosigned, and fail closed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from _support.alliance import Alliance, key
from _support.command_line import tlog
from _support.log_directory import CONFIG, COSIGNED_CONFIG, make_log_directory, serving
from _support.monitor_rig import Rig, show
from _support.real_server import RealServer
from _support.real_witness import RealWitness

from tlog.client import LogClient, RetryPolicy
from tlog.cosignature import CosignatureSigner, CosignatureVerifier
from tlog.errors import ConfigError, PolicyError, StaleCheckpointError, TlogError
from tlog.freshness import FreshnessRule, quorum_time_s
from tlog.key_file import write_key_file
from tlog.monitor.grpc_source import GrpcSource
from tlog.note import open_note
from tlog.policy import Policy, open_checkpoint, parse_policy
from tlog.receipt import verify_receipt

ALLIANCE = Alliance()
OWN = CosignatureSigner(name=ALLIANCE.origin, private_key=key("own cosigner"))


class WitnessedRig(Rig):
    """A monitor that asks for the witnesses' quorum."""

    def __init__(self, directory: Path, policy: Policy) -> None:
        super().__init__(directory)
        self._policy = policy

    @property
    def policy(self) -> Policy:
        return self._policy


@dataclass
class Witnessed:
    server: RealServer
    witnesses: list[RealWitness]
    policy: Policy
    config: Path

    def client(self, deadline_s: float = 20.0) -> LogClient:
        retry = RetryPolicy(deadline_s=deadline_s)
        return LogClient(
            self.server.grpc_address, self.policy, checkpoint_file=None, timeout_s=deadline_s, retry=retry
        )


def make_witness(directory: Path, name: str, *options: str) -> None:
    made = tlog("witness", "init", directory, "--name", name, "--log", ALLIANCE.signer.vkey, *options)
    assert made.code == 0, made


@pytest.fixture
def witnessed(tmp_path: Path) -> Iterator[Witnessed]:
    with ExitStack() as stack:
        witnesses = []
        lines = [f"log {ALLIANCE.signer.vkey}"]
        names = []
        for number in range(3):
            directory = tmp_path / f"w{number}"
            # One of them cosigns with ML-DSA-44 as well, which the policy then asks for.
            make_witness(directory, f"w{number}.example", *(["--ml-dsa"] if number == 2 else []))
            witness = stack.enter_context(RealWitness(directory))
            witnesses.append(witness)
            vkey = witness.announced["vkeys"][-1]
            names.append(f"W{number}")
            lines.append(f"witness W{number} {vkey} {witness.url}")
        lines += [f"group quorum-of-two 2 {' '.join(names)}", "quorum quorum-of-two", ""]
        text = "\n".join(lines)
        (tmp_path / "log").mkdir()
        (tmp_path / "log" / "witnesses.policy").write_text(text)
        write_key_file(tmp_path / "log" / "cosigner.key", OWN)
        config = make_log_directory(
            tmp_path / "log",
            ALLIANCE,
            config=COSIGNED_CONFIG
            + '[witnesses]\npolicy_path = "witnesses.policy"\ntimeout_s = 2.0\nrefresh_s = 1.0\n',
        )
        server = stack.enter_context(serving(config))
        yield Witnessed(server, witnesses, parse_policy(text.encode()), config)


def test_receipts_of_a_witnessed_log_meet_the_policy_and_carry_the_logs_own_time(
    witnessed: Witnessed,
) -> None:
    entries = ALLIANCE.entries(0, 5)
    before_s = int(time.time())
    with witnessed.client() as client:
        appended = client.append(entries, cosigned=True)
        for entry, one in zip(entries, appended, strict=True):
            assert verify_receipt(entry, one.receipt, witnessed.policy).tree_size >= len(entries)
        own = CosignatureVerifier.from_vkey(OWN.vkey)
        (signature,) = open_note(appended[0].checkpoint.note, [own]).signatures
        assert before_s <= own.timestamp_s(signature.signature) <= time.time()
        # At commit nobody has cosigned yet: such a receipt says so, and the cosigned one comes later.
        (early,) = client.append([ALLIANCE.entry(10)])
        with pytest.raises(PolicyError, match="lacks cosignatures"):
            verify_receipt(ALLIANCE.entry(10), early.receipt, witnessed.policy)
        again = client.append([ALLIANCE.entry(10)], cosigned=True)
        assert verify_receipt(ALLIANCE.entry(10), again[0].receipt, witnessed.policy)


def test_without_the_quorum_the_log_goes_on_and_publishes_nothing_until_it_is_back(
    witnessed: Witnessed,
) -> None:
    with witnessed.client() as client:
        client.append(ALLIANCE.entries(0, 3), cosigned=True)
        published = client.checkpoint()
        for witness in witnessed.witnesses[:2]:
            witness.program.send(signal.SIGSTOP)
        try:
            (one,) = client.append([ALLIANCE.entry(20)])
            assert one.leaf_index == published.tree_size
            with witnessed.client(deadline_s=3.0) as hasty, pytest.raises(TlogError):
                hasty.append([ALLIANCE.entry(20)], cosigned=True)
            newest = client.checkpoint()
            assert newest.tree_size == published.tree_size
            assert open_checkpoint(newest.note, witnessed.policy)
        finally:
            for witness in witnessed.witnesses[:2]:
                witness.program.send(signal.SIGCONT)
        (one,) = client.append([ALLIANCE.entry(20)], cosigned=True)
        assert verify_receipt(ALLIANCE.entry(20), one.receipt, witnessed.policy)


def test_one_dead_witness_of_three_is_not_missed(witnessed: Witnessed) -> None:
    witnessed.witnesses[0].end(signal.SIGKILL)
    with witnessed.client() as client:
        for number in range(5):
            (one,) = client.append([ALLIANCE.entry(number)], cosigned=True)
            assert verify_receipt(ALLIANCE.entry(number), one.receipt, witnessed.policy)


def test_a_killed_log_publishes_what_it_had_committed_after_its_restart(witnessed: Witnessed) -> None:
    for witness in witnessed.witnesses:
        witness.program.send(signal.SIGSTOP)
    with witnessed.client() as client:
        (one,) = client.append([ALLIANCE.entry(1)])
    witnessed.server.kill()
    for witness in witnessed.witnesses:
        witness.program.send(signal.SIGCONT)
    with serving(witnessed.config) as restarted:
        witnessed.server = restarted
        with witnessed.client() as client:
            (again,) = client.append([ALLIANCE.entry(1)], cosigned=True)
            assert again.leaf_index == one.leaf_index
            assert verify_receipt(ALLIANCE.entry(1), again.receipt, witnessed.policy)


def test_a_client_tells_nothing_new_from_withheld(witnessed: Witnessed) -> None:
    def client(max_age_s: float) -> LogClient:
        rule = FreshnessRule(max_age_s=max_age_s, now_s=time.time)
        address = witnessed.server.grpc_address
        return LogClient(address, witnessed.policy, checkpoint_file=None, freshness=rule)

    with client(60) as patient, client(3) as strict:
        patient.append([ALLIANCE.entry(1)], cosigned=True)
        # Nothing is appended, and refresh_s = 1.0: the quorum's time moves on.
        times_s: set[int | None] = set()
        end_s = time.monotonic() + 60
        while len(times_s) < 3:
            times_s.add(quorum_time_s(patient.checkpoint().note, witnessed.policy))
            assert time.monotonic() < end_s, times_s
            time.sleep(0.2)
        for witness in witnessed.witnesses[:2]:
            witness.program.send(signal.SIGSTOP)
        try:
            with pytest.raises(StaleCheckpointError, match="s ago"):
                while time.monotonic() < end_s + 60:
                    strict.checkpoint()
                    time.sleep(0.2)
        finally:
            for witness in witnessed.witnesses[:2]:
                witness.program.send(signal.SIGCONT)


def test_a_watcher_and_a_monitor_see_over_grpc_that_nothing_new_is_as_of_now(
    witnessed: Witnessed, tmp_path: Path
) -> None:
    rule = FreshnessRule(max_age_s=60, now_s=time.time)
    with LogClient(
        witnessed.server.grpc_address, witnessed.policy, checkpoint_file=None, freshness=rule
    ) as client:
        client.append([ALLIANCE.entry(1)], cosigned=True)
        watching = client.watch_checkpoints()
        seen = [next(watching)]
        times_s = [quorum_time_s(seen[0].note, witnessed.policy) or 0]
        # Late cosignatures come, too; the quorum's time moves with every refresh.
        while len(set(times_s)) < 3:
            seen.append(next(watching))
            times_s.append(quorum_time_s(seen[-1].note, witnessed.policy) or 0)
    assert {checkpoint.tree_size for checkpoint in seen} == {seen[0].tree_size}
    assert times_s == sorted(times_s)
    (tmp_path / "m").mkdir()
    rig = WitnessedRig(tmp_path / "m", witnessed.policy)
    source = GrpcSource(witnessed.server.grpc_address)
    try:
        with rig.monitor(source) as monitor:
            fresh_s: list[float] = []
            end_s = time.monotonic() + 60
            while len(set(fresh_s)) < 2:
                assert time.monotonic() < end_s, fresh_s
                rig.now_s = time.time()
                assert monitor.run_pass(show).problem is None
                fresh_s.append(monitor.health.fresh_s)
                time.sleep(0.2)
        assert fresh_s[0] < fresh_s[-1] <= time.time()
        assert rig.kinds() == []
    finally:
        source.close()


def test_a_witness_policy_that_does_not_name_the_log_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "witnesses.policy").write_text("quorum none\n")
    config = make_log_directory(
        tmp_path / "log",
        ALLIANCE,
        config=CONFIG + '[witnesses]\npolicy_path = "witnesses.policy"\n',
    )
    with pytest.raises(RuntimeError, match="does not name this log"), serving(config):
        raise ConfigError("never reached")
