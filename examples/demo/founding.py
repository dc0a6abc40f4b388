"""Found the alliance: a log by `tlog init`, a key for each member, and their admission by governance."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from examples.alliance.members import MEMBERS
from examples.demo.folder import Folder
from tlog.client.log_client import LogClient
from tlog.envelope import sign_entry
from tlog.governance import Member, MemberKey, build_member
from tlog.key_file import read_key_file, write_key_file
from tlog.merkle import leaf_hash
from tlog.note import Signer

ORIGIN = "example.org/trade-alliance"

CONFIG = """\
[log]
store_path = "store"
key_path = "log.key"
cosigner_key_path = "cosigner.key"

[grpc]
port = 0

[metrics]
port = 0

[tiles]
port = 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """Holds what the founders know: the leaf hash to pin, and the keys that they keep."""

    genesis_leaf_hash: bytes
    governors: Sequence[Signer]
    members: Mapping[str, Signer]


def found(folder: Folder) -> Founded:
    """Make the log and everybody's keys; nothing runs yet. Raises ConfigError when `tlog init` fails."""
    made = subprocess.run(
        [sys.executable, "-m", "tlog", "init", str(folder.log), "--origin", ORIGIN, "--json"],
        check=True,
        stdout=subprocess.PIPE,
    )
    folder.config.write_text(CONFIG)
    shutil.copy(folder.log / "policy", folder.policy)
    signers = {}
    for member in MEMBERS:
        signers[member.id] = Signer.generate(f"{member.id}.example")
        write_key_file(folder.key(member.id), signers[member.id])
    return Founded(
        genesis_leaf_hash=bytes.fromhex(json.loads(made.stdout)["genesis_leaf_hash"]),
        governors=[read_key_file(folder.log / "governance" / f"{number}.key") for number in (1, 2)],
        members=signers,
    )


def admit_members(client: LogClient, founded: Founded) -> None:
    """Append one governance entry for each member, signed by the threshold, over gRPC."""
    registry = client.registry()
    seq, prev = registry.seq, registry.prev
    entries = []
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    for member in MEMBERS:
        payload = build_member(
            origin=ORIGIN,
            time=now,
            seq=(seq := seq + 1),
            prev=prev,
            member=Member(
                id=member.id,
                name=member.name,
                sources=(member.source,),
                roles=member.roles,
                keys=(MemberKey(public_key=founded.members[member.id].public_key),),
            ),
        )
        entries.append(sign_entry(payload, founded.governors))
        prev = leaf_hash(entries[-1]).hex()
    client.append(entries)
