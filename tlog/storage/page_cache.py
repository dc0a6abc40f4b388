"""Before a data file is built upon: make the disk have what the page cache shows of it.

What is read comes from the page cache, and that may be ahead of the disk. A writer that was killed within
a sync leaves pages that are not on the disk yet: a sync writes them. But where a sync *failed*, Linux takes
the pages for clean: they stay in the cache, are never written, and the next sync finds nothing to do and
succeeds. Whoever trusts that cache answers for a commit that a power cut takes back.

Only one write can be in that state and count. LMDB writes the pages of a commit and syncs them, and only
when that succeeded it switches a meta page; pages whose sync failed are in no tree. So both meta pages are
written here anew, as they were read: they are dirty again, and the sync that follows writes them, or fails
and is told.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tlog.errors import StorageError
from tlog.storage.lmdb_header import DATA_FILE_NAME, META_PAGE_BYTES, read_meta


def settle_data_file(directory: Path, *, forget: bool) -> None:
    """Make durable what the page cache shows of a data file; for its one writer, before it is mapped.

    With `forget` the cache lets go of it, so that all that is read from here on comes from the disk (but for
    what another process has mapped). Raises StorageError when the disk does not take it, CorruptionError when
    the file has no meta page.
    """
    path = directory / DATA_FILE_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            first = os.pread(descriptor, META_PAGE_BYTES, 0)
            second_at = read_meta(path, first).page_bytes
            os.fdatasync(descriptor)
            for at in (0, second_at):
                page = os.pread(descriptor, META_PAGE_BYTES, at)
                if os.pwrite(descriptor, page, at) != len(page):
                    raise OSError(errno.EIO, "a meta page was written short")
            os.fdatasync(descriptor)
            if forget:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be made durable ({error.strerror}), and perhaps the disk does not have what it "
            "shows: check that this user may read and write it, and the disk"
        ) from error
