"""One log for the command line's tests: made by `tlog init`, served by the real server, with two members."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _support.command_line import tlog
from _support.real_server import running
from _support.served_log import BANK, CUSTOMS, ORIGIN, ServedLog


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedLog]:
    top = tmp_path_factory.mktemp("served")
    made = tlog("init", top / "log", "--origin", ORIGIN, "--json")
    assert made.code == 0, made
    for name in ("keys", "state"):
        (top / name).mkdir()
    with running(top / "log") as server:
        log = ServedLog(
            directory=top / "log",
            server=server,
            genesis=made.json["genesis_leaf_hash"],
            keys=top / "keys",
            state=top / "state",
        )
        log.admit("bank", source=BANK, role="bank")
        log.admit("customs", source=CUSTOMS, role="customs")
        yield log
