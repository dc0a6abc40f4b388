"""What the server program tells on its standard output when it serves."""

from __future__ import annotations

import json
import sys


class Announce:
    """Tells, once, where the server listens and what it serves; nothing secret."""

    def __init__(self, *, as_json: bool) -> None:
        """Tell it as one line of JSON, or as lines for people."""
        self._as_json = as_json

    def __call__(self, **facts: str | int | None) -> None:
        """Write the line, or the lines."""
        if self._as_json:
            sys.stdout.write(json.dumps({"event": "serving", **facts}) + "\n")
        else:
            width = max(map(len, facts))
            lines = (f"  {name:<{width}}  {value}" for name, value in facts.items() if value is not None)
            sys.stdout.write("tlog serves\n" + "\n".join(lines) + "\nStop with Ctrl-C.\n")
        sys.stdout.flush()
