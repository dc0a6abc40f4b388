"""What every process of a run inherits, so that hundreds of them start quickly.

Set while this file is loaded, which is before the test files are, and before pytest-xdist starts its workers.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Python keeps byte code, whatever the caller's environment says: compiling is a third of a server's start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The authorities of the system are a tenth of it: aiohttp reads them all when it is imported. One whose key
# nobody has stands for them, for nothing here talks to the world.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "_support" / "nobodys_authority.pem")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Take one worker more than there are cores: tests of real processes wait a third of their time."""
    return len(os.sched_getaffinity(0)) + 1
