"""Sinks take alerts, hang, fail and come back; the monitor never waits for them, and loses nothing."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from _support.monitor_rig import Rig, show
from _support.signed_tree import SignedTree
from _support.signers import signer

from tlog.errors import StorageError
from tlog.evidence import format_evidence, make_same_size
from tlog.evidence_store import EvidenceStore
from tlog.monitor.alert_book import AlertBook, Record, read_journal
from tlog.monitor.alert_desk import AlertDesk
from tlog.monitor.alerts import Alert, AlertKind
from tlog.monitor.courier import Courier
from tlog.monitor.sinks import CommandSink, JsonLinesSink, LogSink, SinkError, WebhookSink
from tlog.policy import build_policy

RECORD: Record = {
    "id": "00ff",
    "kind": "lag",
    "severity": "warning",
    "resolved": False,
    "message": "behind",
    "action": "Look.",
    "evidence": None,
    "facts": {"n": 1},
}


@dataclass
class Receiver:
    """An HTTP server that answers with `status`, after `delay_s`."""

    status: int = 204
    delay_s: float = 0.0
    bodies: list[object] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    got = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(got.delay_s)
            got.bodies.append(json.loads(body))
            self.send_response(got.status)
            if got.status == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    got.url = f"http://127.0.0.1:{server.server_port}/alerts"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield got
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_the_alert_as_json(receiver: Receiver) -> None:
    WebhookSink(url=receiver.url).deliver(RECORD)
    assert receiver.bodies == [RECORD]


@pytest.mark.parametrize("status", [302, 400, 500])
def test_a_webhook_that_answers_otherwise_has_not_taken_it(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(SinkError, match=str(status)):
        WebhookSink(url=receiver.url).deliver(RECORD)


def test_a_webhook_that_hangs_or_is_not_there_is_given_up(receiver: Receiver) -> None:
    receiver.delay_s = 0.5
    with pytest.raises(SinkError, match="did not answer within"):
        WebhookSink(url=receiver.url, timeout_s=0.1).deliver(RECORD)
    with pytest.raises(SinkError):
        WebhookSink(url="http://127.0.0.1:9/", timeout_s=1).deliver(RECORD)


def test_a_command_gets_the_alert_on_stdin_and_its_kind_in_the_environment(tmp_path: Path) -> None:
    script = f"""
import json, os, sys
alert = json.load(sys.stdin)
open({str(tmp_path / "out")!r}, "w").write(os.environ["TLOG_ALERT_KIND"] + " " + alert["message"])
"""
    CommandSink(command=[sys.executable, "-c", script]).deliver(RECORD)
    assert (tmp_path / "out").read_text() == "lag behind"


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ([sys.executable, "-c", "raise SystemExit(3)"], "exit code 3"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "killed"),
        (["/no/such/program"], "cannot be run"),
    ],
)
def test_a_command_that_fails_or_hangs_has_not_taken_it(command: list[str], found: str) -> None:
    with pytest.raises(SinkError, match=found):
        CommandSink(command=command, timeout_s=0.3).deliver(RECORD)


def test_a_file_gets_a_line_for_each_alert(tmp_path: Path) -> None:
    sink = JsonLinesSink(path=tmp_path / "alerts")
    sink.deliver(RECORD)
    sink.deliver(RECORD)
    assert [json.loads(line) for line in (tmp_path / "alerts").read_text().splitlines()] == [RECORD, RECORD]
    with pytest.raises(SinkError):
        JsonLinesSink(path=tmp_path / "missing" / "alerts").deliver(RECORD)


def test_a_log_line_says_what_and_what_to_do() -> None:
    lines: list[str] = []
    LogSink(write=lines.append).deliver({**RECORD, "evidence": "state/evidence/x"})
    assert lines == ["WARNING lag: behind. Look. [evidence: state/evidence/x]"]


@dataclass
class FlakySink:
    """Fails until it is told to work; `taken` are the ids in order."""

    name: str = "flaky"
    works: bool = False
    taken: list[str] = field(default_factory=list)
    bug: bool = False

    def deliver(self, record: Record) -> None:
        if self.bug:
            raise ZeroDivisionError("a bug in the sink")
        if not self.works:
            raise SinkError("not today")
        self.taken.append(str(record["subject"]))


def lag(number: int) -> Alert:
    return Alert(kind=AlertKind.LAG, subject=str(number), message="behind")


@pytest.mark.parametrize("bug", [False, True])
def test_a_sink_that_fails_stops_nobody_and_gets_everything_when_it_is_back(
    tmp_path: Path, bug: bool
) -> None:
    flaky, good = FlakySink(bug=bug), FlakySink(name="good", works=True)
    book = AlertBook(tmp_path, sinks=["flaky", "good"])
    with AlertDesk(book, [flaky, good], lambda: 100.0, first_delay_s=0.005) as desk:
        for number in range(5):
            desk.tell(lag(number))
        desk.flush(30)
        assert "flaky" in desk.problems
        deadline = time.monotonic() + 30
        while len(good.taken) < 6 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert set(good.taken) == {"0", "1", "2", "3", "4", "sink flaky (since 100)"}
        flaky.works, flaky.bug = True, False
        while len(flaky.taken) < 6 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert sorted(flaky.taken) == sorted(good.taken)
        assert desk.problems == {}


def test_what_was_not_delivered_before_the_end_is_delivered_by_the_next_run(tmp_path: Path) -> None:
    flaky = FlakySink()
    with AlertDesk(AlertBook(tmp_path, sinks=["flaky"]), [flaky], lambda: 1.0, first_delay_s=9.0) as desk:
        desk.tell(lag(1))
        desk.flush(30)
    flaky.works = True
    with AlertDesk(AlertBook(tmp_path, sinks=["flaky"]), [flaky], lambda: 2.0) as desk:
        desk.flush(30)
    assert flaky.taken == ["1", "sink flaky (since 1)"]
    with AlertDesk(AlertBook(tmp_path, sinks=["flaky"]), [flaky], lambda: 3.0) as desk:
        desk.flush(30)
    assert len(flaky.taken) == 2
    assert sum("delivered" in line for line in read_journal(tmp_path)) == 2


def test_a_monitor_goes_on_while_its_only_sink_hangs(rig: Rig) -> None:
    released = threading.Event()

    @dataclass
    class Hanging:
        name: str = "hanging"

        def deliver(self, record: Record) -> None:
            released.wait(120)

    log = rig.log([b"wrong", *rig.alliance.entries(0, 300), b"wrong as well"])
    try:
        with rig.monitor(log, sinks=[Hanging()]) as monitor:
            assert monitor.run_pass(show).problem is None
            assert not released.is_set()
            released.set()
    finally:
        released.set()
    assert rig.kinds() == ["rule_broken", "rule_broken"]


def test_a_webhook_whose_answer_drips_is_given_up_in_its_time() -> None:
    ended = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 204 No Content\r\nX: ")
            while not ended.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        # It drips until it was given up.
        with pytest.raises(SinkError, match="did not answer within"):
            WebhookSink(url=f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout_s=0.3).deliver(RECORD)
        ended.set()
        thread.join()


def test_what_a_command_started_ends_with_it(tmp_path: Path) -> None:
    # Its time is over when the process that it started is there.
    script = f"sleep 300 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(SinkError, match="was killed"):
        CommandSink(command=["sh", "-c", script], timeout_s=3.0).deliver(RECORD)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(1_000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # ended, and nobody has asked for its exit code yet
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def test_half_a_line_that_a_full_disk_left_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "alerts"
    path.write_bytes(b'{"id":"01"}\n{"id":"0')
    JsonLinesSink(path=path).deliver(RECORD)
    JsonLinesSink(path=path).deliver(RECORD)
    lines = path.read_bytes().split(b"\n")
    assert [json.loads(line) for line in (lines[0], lines[2], lines[3])] == [{"id": "01"}, RECORD, RECORD]


def test_a_sink_goes_on_while_the_journal_cannot_be_written() -> None:
    taken = threading.Event()

    class Late:
        name = "late"
        calls = 0

        def deliver(self, record: Record) -> None:
            self.calls += 1
            if self.calls == 1:
                raise SinkError("not yet")
            taken.set()

    def full(name: str, error: Exception) -> None:
        raise StorageError("the disk is full")

    courier = Courier(Late(), delivered=lambda *_: None, failed=full, first_delay_s=0.01)
    courier.send(RECORD)
    assert taken.wait(30)
    courier.close()


def test_what_convicts_is_kept_in_every_store_also_what_a_kill_had_left_out(tmp_path: Path) -> None:
    log = signer("log.example/monitor")
    one, other = SignedTree([b"one"], log), SignedTree([b"other"], log)
    evidence = make_same_size(one.note(1), other.note(1))
    alert = Alert(kind=AlertKind.SPLIT_VIEW, subject="s", message="m", evidence=format_evidence(evidence))
    policy = build_policy([log.vkey])
    directories = [tmp_path / "own", tmp_path / "node"]
    told: list[int] = []
    # The alert was written down, and then the process was killed.
    with AlertDesk(AlertBook(tmp_path), [], lambda: 1.0) as desk:
        desk.tell(alert)
    with AlertDesk(
        AlertBook(tmp_path),
        [],
        lambda: 2.0,
        convictions=[EvidenceStore(directory, policy) for directory in directories],
        on_conviction=lambda: told.append(1),
    ) as desk:
        assert told
        for directory in directories:
            assert EvidenceStore(directory, policy).is_convicted("log.example/monitor")
    # By a policy that lists another key it convicts nobody.
    stranger = build_policy([signer("log.example/monitor", 9).vkey])
    with AlertDesk(
        AlertBook(tmp_path), [], lambda: 3.0, convictions=[EvidenceStore(tmp_path / "else", stranger)]
    ):
        assert not (tmp_path / "else").exists()
