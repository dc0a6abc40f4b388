"""The drills of docs/operations.md, run as they stand there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
DRILLS = re.findall(r"^### Drill: (.+)\n((?:(?!^##).*\n)*)", PAGE, flags=re.M)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.timeout(
    450
)  # half a minute of work, most of it starts of processes, on whatever is left of a core
def test_every_drill_works_as_it_stands_on_the_page(tmp_path: Path) -> None:
    assert len(DRILLS) >= 3
    ports = {number: free_port() for number in range(8650, 8656)}
    script = ["set -euo pipefail", "set -m", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for name, text in DRILLS:
        blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.M | re.S)
        assert blocks, name
        script += [f"echo 'DRILL {name}'", *blocks]
    # The only change: ports that nobody else has.
    change = "; ".join(f"s/^# port = {number}/port = {port}/" for number, port in ports.items())
    text = "\n".join(script)
    # `set -e` overlooks what was negated: a command that is to fail, and does not, would go unseen.
    text = re.sub(r"^! (.+)$", r"if \1; then echo 'this was to fail'; exit 1; fi", text, flags=re.M)
    for number, port in ports.items():
        text = text.replace(f"127.0.0.1:{number}", f"127.0.0.1:{port}")
    init = re.search(r"^tlog init (\S+).*$", text, flags=re.M)
    assert init is not None
    text = text.replace(init[0], f"{init[0]}\nsed -i '{change}' {init[1]}/tlog.toml", 1)
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("TLOG_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TLOG_SERVER": f"127.0.0.1:{ports[8650]}",
            "NO_COLOR": "1",
            "XDG_STATE_HOME": str(tmp_path / "state"),  # what is trusted stays in the test
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    for name, _ in DRILLS:
        assert f"DRILL {name}\n" in done.stdout
