"""`--wait cosigned`, `--max-age` and the log's own cosigner, at a terminal: a real log, a real witness."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from _support.command_line import tlog
from _support.real_server import running
from _support.real_witness import RealWitness
from _support.served_log import BANK, ServedLog

from tlog.key_file import read_cosigner_key_file

ORIGIN = "log.example/witnessed"
EVENT = {
    "source": BANK,
    "type": "trade.claim.reserved.v1",
    "subject": "claim:1",
    "time": "2025-11-03T09:12:44Z",
    "data": {},
}


class Witnessed:
    """Is a log with one witness, which the policy of its members asks for."""

    def __init__(self, log: ServedLog, witness: RealWitness, policy: Path) -> None:
        self.log = log
        self.witness = witness
        self.policy = policy
        self.count = 0

    def run(self, *arguments: object, stdin: bytes = b""):
        return self.log.run(*arguments, stdin=stdin, TLOG_POLICY=str(self.policy))

    def append(self, *arguments: object):
        self.count += 1
        event = json.dumps({"id": f"c{self.count}", **EVENT}).encode()
        return self.run("append", "--key", self.log.key("bank"), *arguments, stdin=event)


@pytest.fixture(scope="module")
def witnessed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witnessed]:
    top = tmp_path_factory.mktemp("witnessed")
    made = tlog("init", top / "log", "--origin", ORIGIN, "--json")
    assert made.code == 0, made
    policy = top / "witnessed.policy"
    tlog("witness", "init", top / "w1", "--name", "w1.example", "--policy", top / "log" / "policy")
    (top / "state").mkdir()
    with ExitStack() as stack:
        witness = stack.enter_context(RealWitness(top / "w1"))
        lines = [
            line
            for line in (top / "log" / "policy").read_text().splitlines()
            if not line.startswith("quorum")
        ]
        lines += [f"witness w1 {witness.announced['vkeys'][0]} {witness.url}", "quorum w1", ""]
        policy.write_text("\n".join(lines))
        overrides = {"witnesses": {"policy_path": str(policy), "timeout_s": 1.0, "refresh_s": 1.0}}
        server = stack.enter_context(running(top / "log", overrides=overrides))
        log = ServedLog(
            directory=top / "log",
            server=server,
            genesis=made.json["genesis_leaf_hash"],
            keys=top,
            state=top / "state",
        )
        log.admit("bank", source=BANK, role="bank")
        yield Witnessed(log, witness, policy)


def test_receipts_of_an_append_that_waited_meet_the_policy_and_say_who_saw_them_when(
    witnessed: Witnessed, tmp_path: Path
) -> None:
    before_s = int(time.time())
    ended = witnessed.append("--wait", "cosigned", "--receipts", tmp_path / "cosigned")
    assert ended.code == 0, ended
    assert "do not meet the quorum" not in ended.err
    verified = tlog("verify", tmp_path / "cosigned", "--policy", witnessed.policy)
    assert verified.code == 0, verified
    assert re.search(r"^witnesses +w1 at 20..-..-..T..:..:..Z$", verified.out, re.M), verified.out
    assert re.search(r"^not later than +20..-..-..T..:..:..Z \(as the log's own", verified.out, re.M)
    document = tlog("verify", tmp_path / "cosigned", "--policy", witnessed.policy, "--json").json
    assert before_s <= document["results"][0]["not_later_than_s"] <= time.time()

    early = witnessed.append("--receipts", tmp_path / "integrated")
    assert early.code == 0
    assert "do not meet the quorum" in early.err
    refused = tlog("verify", tmp_path / "integrated", "--policy", witnessed.policy)
    assert refused.code == 1
    assert "lacks cosignatures" in refused.err


READS = {
    "checkpoint": ("checkpoint",),
    "entries": ("entries", "0", "1"),
    "prove inclusion": ("prove", "inclusion", "0"),
    "prove consistency": ("prove", "consistency", "1", "2"),
    "lookup": ("lookup", "claim:1"),
    "status": ("status",),
}


@pytest.mark.parametrize("command", READS)
def test_a_fresh_log_passes_and_the_quorum_and_its_age_are_told(witnessed: Witnessed, command: str) -> None:
    ended = witnessed.run(*READS[command], "--max-age", 30)
    assert ended.code == 0, ended
    told = re.search(
        r"^fresh: by (20\S+Z) all of quorum 'w1' had cosigned size \d+, (\d+) s before", ended.err, re.M
    )
    assert told, ended.err
    assert int(told[2]) <= 30
    assert "at most 30 s are allowed" in ended.err
    assert "fresh" not in witnessed.run(*READS[command]).err


def test_programs_get_the_quorums_time(witnessed: Witnessed) -> None:
    before_s = time.time() - 30
    document = witnessed.run("checkpoint", "--max-age", 30, "--json").json
    assert before_s <= document["quorum_time_s"] <= time.time()


def test_an_age_that_nothing_can_be_held_against_is_a_usage_error(witnessed: Witnessed) -> None:
    no_quorum = witnessed.log.run("checkpoint", "--max-age", 30)
    assert no_quorum.code == 2
    assert "has no quorum" in no_quorum.err
    at_commit = witnessed.append("--max-age", 30)
    assert at_commit.code == 2
    assert "--wait cosigned" in at_commit.err
    assert witnessed.run("checkpoint", "--max-age", 0).code == 2
    assert witnessed.run("checkpoint", "--max-age", "nan").code == 2


def test_a_witness_that_stopped_makes_the_log_stale_and_an_append_that_waits_fail(
    witnessed: Witnessed, tmp_path: Path
) -> None:
    assert witnessed.append("--wait", "cosigned", "--max-age", 30).code == 0
    witnessed.witness.program.send(signal.SIGSTOP)
    try:
        time.sleep(3.1)
        for command in READS.values():
            ended = witnessed.run(*command, "--max-age", 2)
            assert ended.code == 1, ended
            assert re.search(r"cosigned ([3-9]|[1-9][0-9]+) s ago, and at most 2 s are allowed", ended.err), (
                ended.err
            )
            assert "fresh:" not in ended.err
        document = witnessed.run("checkpoint", "--max-age", 2, "--json").error
        assert (document["code"], document["exit_code"]) == ("stale_checkpoint", 1)
        assert witnessed.append().code == 0
        waited = witnessed.append("--wait", "cosigned", "--timeout", 1)
        assert waited.code == 3
        assert "run the same command again" in waited.err
    finally:
        witnessed.witness.program.send(signal.SIGCONT)
    witnessed.count -= 1
    again = witnessed.append("--wait", "cosigned", "--json")
    assert (again.code, again.json["already_present"]) == (0, 1)


def test_a_policy_that_asks_for_a_witness_who_never_cosigned_is_not_met(
    witnessed: Witnessed, tmp_path: Path
) -> None:
    tlog("witness", "init", tmp_path / "w2", "--name", "w2.example")
    vkey = tlog("witness", "show", tmp_path / "w2", "--json").json["vkeys"][0]
    other = tmp_path / "other.policy"
    other.write_text(witnessed.policy.read_text().replace("quorum w1", f"witness w2 {vkey}\nquorum w2"))
    ended = replace(witnessed.log).run("checkpoint", "--max-age", 30, TLOG_POLICY=str(other))
    assert ended.code == 1
    assert "lacks cosignatures" in ended.err


def test_a_log_as_init_makes_it_dates_its_receipts_and_goes_on_when_nothing_is_appended(
    tmp_path: Path,
) -> None:
    tlog("init", tmp_path / "log", "--origin", ORIGIN)
    own = read_cosigner_key_file(tmp_path / "log" / "cosigner.key").vkey
    policy = tmp_path / "log" / "policy"
    before_s = int(time.time())
    with running(tmp_path / "log", overrides={"witnesses": {"refresh_s": 0.3}}) as server:
        env = {"TLOG_SERVER": server.grpc_address, "TLOG_POLICY": str(policy), "TLOG_STATE": str(tmp_path)}

        def not_later_than_s() -> int:
            assert tlog("receipt", 0, "--out", tmp_path / "r", env=env).code == 0
            ended = tlog("verify", tmp_path / "r.entry", "--policy", policy, "--cosigner", own, "--json")
            assert ended.code == 0, ended
            return int(ended.json["results"][0]["not_later_than_s"])

        first_s = not_later_than_s()
        assert before_s <= first_s <= time.time()
        end_s = time.monotonic() + 60
        while (later_s := not_later_than_s()) <= first_s:
            assert time.monotonic() < end_s
            time.sleep(0.2)
        assert later_s <= time.time()
        assert "cosigner_key_path is not set" not in server.errors
        assert server.stop() == 0


def test_an_older_directory_without_a_cosigner_serves_as_before_and_says_what_is_missing(
    tmp_path: Path,
) -> None:
    tlog("init", tmp_path / "log", "--origin", ORIGIN)
    policy = tmp_path / "log" / "policy"
    policy.write_text("".join(line for line in policy.read_text().splitlines(True) if line[0] in "lq"))
    (tmp_path / "log" / "cosigner.key").unlink()
    overrides = {"log": {"cosigner_key_path": ""}}
    with running(tmp_path / "log", overrides=overrides) as server:
        env = {"TLOG_SERVER": server.grpc_address, "TLOG_POLICY": str(policy), "TLOG_STATE": str(tmp_path)}
        assert tlog("receipt", 0, "--out", tmp_path / "r", env=env).code == 0
        ended = tlog("verify", tmp_path / "r.entry", "--policy", policy)
        assert ended.code == 0
        assert "not later than" not in ended.out
        server.wait_to_say("cosigner_key_path is not set")
        assert f"tlog keygen {ORIGIN} --cosigner" in server.errors


@pytest.mark.parametrize("wrong", ["own cosigner in the quorum", "the signing key for a cosigner"])
def test_a_cosigner_that_could_mislead_is_refused_at_the_start(tmp_path: Path, wrong: str) -> None:
    tlog("init", tmp_path / "log", "--origin", ORIGIN)
    policy = tmp_path / "log" / "policy"
    if wrong.startswith("own"):
        policy.write_text(policy.read_text().replace("quorum none", "quorum log-cosigner"))
        overrides = {"witnesses": {"policy_path": "policy"}}
        said = "counts log-cosigner, which is the log's own"
    else:
        overrides = {"log": {"cosigner_key_path": "log.key"}}
        said = "does not hold one PRIVATE"
    with pytest.raises(RuntimeError, match=said), running(tmp_path / "log", overrides=overrides):
        raise AssertionError("it serves")
