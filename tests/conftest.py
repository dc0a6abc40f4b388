"""Lets Python keep byte code for the whole run, whatever the caller's environment says.

Hundreds of processes are started here, and each would compile all that it loads: a third of its start. Set
while this file is loaded, which is before the test files are, and before workers of pytest-xdist inherit it.
"""

from __future__ import annotations

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
