"""A process that appends to real logs in forks of itself: a round costs a fork and no start of Python.

Each fork puts a stand-in before its disk, opens store and high-water mark as the server does, appends, and
writes down what was acknowledged when. It may be killed at any step of that.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Acknowledged:
    """What one append was answered; `failed` where it was not."""

    time_ns: int
    entries: list[bytes]
    leaf_indices: tuple[int, ...]
    receipts: list[bytes]
    note: bytes
    failed: str = ""


@dataclass(frozen=True)
class Run:
    """How a fork ended (0, or the negative number of a signal), and what it was answered."""

    code: int
    answers: list[Acknowledged]

    @property
    def went_on(self) -> bool:
        """Whether an append was answered after one had failed."""
        has_failed = [bool(answer.failed) for answer in self.answers]
        return has_failed != sorted(has_failed)

    @property
    def failures(self) -> list[str]:
        return [answer.failed for answer in self.answers if answer.failed]


class Appender:
    """Is that process; one caller at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fault.appender"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        directory: Path,
        batches: Sequence[Sequence[int]],
        plan: dict[str, Any] | None = None,
        *,
        read: bool = False,
    ) -> Run:
        """Append batches of events, each by its number, to a log, with a plan for its disk.

        With `read` nothing is appended: every entry is read, with its receipt.
        """
        answers = directory.with_name(f"{directory.name}-answers")  # on no disk that is full
        answers.unlink(missing_ok=True)
        order = {
            "directory": str(directory),
            "batches": [list(batch) for batch in batches],
            "plan": plan,
            "answers": str(answers),
            "read": read,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return Run(code, _answers_of(answers))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def _answers_of(path: Path) -> list[Acknowledged]:
    answers = []
    if path.exists():
        with path.open("rb") as file:
            while file.peek(1):
                answers.append(Acknowledged(**pickle.load(file)))
    return answers


def _main() -> None:
    import lmdb.cpython  # noqa: F401 - loaded once, for all forks
    from _support.alliance import Alliance
    from fault import disk_stand_in, linked_calls  # noqa: F401

    from server import loss_desk, signing_guard  # noqa: F401
    from tlog import log, marked_store  # noqa: F401

    alliance = Alliance()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 70
            try:
                _append(alliance, json.loads(line))
                code = 0
            except BaseException:  # noqa: BLE001 - nothing of a fork may get back into the loop
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _append(alliance: Any, order: dict[str, Any]) -> None:
    from fault.disk_stand_in import DiskStandIn, Plan

    from server.loss_desk import LossDesk
    from server.signing_guard import SigningGuard
    from tlog.errors import StateUnknownError, TlogError
    from tlog.log import Log
    from tlog.marked_store import MarkedStore
    from tlog.storage.high_water_mark import HighWaterMarkFile
    from tlog.storage.lmdb_store import LmdbStore

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    directory = Path(order["directory"])
    answers = os.open(order["answers"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    really_write = os.write

    def answer(acknowledged: Acknowledged) -> None:
        really_write(answers, pickle.dumps(asdict(acknowledged)))

    def failed(error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        answer(Acknowledged(time.monotonic_ns(), [], (), [], b"", told))

    if order["read"]:
        _read(directory, answer)
        return
    if order["plan"] is not None:
        DiskStandIn(Plan(directory=str(directory), **order["plan"])).install()
    guard = SigningGuard()
    try:
        store = LmdbStore.open(directory / "store", alliance.origin, None)
        mark = HighWaterMarkFile(directory / "mark", alliance.origin)
        marked = MarkedStore(store, mark)
        log = Log(marked, alliance.signer, before_signing=guard.require_signing)
        LossDesk(log, marked, mark, guard)
    except TlogError as error:  # what ends a server's start with a sentence
        failed(error)
        return
    for numbers in order["batches"]:
        entries = [alliance.entry(number) for number in numbers]
        try:
            appended = log.append(entries)
        except StateUnknownError as error:
            # The server ends here; what it leaves is what a process leaves that ends.
            failed(error)
            return
        except TlogError as error:
            failed(error)
            continue
        receipts = [log.receipt(index) for index in appended.leaf_indices]
        answer(
            Acknowledged(
                time.monotonic_ns(),
                entries,
                appended.leaf_indices,
                receipts,
                appended.checkpoint.note,
            )
        )
    log.close()
    mark.close()


def _read(directory: Path, answer: Callable[[Acknowledged], None]) -> None:
    from tlog.errors import TlogError
    from tlog.log_view import LogView
    from tlog.storage.lmdb_store import LmdbStore

    try:
        store = LmdbStore.open(directory / "store", None, None, read_only=True)
        with store.reader() as reader:
            view = LogView(reader)
            under = view.published()
            size = min(view.tree_size, under.tree_size)  # a size that is damaged may be without end
    except TlogError:
        return
    for index in range(size):
        try:
            with store.reader() as reader:
                view = LogView(reader)
                entries, receipt = view.entries(index, index + 1), view.receipt(index, under)
        except TlogError:
            continue
        answer(Acknowledged(time.monotonic_ns(), entries, (index,), [receipt], under.note))
    store.close()


if __name__ == "__main__":
    _main()
