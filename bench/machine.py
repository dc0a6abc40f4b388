"""Says on what a run was made: machine, kernel, Python, releases, commit, settings."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import lmdb
import psutil

from bench.measure import median
from bench.served import REPOSITORY
from bench.settings import Settings

_PACKAGES = (
    "cffi", "cryptography", "grpcio", "lmdb", "matplotlib", "msgspec", "protobuf", "psutil", "PyNaCl",
)  # fmt: skip


def describe_run(settings: Settings) -> dict[str, object]:
    """Return everything that somebody needs who compares this run with another one, for JSON."""
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {**asdict(settings), "folder": str(folder)},
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "file_system": _file_system(folder),
            "fsync_us": round(_fsync_us(folder), 1),
        },
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES} | {"liblmdb": _lmdb_release()},
        "commit": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on: the longest mount point above it."""
    path = str(folder.resolve())
    above = [
        (len(part.mountpoint), part.fstype)
        for part in psutil.disk_partitions(all=True)
        if path.startswith(part.mountpoint.rstrip("/") + "/")
    ]
    return max(above)[1] if above else "unknown"


def _fsync_us(folder: Path) -> float:
    """Return the median of how long it takes to make 4 kB durable."""
    times_us = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(20):
            file.write(bytes(4096))
            file.flush()
            started_s = perf_counter()
            os.fdatasync(file.fileno())
            times_us.append((perf_counter() - started_s) * 1e6)
    return median(times_us)


def _lmdb_release() -> str:
    return ".".join(map(str, lmdb.version(lib_version=0)))


def _commit() -> str:
    """Return the commit that is measured, "+" and a digest of what differs from it; "" without git."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("diff", "HEAD", "--", "tlog", "server", "bench")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + (f"+{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
