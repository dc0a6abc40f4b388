"""The server with its key in another process: away, killed, hung, rolled back; nothing told is lost."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from _support.alliance import Alliance, key
from _support.command_line import tlog
from _support.log_directory import CONFIG, make_log_directory
from _support.real_server import RealServer, start_with_config
from _support.real_signer import signing, start_signer

from tlog.client import LogClient, RetryPolicy
from tlog.cosignature import CosignatureSigner
from tlog.encrypted_key_file import PassphraseCost
from tlog.errors import RemoteError, TlogError
from tlog.key_file import write_key_file
from tlog.policy import build_policy, open_checkpoint
from tlog.receipt import verify_receipt

SIGNER_CONFIG = CONFIG.replace(
    'key_path = "log.key"',
    'signer_socket = "signer.sock"\nsigner_cosigns = true\nsigner_timeout_s = 0.5',
)
COSIGNER = CosignatureSigner(name=Alliance().origin, private_key=key("own cosigner"))


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


@pytest.fixture
def config(tmp_path: Path, alliance: Alliance) -> Path:
    """Make a log whose server finds no key in its directory."""
    file = make_log_directory(tmp_path, alliance, config=SIGNER_CONFIG)
    (tmp_path / "vault").mkdir()
    for name in ("log.key", "cosigner.key"):
        (tmp_path / name).rename(tmp_path / "vault" / name)
    return file


def signer_arguments(tmp_path: Path) -> tuple[object, ...]:
    vault = tmp_path / "vault"
    return ("--key", vault / "log.key", "--cosigner-key", vault / "cosigner.key")


@contextmanager
def serving(config: Path) -> Iterator[RealServer]:
    server = start_with_config(config)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def client(server: RealServer, alliance: Alliance, *, deadline_s: float = 10.0) -> Iterator[LogClient]:
    policy = build_policy([alliance.signer.vkey])
    retry = RetryPolicy(deadline_s=deadline_s)
    with LogClient(server.grpc_address, policy, checkpoint_file=None, timeout_s=5.0, retry=retry) as client:
        yield client


def signing_problem(server: RealServer) -> str | None:
    """Return what /readyz says about signing; None where nothing is wrong with it."""
    try:
        with urllib.request.urlopen(server.metrics_url.replace("/metrics", "/readyz"), timeout=5) as page:
            body = page.read()
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
    (problem,) = [check.get("reason") for check in json.loads(body)["checks"] if check["check"] == "signing"]
    return None if problem is None else str(problem)


def wait_until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30.0
    while not is_so():
        assert time.monotonic() < end_s, "it did not come to be"
        time.sleep(0.05)


def gauge(server: RealServer, name: str) -> float:
    with urllib.request.urlopen(server.metrics_url, timeout=5) as page:
        (line,) = [line for line in page.read().decode().splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def test_a_server_without_a_key_signs_and_cosigns_through_its_signer(
    config: Path, tmp_path: Path, alliance: Alliance
) -> None:
    with signing(tmp_path, *signer_arguments(tmp_path), "--new-state"), serving(config) as server:
        with client(server, alliance) as log:
            (appended,) = log.append([alliance.entry(1)])
        both = build_policy([alliance.signer.vkey], [COSIGNER.vkey], 1)
        open_checkpoint(appended.checkpoint.note, both)
        verify_receipt(alliance.entry(1), appended.receipt, both)
        assert gauge(server, "tlog_signer_away") == 0
        assert server.stop() == 0
        secret = alliance.signer.skey.split("+")[-1]
        assert secret not in server.errors + str(server.announced)


def test_a_signer_that_dies_is_told_before_the_next_signature_reading_goes_on_and_then_so_does_writing(
    config: Path, tmp_path: Path, alliance: Alliance
) -> None:
    signer = start_signer(tmp_path, *signer_arguments(tmp_path), "--new-state")
    try:
        with serving(config) as server, client(server, alliance, deadline_s=4.0) as log:
            log.append([alliance.entry(1)])
            wait_until(lambda: signing_problem(server) is None)
            note = log.checkpoint().note
            signer.end(signal.SIGKILL)
            # It is noticed by a question, before anything is to be signed.
            wait_until(lambda: "cannot be asked" in (signing_problem(server) or ""))
            assert (gauge(server, "tlog_signer_away"), gauge(server, "tlog_ready")) == (1, 0)
            for command in ("status", "doctor"):
                told = tlog(command, server.metrics_url.removesuffix("/metrics"))
                assert told.code != 0
                assert "cannot be asked" in told.out + told.err
            with pytest.raises(RemoteError, match=r"UNAVAILABLE.*signer.*cannot be asked.*reading goes on"):
                log.append([alliance.entry(2)])
            assert gauge(server, "tlog_signer_away") == 1
            assert log.checkpoint().tree_size == 5
            assert [entry for _, entry in log.entries(4)] == [alliance.entry(1)]
            signer = start_signer(tmp_path, *signer_arguments(tmp_path))
            wait_until(lambda: signing_problem(server) is None)
            assert (gauge(server, "tlog_signer_away"), gauge(server, "tlog_ready")) == (0, 1)
            assert log.checkpoint().note == note
            (appended,) = log.append([alliance.entry(3)])
            # What was asked for while it was away came first, so that no size was signed twice.
            assert appended.leaf_index == 6
            assert log.append([alliance.entry(2)])[0].leaf_index == 5
            assert gauge(server, "tlog_signer_away") == 0
            assert "is there again" in server.errors
            assert server.stop() == 0
    finally:
        signer.end(signal.SIGKILL)


def test_a_server_that_is_started_while_its_signer_is_away_reads_and_writes_once_it_comes(
    config: Path, tmp_path: Path, alliance: Alliance
) -> None:
    with serving(config) as server, client(server, alliance, deadline_s=4.0) as log:
        assert log.checkpoint().tree_size == 4
        with pytest.raises(RemoteError, match="signer"):
            log.append([alliance.entry(1)])
        with signing(tmp_path, *signer_arguments(tmp_path), "--new-state"):
            (appended,) = log.append([alliance.entry(1)])
            open_checkpoint(
                appended.checkpoint.note, build_policy([alliance.signer.vkey], [COSIGNER.vkey], 1)
            )
            assert server.stop() == 0


def test_a_signer_that_hangs_is_told_and_waited_for_no_longer_than_agreed(
    config: Path, tmp_path: Path, alliance: Alliance
) -> None:
    with signing(tmp_path, *signer_arguments(tmp_path), "--new-state") as signer, serving(config) as server:
        with client(server, alliance, deadline_s=1.0) as log:
            log.append([alliance.entry(1)])
            signer.send(signal.SIGSTOP)
            began_s = time.monotonic()
            try:
                with pytest.raises(TlogError, match=r"in time|just now"):
                    log.append([alliance.entry(2)])
            finally:
                signer.send(signal.SIGCONT)
            assert time.monotonic() - began_s < 6
        with client(server, alliance) as log:
            assert log.append([alliance.entry(2)])[0].leaf_index == 5
        assert server.stop() == 0


def test_kill_9_of_server_and_signer_at_any_moment_leaves_a_log_that_can_sign(
    config: Path, tmp_path: Path, alliance: Alliance
) -> None:
    """A batch that was signed and not committed is committed after the restart, as the signer knows it."""
    policy = build_policy([alliance.signer.vkey])
    receipts: dict[int, bytes] = {}
    number = 0
    signer = start_signer(tmp_path, *signer_arguments(tmp_path), "--new-state")
    try:
        for round_number in range(4):
            server = start_with_config(config)
            try:
                with client(server, alliance, deadline_s=2.0) as log:
                    for _ in range(8):
                        number += 1
                        (appended,) = log.append([alliance.entry(number)])
                        receipts[number] = appended.receipt
                    if round_number % 2:
                        # So that the next batch is written down and perhaps signed, and never committed.
                        signer.send(signal.SIGSTOP)
                    number += 1
                    future = append_in_background(log, alliance.entry(number))
                    time.sleep(0.02 * round_number)
                    server.kill()
                    signer.end(signal.SIGKILL)
                    with suppress(TlogError):
                        future.result(30)
            finally:
                server.kill()
            signer = start_signer(tmp_path, *signer_arguments(tmp_path))
        with serving(config) as server, client(server, alliance) as log:
            # The same entries again: each is there once, at one index, whatever became of the first attempt.
            indices = [log.append([alliance.entry(one)])[0].leaf_index for one in range(1, number + 1)]
            assert len(set(indices)) == number
            assert log.checkpoint().tree_size == 4 + number
            assert server.stop() == 0
    finally:
        signer.end(signal.SIGKILL)
    for one, receipt in receipts.items():
        verify_receipt(alliance.entry(one), receipt, policy)


def test_an_older_copy_of_the_store_is_never_signed_again(
    config: Path, tmp_path: Path, alliance: Alliance
) -> None:
    with signing(tmp_path, *signer_arguments(tmp_path), "--new-state"):
        with serving(config) as server, client(server, alliance) as log:
            log.append([alliance.entry(1)])
            assert server.stop() == 0
        old = (tmp_path / "store" / "data.mdb").read_bytes()
        with serving(config) as server, client(server, alliance) as log:
            log.append(alliance.entries(2, 5))
            log.append([alliance.entry(5)])
            assert server.stop() == 0
        # Restored by hand; one batch would come back out of store/pending.batch, two do not.
        (tmp_path / "store" / "data.mdb").write_bytes(old)
        with serving(config) as server, client(server, alliance, deadline_s=4.0) as log:
            for number in (9, 10):
                with pytest.raises(RemoteError, match=r"refuses to sign.*(below 9|rolled back)"):
                    log.append([alliance.entry(number)])
            assert log.checkpoint().tree_size == 5
            assert server.stop() == 0


def test_the_signer_is_told_by_its_file_and_its_passphrase_by_a_descriptor(
    tmp_path: Path, alliance: Alliance
) -> None:
    """A server with an encrypted key file, as `tlog serve DIR 3< passphrase` starts it."""
    passphrase = "of the log alone"
    file = make_log_directory(tmp_path, alliance)
    for name, key_ in (("log.key", alliance.signer), ("cosigner.key", COSIGNER)):
        (tmp_path / name).unlink()
        cheap = PassphraseCost(operations=1, memory_bytes=8_192)
        write_key_file(tmp_path / name, key_, passphrase=passphrase.encode(), cost=cheap)
    with pytest.raises(RuntimeError, match=r"is encrypted.*key_passphrase_fd"):
        start_with_config(file)
    file.write_text(file.read_text().replace("[log]", "[log]\nkey_passphrase_fd = 0"))
    for given, is_right in (("another", False), (passphrase, True)):
        read, write = os.pipe()
        os.write(write, f"{given}\n".encode())
        os.close(write)
        kept = os.dup(0)
        try:
            # The server inherits descriptor 0, as it does from a shell.
            os.dup2(read, 0)
            if not is_right:
                with pytest.raises(RuntimeError, match="not the one of this key") as caught:
                    start_with_config(file)
                assert given not in str(caught.value)
                continue
            server = start_with_config(file)
        finally:
            os.dup2(kept, 0)
            os.close(kept)
            os.close(read)
        try:
            with client(server, alliance) as log:
                log.append([alliance.entry(1)])
            limits = Path(f"/proc/{server.pid}/limits").read_text()
            (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
            assert core.split()[4:6] == ["0", "0"]
            assert server.stop() == 0
            said = server.errors + json.dumps(server.announced)
            assert passphrase not in said
            assert alliance.signer.skey.split("+")[-1] not in said
        finally:
            server.kill()


def append_in_background(log: LogClient, entry: bytes) -> Future[object]:
    pool = ThreadPoolExecutor(1)
    future: Future[object] = pool.submit(log.append, [entry])
    pool.shutdown(wait=False)
    return future
