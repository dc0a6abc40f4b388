"""Makes `python -m server` run the server."""

from __future__ import annotations

import sys

from server.program import main

if __name__ == "__main__":
    sys.exit(main())
