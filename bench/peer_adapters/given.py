"""The peers that a user has running, as he names them on the command line.

    trillian=HOST:PORT/TREE_ID
    tessera=http://HOST:PORT
    immudb=HOST:PORT

To each `?also=PORT,PORT` may be added: ports on the same machine at which other processes listen that do a
part of the peer's work, a database or a sequencer, so that their CPU is counted with it. To immudb's also
`?unique=no`: it then takes a key that is there already, which costs it less than to refuse it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from bench.peer_adapters.adapter import Adapter
from bench.peer_adapters.immudb import ImmudbAdapter
from bench.peer_adapters.tessera import TesseraAdapter
from bench.peer_adapters.trillian import TrillianAdapter

FORMS: Final = {
    "trillian": "trillian=HOST:PORT/TREE_ID",
    "tessera": "tessera=http://HOST:PORT",
    "immudb": "immudb=HOST:PORT",
}
"""What is written for each kind of peer."""

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPeer:
    """Is a server of a kind at an address; `also_ports` are where its other processes listen."""

    kind: str
    host: str
    port: int
    url: str = ""
    tree_id: int = 0
    also_ports: tuple[int, ...] = ()
    is_unique: bool = True

    @property
    def name(self) -> str:
        """Return what it is called in a table."""
        return self.kind if self.is_unique else f"{self.kind}, unique=no"

    def adapter(self) -> Adapter:
        """Make a client of it, which is not connected yet."""
        address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        match self.kind:
            case "trillian":
                return TrillianAdapter(address, self.tree_id)
            case "tessera":
                return TesseraAdapter(self.url)
            case _:
                return ImmudbAdapter(address, is_unique=self.is_unique)


def peer_from(text: str) -> GivenPeer:
    """Make a peer of what the user wrote; a ValueError says which part is wrong, and what is expected."""
    kind, equals, address = text.partition("=")
    if not equals or kind not in FORMS:
        raise ValueError(f"{text!r} names no peer: write {', '.join(FORMS.values())}")
    form = f"write {FORMS[kind]}"
    split = urlsplit(address if kind == "tessera" else f"//{address}")
    if kind == "tessera" and split.scheme not in _PORTS:
        raise ValueError(f"{address!r} is no http or https URL: {form}")
    if split.username is not None or split.password is not None:
        raise ValueError(f"the address of {kind} has a password in it, which would be written into results")
    port = split.port or _PORTS.get(split.scheme)
    if not split.hostname or not port:
        raise ValueError(f"{address!r} has no host and port: {form}")
    path = split.path.strip("/")
    if kind == "trillian" and not (path.isascii() and path.isdigit()):
        raise ValueError(f"{address!r} names no tree: {form}, as createtree printed it")
    if kind == "immudb" and path:
        raise ValueError(f"{address!r} has a path: {form}")
    asked = parse_qs(split.query, keep_blank_values=True)
    known = {"also", "unique"} if kind == "immudb" else {"also"}
    if unknown := set(asked) - known:
        raise ValueError(f"{text!r} has ?{unknown.pop()}=: only ?{'=, ?'.join(sorted(known))}= is known")
    return GivenPeer(
        kind=kind,
        host=split.hostname,
        port=port,
        url=f"{split.scheme}://{split.netloc}{split.path}" if kind == "tessera" else "",
        tree_id=int(path) if kind == "trillian" else 0,
        also_ports=_also_ports(asked.get("also", []), text),
        is_unique=_is_unique(asked.get("unique", ["yes"]), text),
    )


def _is_unique(values: list[str], text: str) -> bool:
    if values not in (["yes"], ["no"]):
        raise ValueError(f"{text!r}: ?unique= is yes or no")
    return values == ["yes"]


def _also_ports(values: list[str], text: str) -> tuple[int, ...]:
    ports = [port for value in values for port in value.split(",")]
    if not all(port.isascii() and port.isdigit() and 0 < int(port) < 2**16 for port in ports):
        raise ValueError(f"{text!r}: ?also= takes ports, as in ?also=8091,5432")
    return tuple(map(int, ports))
