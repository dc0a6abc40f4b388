"""Makes `python -m tlog` the command line."""

from __future__ import annotations

import sys

from tlog.cli import main

if __name__ == "__main__":
    sys.exit(main())
