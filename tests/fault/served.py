"""The real server in a process with a stand-in before its disk and its clock: `python -m tests.fault.served`.

The first argument is the plan, in JSON; the others are the server's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def _main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from fault.disk_stand_in import DiskStandIn, Plan

    DiskStandIn(Plan(**json.loads(sys.argv[1]))).install()
    from server.program import main

    return main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(_main())
