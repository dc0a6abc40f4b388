"""The signer as a real process: what it signs, whom it answers, and what it never tells."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from _support.alliance import ORIGIN, log_signer
from _support.command_line import tlog
from _support.real_program import RealProgram
from _support.real_signer import signing, start_signer
from _support.signers import cosigner

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignatureVerifier
from tlog.errors import ConfigError, SignerAwayError, SignerRefusedError
from tlog.key_file import write_key_file
from tlog.note import Verifier
from tlog.remote_signer import RemoteCosigner, RemoteSigner, SignerLine, log_key_of
from tlog.signer.protocol import Cosign, Refused, Sign, decode_answer, encode_frame

KEY, COSIGNER = log_signer(), cosigner(ORIGIN)


def text(size: int, root: int = 1, origin: str = ORIGIN) -> str:
    return format_checkpoint(Checkpoint(origin, size, bytes([root]) * 32))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[object, ...]:
    write_key_file(tmp_path / "log.key", KEY)
    write_key_file(tmp_path / "cosigner.key", COSIGNER)
    return ("--key", tmp_path / "log.key", "--cosigner-key", tmp_path / "cosigner.key")


@pytest.fixture
def running(tmp_path: Path, keys: tuple[object, ...]) -> Iterator[RealProgram]:
    with signing(tmp_path, *keys, "--new-state") as process:
        yield process


@pytest.fixture
def line(running: RealProgram, tmp_path: Path) -> Iterator[SignerLine]:
    line = SignerLine(tmp_path / "signer.sock", timeout_s=30.0)
    yield line
    line.close()


def test_it_signs_and_cosigns_as_the_keys_themselves_would(line: SignerLine) -> None:
    assert log_key_of(line, ORIGIN) == KEY.vkey
    remote, remote_cosigner = RemoteSigner(line, KEY.vkey), RemoteCosigner(line, ORIGIN)
    assert (remote.name, remote.key_id, remote.public_key) == (KEY.name, KEY.key_id, KEY.public_key)
    for size in (5, 5, 6):
        assert remote.sign(text(size).encode()) == KEY.sign(text(size).encode())
        assert remote_cosigner.cosign(text(size), 99) == COSIGNER.cosign(text(size), 99)
    assert remote_cosigner.vkey == COSIGNER.vkey
    Verifier.from_vkey(remote.vkey)
    CosignatureVerifier.from_vkey(remote_cosigner.vkey)


def test_it_refuses_what_goes_back_also_after_it_was_killed(
    line: SignerLine, running: RealProgram, tmp_path: Path, keys: tuple[object, ...]
) -> None:
    remote, remote_cosigner = RemoteSigner(line, KEY.vkey), RemoteCosigner(line)
    remote.sign(text(10).encode())
    remote_cosigner.cosign(text(8), 1)

    def goes_back() -> None:
        for question, why in ((text(9), "below 10"), (text(10, 2), "another tree of size 10")):
            with pytest.raises(SignerRefusedError, match=why):
                remote.sign(question.encode())
        with pytest.raises(SignerRefusedError, match="another tree of size 8"):
            remote_cosigner.cosign(text(8, 2), 2)
        remote.sign(text(10).encode())
        remote_cosigner.cosign(text(8), 2)

    goes_back()
    running.end(signal.SIGKILL)
    with pytest.raises(SignerAwayError, match="cannot be asked"):
        remote.sign(text(11).encode())
    with signing(tmp_path, *keys):
        goes_back()
    shown = tlog("signer", "show", "--state", tmp_path / "signer-state", "--json").json
    assert {(one["vkey"], one["tree_size"]) for one in shown} == {(KEY.vkey, 10), (COSIGNER.vkey, 8)}
    assert "10" in tlog("signer", "show", "--state", tmp_path / "signer-state").out


def test_each_key_does_its_own_and_for_its_own_log_only(line: SignerLine) -> None:
    for question in (
        Sign(COSIGNER.vkey, text(1)),
        Cosign(KEY.vkey, text(1), 1),
        Sign(KEY.vkey, text(1, origin="log.example/other")),
        Sign(KEY.vkey, "DSSEv1 28 application/cloudevents+json 2 {}\n"),
        Cosign(COSIGNER.vkey, text(1, origin="log.example/other"), 1),
        Cosign(COSIGNER.vkey, text(1), 0),
    ):
        with pytest.raises(SignerRefusedError):
            line.signature(question)
    with pytest.raises(SignerAwayError, match="does not hold the key"):
        line.signature(Sign(log_signer(name="stranger").vkey, text(1)))
    line.signature(Sign(KEY.vkey, text(1)))  # nothing of that left a mark
    with pytest.raises(ConfigError, match="0 keys that sign for"):
        log_key_of(line, "log.example/other")


def test_a_witness_cosigns_any_log_each_with_a_mark_of_its_own(
    tmp_path: Path, keys: tuple[object, ...]
) -> None:
    with (
        signing(tmp_path, *keys[2:], "--new-state", "--cosign-any-origin"),
        closing(SignerLine(tmp_path / "signer.sock")) as line,
    ):
        remote = RemoteCosigner(line)
        remote.cosign(text(9, origin="log.example/one"), 1)
        remote.cosign(text(3, origin="log.example/two"), 1)
        with pytest.raises(SignerRefusedError, match="below 9"):
            remote.cosign(text(3, origin="log.example/one"), 1)


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        encode_frame(b"GET / HTTP/1.1\r\n"),
        encode_frame(b"tlog-signer/v1\nexport\n"),
        encode_frame(b"\xff\xfe"),
    ],
)
def test_whatever_else_is_sent_is_refused_and_hung_up_on(
    line: SignerLine, tmp_path: Path, sent: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(tmp_path / "signer.sock"))
        connection.sendall(sent)
        answered = b""
        while part := connection.recv(4_096):
            answered += part
        assert isinstance(decode_answer(answered[4:]), Refused)
    assert line.vkeys() == (KEY.vkey, COSIGNER.vkey)


def test_half_a_question_and_many_callers_keep_nobody_else_from_asking(
    line: SignerLine, tmp_path: Path
) -> None:
    held = [socket.socket(socket.AF_UNIX) for _ in range(12)]
    try:
        for connection in held:
            connection.connect(str(tmp_path / "signer.sock"))
            connection.sendall(b"\0\0")
        remote = RemoteSigner(line, KEY.vkey)
        errors: list[BaseException] = []

        def sign(size: int) -> None:
            try:
                remote.sign(text(7).encode())
            except BaseException as error:  # noqa: BLE001 - told by the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=sign, args=(size,)) for size in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert errors == []
    finally:
        for connection in held:
            connection.close()


def test_a_signer_that_hangs_is_given_up_in_time_and_found_again(
    line: SignerLine, running: RealProgram, tmp_path: Path
) -> None:
    changes: list[bool] = []

    def note(is_there: bool, reason: str) -> None:
        changes.append(is_there)

    impatient = SignerLine(tmp_path / "signer.sock", timeout_s=0.3, on_change=note)
    remote = RemoteSigner(impatient, KEY.vkey)
    remote.sign(text(1).encode())
    running.send(signal.SIGSTOP)
    try:
        with pytest.raises(SignerAwayError, match="did not answer in time"):
            remote.sign(text(2).encode())
        with pytest.raises(SignerAwayError, match="just now"):
            remote.sign(text(2).encode())
    finally:
        running.send(signal.SIGCONT)
    end = threading.Event()
    while not end.wait(0.1):
        try:
            remote.sign(text(2).encode())
        except SignerAwayError:
            continue
        break
    impatient.close()
    assert changes == [True, False, True]


def test_a_stranger_behind_the_socket_signs_nothing_for_us(tmp_path: Path, keys: tuple[object, ...]) -> None:
    impostor = log_signer(name="impostor")
    write_key_file(tmp_path / "impostor.key", impostor)
    with (
        signing(tmp_path, "--key", tmp_path / "impostor.key", "--new-state"),
        closing(SignerLine(tmp_path / "signer.sock")) as line,
        pytest.raises(SignerAwayError, match="does not hold the key"),
    ):
        RemoteSigner(line, KEY.vkey).sign(text(1).encode())

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "liar.sock"))
    listening.listen()

    def lie() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            wrong = encode_frame(b"signature\n" + b"A" * 86 + b"==\n")
            connection.sendall(wrong)

    thread = threading.Thread(target=lie)
    thread.start()
    with (
        closing(SignerLine(tmp_path / "liar.sock")) as line,
        pytest.raises(SignerAwayError, match="do not verify"),
    ):
        RemoteSigner(line, KEY.vkey).sign(text(1).encode())
    thread.join()
    listening.close()


def test_the_socket_is_its_owners_and_a_dead_one_is_taken_over(
    running: RealProgram, tmp_path: Path, keys: tuple[object, ...]
) -> None:
    assert (tmp_path / "signer.sock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(RuntimeError, match="is in use"):
        start_signer(tmp_path, *keys)
    running.end(signal.SIGKILL)
    assert (tmp_path / "signer.sock").exists()
    with signing(tmp_path, *keys) as again:
        assert again.end() == 0
    assert not (tmp_path / "signer.sock").exists()
    with pytest.raises(RuntimeError, match="nobody knows what its keys have signed"):
        start_signer(tmp_path, *keys, "--state", tmp_path / "lost")


def test_nothing_secret_is_announced_logged_or_shown(
    line: SignerLine, running: RealProgram, tmp_path: Path
) -> None:
    remote = RemoteSigner(line, KEY.vkey)
    remote.sign(text(5).encode())
    with pytest.raises(SignerRefusedError):
        remote.sign(text(4).encode())
    running.end()
    said = running.errors + str(running.announced) + repr(remote) + repr(line)
    said += (tmp_path / "signer-state" / "marks").read_text()
    assert "not signed: size 4 is below 5" in said
    for key in (KEY, COSIGNER):
        assert key.skey.split("+")[-1] not in said
    assert "PRIVATE" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_core_file_gets_the_key(running: RealProgram) -> None:
    limits = Path(f"/proc/{running.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    # Those files of a process that is not dumpable are root's, whoever runs it.
    assert Path(f"/proc/{running.pid}/mem").stat().st_uid == 0
