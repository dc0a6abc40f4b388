from __future__ import annotations

from pathlib import Path

from _support import child


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk's: not a byte can be written."""
    script = f"""
import resource
from pathlib import Path
from tlog.errors import StoreInUseError
from tlog.storage.writer_lock import WriterLock
directory = Path({str(tmp_path)!r})
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
for _ in range(2):
    lock = WriterLock(directory)
    try:
        WriterLock(directory)
    except StoreInUseError as error:
        print(error)
    lock.release()
"""
    out = child.run(script)
    assert out.count(f"{tmp_path} is in use: process unknown writes to it") == 2
