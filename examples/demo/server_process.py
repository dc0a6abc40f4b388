"""The real server as a process of its own: started, waited for, stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from examples.demo.folder import Folder
from tlog.errors import RemoteError

STOP_TIMEOUT_S = 30.0


@contextmanager
def running_server(folder: Folder) -> Iterator[str]:
    """Run the server while the block runs; yields its gRPC address. Raises RemoteError when it fails."""
    with folder.server_log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "--config", str(folder.config), "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        # The line comes once the port is open and health says SERVING; end of file means it gave up.
        line = process.stdout.readline()
        if not line:
            raise RemoteError(f"the server did not start: {folder.server_log} says why")
        yield str(json.loads(line)["grpc"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()
