"""A log that is served, and the commands run against it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _support.command_line import Ended, tlog
from _support.real_server import RealServer

ORIGIN = "log.example/alliance"
BANK = "urn:example:bank"
CUSTOMS = "urn:example:customs"


@dataclass
class ServedLog:
    """Is a log that is served; `run` runs a command against it."""

    directory: Path
    server: RealServer
    genesis: str
    keys: Path
    state: Path
    count: int = field(default=0)

    @property
    def policy(self) -> Path:
        return self.directory / "policy"

    @property
    def env(self) -> dict[str, str]:
        return {
            "TLOG_SERVER": self.server.grpc_address,
            "TLOG_POLICY": str(self.policy),
            "TLOG_STATE": str(self.state),
            "TLOG_GENESIS": self.genesis,
        }

    def run(self, *arguments: object, stdin: bytes = b"", **env: str) -> Ended:
        return tlog(*arguments, stdin=stdin, env={**self.env, **env})

    def key(self, name: str) -> Path:
        return self.keys / f"{name}.key"

    def governor(self, number: int) -> Path:
        return self.directory / "governance" / f"{number}.key"

    def new_key(self, name: str) -> str:
        """Make a key; returns its keyid."""
        return str(tlog("keygen", name, "--out", self.key(name), "--json").json["keyid"])

    def admit(self, member_id: str, *arguments: object, source: str, role: str) -> str:
        """Admit a member with a new key; returns its keyid."""
        keyid = self.new_key(member_id)
        ended = self.run(
            *("member", "add", member_id, "--name", member_id.title(), "--source", source, "--role", role),
            *("--key", keyid, "--sign", self.governor(1), "--sign", self.governor(2)),
            *arguments,
        )
        assert ended.code == 0, ended
        return keyid

    def event(self, **members: Any) -> dict[str, Any]:
        """Return an event that the bank may append, with an id of its own, changed by `members`."""
        self.count += 1
        event = {
            "id": f"claim-{self.count}",
            "source": BANK,
            "type": "trade.claim.reserved.v1",
            "subject": f"claim:{self.count}",
            "time": "2025-11-03T09:12:44Z",
            "data": {"amount": "1200.50", "currency": "EUR"},
        }
        return {name: value for name, value in {**event, **members}.items() if value is not None}

    def append(self, *events: dict[str, Any], receipts: Path | None = None) -> list[int]:
        """Append events as the bank; returns their leaf indices."""
        text = "\n".join(map(json.dumps, events)).encode()
        kept = () if receipts is None else ("--receipts", receipts)
        ended = self.run("append", "--key", self.key("bank"), "--json", *kept, stdin=text)
        assert ended.code == 0, ended
        return [entry["leaf_index"] for entry in ended.json["entries"]]
