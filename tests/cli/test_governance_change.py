"""`tlog governance rotate`: who governs, and which key the log signs with, changes without losing the log."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from _support.command_line import Ended, tlog
from _support.real_server import RealServer, running, start
from _support.real_witness import RealWitness

from tlog.checkpoint import parse_checkpoint
from tlog.note import parse_note
from tlog.receipt import parse_receipt

ORIGIN = "log.example/rotating"


class Log:
    """Is a log's directory with a bank that may append, and the commands run against its server."""

    def __init__(self, top: Path) -> None:
        made = tlog("init", top / "log", "--origin", ORIGIN, "--json")
        assert made.code == 0, made
        self.top = top
        self.directory = top / "log"
        self.policy = top / "policy"
        self.policy.write_bytes((self.directory / "policy").read_bytes())
        self.vkey = str(made.json["vkey"])
        self.genesis = str(made.json["genesis_leaf_hash"])
        self.count = 0
        self.server: RealServer | None = None

    def run(self, *arguments: object, stdin: bytes = b"") -> Ended:
        assert self.server is not None
        env = {
            "TLOG_SERVER": self.server.grpc_address,
            "TLOG_POLICY": str(self.policy),
            "TLOG_STATE": str(self.top / "state"),
            "TLOG_GENESIS": self.genesis,
        }
        return tlog(*arguments, stdin=stdin, env=env)

    def keygen(self, name: str) -> Path:
        path = self.top / f"{name.rsplit('/', maxsplit=1)[-1]}.key"
        assert tlog("keygen", name, "--out", path).code == 0
        return path

    def governor(self, number: int) -> Path:
        return self.directory / "governance" / f"{number}.key"

    def signed(self, *numbers: int) -> tuple[object, ...]:
        return tuple(part for number in numbers for part in ("--sign", self.governor(number)))

    def await_published(self, *, log_vkeys: list[str]) -> None:
        """Wait until the witnesses have cosigned the change: what is shown is what is published."""
        end_s = time.monotonic() + 20
        while self.run("governance", "show", "--json").json["log_vkeys"] != log_vkeys:
            assert time.monotonic() < end_s
            time.sleep(0.1)

    def admit_bank(self) -> None:
        bank = self.keygen("bank")
        ended = self.run(
            *("member", "add", "bank", "--name", "Bank", "--source", "urn:example:bank", "--role", "bank"),
            *("--key", f"{bank}.vkey", *self.signed(1, 2)),
        )
        assert ended.code == 0, ended

    def append(self, receipts: Path) -> Ended:
        self.count += 1
        event = {
            "id": f"claim-{self.count}",
            "source": "urn:example:bank",
            "type": "trade.claim.reserved.v1",
            "subject": f"claim:{self.count}",
            "time": "2025-11-03T09:12:44Z",
        }
        key = ("--key", self.top / "bank.key")
        return self.run("append", *key, "--receipts", receipts, stdin=json.dumps(event).encode())


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_governance_keys_are_exchanged_by_the_old_and_the_new_threshold(log: Log) -> None:
    with running(log.directory) as log.server:
        shown = log.run("governance", "show", "--json").json
        assert (shown["threshold"], len(shown["governance_keys"]), shown["log_vkeys"]) == (2, 3, [log.vkey])
        old = shown["governance_keys"]
        new = [log.keygen(f"new-{number}") for number in range(3)]
        change = ("governance", "rotate", "--threshold", 3, "--json")
        change += tuple(part for path in new for part in ("--add-key", f"{path}.vkey"))
        change += ("--remove-key", old[1], "--remove-key", old[2])
        too_few = log.run(*change, *log.signed(1, 2), "--sign", new[0])
        assert too_few.code == 2
        assert "2 of 2 old governance signatures, 2 of 3 new" in too_few.error["message"]
        new_alone = log.run(*change, *(part for path in new for part in ("--sign", path)))
        assert "0 of 2 old governance signatures" in new_alone.error["message"]
        done = log.run(*change, *log.signed(1, 2), "--sign", new[0], "--sign", new[1])
        assert done.code == 0, done
        after = log.run("governance", "show", "--json").json
        assert (after["threshold"], len(after["governance_keys"]), after["governance_keys"][0]) == (
            3,
            4,
            old[0],
        )
        # The old ones alone govern no more; the new ones do.
        assert log.run("rules", "set", "--catalogue", *log.signed(1, 2)).code == 2
        signed = tuple(part for path in new for part in ("--sign", path))
        assert log.run("rules", "set", "--catalogue", *signed).code == 0
        assert "3 of 4 must sign" in log.run("governance", "show").out


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--remove-key", "0" * 64),
        ("--threshold", "4"),
        ("--threshold", "0"),
        ("--add-log-key", "no vkey"),
        ("--add-log-key", "log.example/other+6e1d3f45+AYU5jS3sPqxuYbVMEs6GPfQNdNQvVmJgTrHGHTa5ha+q"),
        ("--remove-log-key", "log.example/rotating+00000000+AAAA"),
    ],
)
def test_a_change_that_cannot_be_is_a_usage_error(served, options: tuple[str, ...]) -> None:
    ended = served.run("governance", "rotate", *options, "--out", served.state / "x", "--json")
    assert ended.code == 2, ended
    assert not (served.state / "x").exists()


def test_the_log_moves_to_a_new_key_and_every_old_receipt_stays_good(log: Log, tmp_path: Path) -> None:
    """The drill of docs/operations.md, "Rotate keys": every step of it, with a witness that follows."""
    old_receipts, new_receipts = tmp_path / "old", tmp_path / "new"
    made = tlog("witness", "init", tmp_path / "w", "--name", "w1.example", "--log", log.vkey)
    assert made.code == 0, made
    with RealWitness(tmp_path / "w") as witness:
        lines = log.policy.read_text().replace("quorum none\n", "")
        log.policy.write_text(f"{lines}witness w1 {witness.announced['vkeys'][0]} {witness.url}\nquorum w1\n")
        overrides = {"witnesses": {"policy_path": str(log.policy)}}
        with running(log.directory, overrides=overrides) as log.server:
            log.admit_bank()
            assert log.append(old_receipts).code == 0
            new_key = log.keygen(ORIGIN)
            new_vkey = Path(f"{new_key}.vkey").read_text().strip()
            # Not before governance names it:
            without = log.run("governance", "rotate", "--remove-log-key", log.vkey, *log.signed(1, 2))
            assert without.code == 2
            named = log.run("governance", "rotate", "--add-log-key", f"{new_key}.vkey", *log.signed(1, 2))
            assert named.code == 0, named
            assert "need policies that list the new log key" in named.err
            log.await_published(log_vkeys=[log.vkey, new_vkey])
            last = log.run("governance", "rotate", "--remove-log-key", log.vkey, *log.signed(1, 2), "--json")
            assert last.code == 1
            assert "that this log signs with" in last.error["message"]

        old_policy = tmp_path / "old-policy"
        old_policy.write_text(log.policy.read_text())
        log.policy.write_text(f"log {new_vkey}\n{log.policy.read_text()}")
        assert tlog("witness", "add-log", tmp_path / "w", "--log", new_vkey).code == 0
        witness.program.send(signal.SIGHUP)

        overrides["log"] = {"key_path": str(new_key)}
        with running(log.directory, overrides=overrides) as log.server:
            assert log.server.announced["vkey"] == new_vkey
            assert log.append(new_receipts).code == 0
            waited = log.run("checkpoint", "--json")
            assert waited.code == 0, waited
            stranger = ("--policy", old_policy, "--state", tmp_path / "other-state", "--json")
            refused = log.run("checkpoint", *stranger)
            assert (refused.code, refused.error["code"]) == (1, "signature"), refused
            dropped = log.run("governance", "rotate", "--remove-log-key", log.vkey, *log.signed(1, 2))
            assert dropped.code == 0, dropped
            assert "policies keep the old log key" in dropped.err
            fresh = tmp_path / "fresh"
            fresh.mkdir()
            assert log.run("receipt", 3, "--out", fresh / "old").code == 0

    (old_entry,) = old_receipts.glob("*.entry")
    (new_entry,) = new_receipts.glob("*.entry")
    plain = tmp_path / "plain"
    plain.write_text(f"log {log.vkey}\nlog {new_vkey}\nquorum none\n")
    for entry in (old_entry, new_entry):
        assert tlog("verify", entry, "--policy", plain).code == 0
    only_new = tmp_path / "only-new"
    only_new.write_text(f"log {new_vkey}\nquorum none\n")
    assert tlog("verify", new_entry, "--policy", only_new).code == 0
    assert tlog("verify", old_entry, "--policy", only_new).code == 1
    assert tlog("verify", fresh / "old.entry", "--policy", only_new).code == 0
    checkpoint = parse_receipt(old_entry.with_suffix(".tlog-proof").read_bytes()).checkpoint
    assert parse_note(checkpoint)[1][0].name == ORIGIN


def test_a_second_key_that_was_named_beforehand_outlives_the_loss_of_the_first(
    log: Log, tmp_path: Path
) -> None:
    spare = log.keygen(ORIGIN)
    with running(log.directory) as log.server:
        log.admit_bank()
        assert log.append(tmp_path / "receipts").code == 0
        assert log.run("governance", "rotate", "--add-log-key", f"{spare}.vkey", *log.signed(1, 2)).code == 0
    (log.directory / "log.key").unlink()
    log.policy.write_text(f"log {Path(f'{spare}.vkey').read_text()}{log.policy.read_text()}")
    with running(log.directory, overrides={"log": {"key_path": str(spare)}}) as log.server:
        assert log.append(tmp_path / "receipts").code == 0
        assert log.run("status").code == 0
    for entry in (tmp_path / "receipts").glob("*.entry"):
        assert tlog("verify", entry, "--policy", log.policy).code == 0


def test_a_key_that_governance_does_not_name_starts_no_server(log: Log) -> None:
    stranger = log.keygen(ORIGIN)
    with pytest.raises(RuntimeError, match=r"governance names .*add-log-key"):
        start(log.directory, overrides={"log": {"key_path": str(stranger)}})
    with running(log.directory) as log.server:
        assert log.run("status").code == 0


def test_a_loss_is_accepted_by_name_and_by_governance_and_then_the_log_goes_on(
    log: Log, tmp_path: Path
) -> None:
    with running(log.directory) as log.server:
        log.admit_bank()
        assert log.append(tmp_path / "receipts").code == 0
    (log.directory / "high-water.mark").unlink()
    with running(log.directory) as log.server:
        refused = log.append(tmp_path / "refused")
        assert refused.code != 0, refused
        assert "high-water mark" in refused.err
        here = parse_checkpoint(parse_note(log.run("checkpoint").out.encode())[0])
        command = ("accept-loss", "--size", here.tree_size, "--root", here.root_hash.hex())
        command += ("--reason", "the disk burnt", "--json")
        no_root = ("accept-loss", "--size", 1, "--root", "x", "--reason", "none")
        assert "--root is no root hash" in log.run(*no_root, *log.signed(1, 2)).err
        half = log.run(*command, "--lost-size", 99, *log.signed(1, 2))
        assert half.code == 2, half
        assert "this loss cannot be accepted: " in half.error["message"]
        too_few = log.run(*command, *log.signed(1))
        assert (too_few.code, log.append(tmp_path / "still").code) == (2, refused.code), too_few
        done = log.run(*command, *log.signed(1, 2))
        assert done.code == 0, done
        assert log.append(tmp_path / "after").code == 0
