"""Stand between this process and its disk: record, fail, tear or kill at each write and each sync.

Every write and sync of LMDB (through its library's calls into libc) and of this project's own files
(through `os`) below one directory is a *step*, numbered from 1. A plan says what happens at which. The code
under test is not touched and does not know.

Why not strace: it is not everywhere, has to be allowed, and cannot do half a write, or play what Linux does
after a sync that failed: pages in the cache that nobody will ever write, and no error for whoever opens the
file next.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pickle
import resource
import signal
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""

C_LONG, C_INT, C_SIZE, C_POINTER = ctypes.c_long, ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "pwrite": (C_LONG, C_INT, C_POINTER, C_SIZE, C_LONG),
    "write": (C_LONG, C_INT, C_POINTER, C_SIZE),
    "writev": (C_LONG, C_INT, C_POINTER, C_INT),
    "fdatasync": (C_INT, C_INT),
    "fsync": (C_INT, C_INT),
    "ftruncate": (C_INT, C_INT, C_LONG),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to happen below `directory`; steps are numbered from 1, 0 is never."""

    directory: str
    kill_at: int = 0
    kill_how: str = "before"
    """before, after, torn (a part of a write), or lost: in the cache, and the disk will never have it."""
    fail_from: int = 0
    fail_count: int = 10**9
    fail_writes: bool = True
    fail_syncs: bool = True
    error: int = errno.EIO
    most_file_bytes: int = 0
    """How long a file may become, by the kernel's own limit, which cuts writes short."""
    record: str = ""
    """A file that every step is appended to, as pickled Steps."""
    clock: str = ""
    """A file with the seconds that this process' clock is off by, read at each look at the clock."""


@dataclass(frozen=True)
class Step:
    """One write (`data` at `offset`) or sync of a file, and what became of it."""

    time_ns: int
    path: str
    kind: str  # write, sync, truncate
    offset: int
    data: bytes
    outcome: str  # done, failed (nothing reached the cache), lost (it is in the cache only)
    is_through: bool = False  # a write that returns when it is on the disk


class DiskStandIn:
    """Does what a plan says, in this process, from `install` on."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._root = os.path.realpath(plan.directory) + "/"
        self._lock = threading.RLock()
        if plan.record and Path(plan.record).exists():
            # Whoever was killed while it wrote a step down has left a part of one.
            os.truncate(plan.record, _read_record(Path(plan.record))[1])
        self._record: BinaryIO | None = Path(plan.record).open("ab", buffering=0) if plan.record else None  # noqa: SIM115
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._kept: list[object] = []
        self.steps = 0

    def install(self) -> None:
        """Take the place of the calls."""
        import lmdb.cpython
        from fault.linked_calls import replace_calls

        self._libc.lseek.argtypes, self._libc.lseek.restype = (C_INT, C_LONG, C_INT), C_LONG
        addresses = {}
        for name, (result, *arguments) in PROTOTYPES.items():
            getattr(self._libc, name).argtypes = arguments
            getattr(self._libc, name).restype = result
            callback = ctypes.CFUNCTYPE(result, *arguments, use_errno=True)(getattr(self, f"_{name}"))
            self._kept.append(callback)
            addresses[name] = ctypes.cast(callback, C_POINTER).value or 0
        found = replace_calls(Path(lmdb.cpython.__file__), addresses)
        assert found >= {"pwrite", "fdatasync"}, f"LMDB calls only {found}"
        self._install_in_os()
        if self._plan.most_file_bytes:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._plan.most_file_bytes, hard))
        if self._plan.clock:
            real, clock = time.time, Path(self._plan.clock)
            time.time = lambda: real() + float(clock.read_text())

    def _install_in_os(self) -> None:
        real_pwrite, real_write, real_fsync, real_fdatasync = os.pwrite, os.write, os.fsync, os.fdatasync
        self._os_write = real_write

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            whole = bytes(data)
            step = self._step(fd, "write", offset, whole)
            return self._checked(lambda part: real_pwrite(fd, part, offset), step, whole)

        def sync(real: Callable[[int], None]) -> Callable[[int], None]:
            def run(fd: Any) -> None:
                number = fd if isinstance(fd, int) else fd.fileno()
                self._checked(lambda _: real(number) or 0, self._step(number, "sync"))

            return run

        os.pwrite = pwrite  # type: ignore[assignment]
        os.fsync, os.fdatasync = sync(real_fsync), sync(real_fdatasync)  # type: ignore[assignment]

    # What LMDB calls.

    def _pwrite(self, fd: int, address: int, size: int, offset: int) -> int:
        data = ctypes.string_at(address, size)
        step = self._step(fd, "write", offset, data)
        return self._answer(lambda part: self._libc.pwrite(fd, part, len(part), offset), step, data)

    def _write(self, fd: int, address: int, size: int) -> int:
        return self._write_here(fd, ctypes.string_at(address, size))

    def _writev(self, fd: int, vectors: int, count: int) -> int:
        pairs = struct.iter_unpack("<QQ", ctypes.string_at(vectors, 16 * count))
        return self._write_here(fd, b"".join(ctypes.string_at(address, size) for address, size in pairs))

    def _write_here(self, fd: int, data: bytes) -> int:
        step = self._step(fd, "write", self._libc.lseek(fd, 0, os.SEEK_CUR), data)
        return self._answer(lambda part: self._libc.write(fd, part, len(part)), step, data)

    def _fdatasync(self, fd: int) -> int:
        return self._answer(lambda _: self._libc.fdatasync(fd), self._step(fd, "sync"))

    def _fsync(self, fd: int) -> int:
        return self._answer(lambda _: self._libc.fsync(fd), self._step(fd, "sync"))

    def _ftruncate(self, fd: int, size: int) -> int:
        return self._answer(lambda _: self._libc.ftruncate(fd, size), self._step(fd, "truncate", size))

    # What becomes of it.

    def _step(self, fd: int, kind: str, offset: int = 0, data: bytes = b"") -> Step | None:
        """Describe what is about to be done; None where it is none of ours."""
        try:
            path = str(Path(f"/proc/self/fd/{fd}").readlink())
        except OSError:
            return None
        if not f"{path}/".startswith(self._root) or path.endswith(("lock.mdb", "writer.lock")):
            return None
        is_through = kind == "write" and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DSYNC)
        name = f"{path}/".removeprefix(self._root).rstrip("/") or "."
        return Step(time.monotonic_ns(), name, kind, offset, data, "done", is_through)

    def _answer(self, real: Callable[[bytes], int], step: Step | None, data: bytes = b"") -> int:
        """Do a step for C: -1 and errno where it fails."""
        try:
            return self._checked(real, step, data)
        except OSError as error:
            ctypes.set_errno(error.errno or errno.EIO)
            return -1

    def _checked(self, real: Callable[[bytes], int], step: Step | None, data: bytes = b"") -> int:
        """Do a step for Python: OSError where it fails."""
        if step is None:
            return real(data)
        with self._lock:
            failure = self._before(step, real)
            if failure:
                raise OSError(failure, os.strerror(failure))
            done = real(data)
            self._after(step)
            return done

    def _before(self, step: Step, real: Callable[[bytes], int]) -> int:
        """Kill or fail where the plan says so; returns the error number, 0 to go on."""
        plan = self._plan
        self.steps += 1
        if self.steps == plan.kill_at and plan.kill_how != "after":
            if plan.kill_how == "torn" and step.kind == "write":
                sectors = len(step.data) // SECTOR_BYTES
                part = step.data[: SECTOR_BYTES * (sectors // 2)] or step.data[: len(step.data) // 2]
                self._write_down(step, data=part)
                real(part)
            elif plan.kill_how == "lost":
                if step.kind == "write":
                    real(step.data)
                self._write_down(step, outcome="lost")
            os.kill(os.getpid(), signal.SIGKILL)
        if not plan.fail_from <= self.steps < plan.fail_from + plan.fail_count or not plan.fail_from:
            return 0
        is_sync = step.kind == "sync" or step.is_through
        if not (plan.fail_syncs if is_sync else plan.fail_writes):
            return 0
        if is_sync and plan.error == errno.EIO:
            if step.kind == "write":
                real(step.data)
            self._write_down(step, outcome="lost")
        else:
            self._write_down(step, outcome="failed")
        return plan.error

    def _after(self, step: Step) -> None:
        self._write_down(step)
        if self.steps == self._plan.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _write_down(self, step: Step, **changes: Any) -> None:
        if self._record is not None:
            whole = Step(**{**step.__dict__, "time_ns": time.monotonic_ns(), **changes})
            self._os_write(self._record.fileno(), pickle.dumps(whole))


def steps_of(record: Path) -> list[Step]:
    """Read what was recorded, up to where the process was killed."""
    return _read_record(record)[0]


def _read_record(record: Path) -> tuple[list[Step], int]:
    """Read every whole step, and how many bytes they take."""
    steps: list[Step] = []
    with record.open("rb") as file:
        while True:
            end = file.tell()
            try:
                steps.append(pickle.load(file))
            except (EOFError, pickle.UnpicklingError):
                return steps, end
