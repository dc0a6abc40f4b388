"""The short way through an event: compact JSON, its members in the order in which `build_event` writes them.

It is read into a struct and written again. When that gives the same bytes, no name came twice at any depth,
no member was left over, and nothing was lost or changed. Any other spelling is as good, and takes the long
way (`tlog.event`), which also finds the words for what is wrong. The short way takes two thirds of the time.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from tlog.strict_json import MAX_DEPTH

_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


# A Struct: filled, and written, without a step of the interpreter for each member. No garbage collection,
# since nothing in it can point back to it.
class UsualMembers(msgspec.Struct, frozen=True, gc=False):
    """Holds the members of an event in the usual spelling, in its order; each text as it is there."""

    specversion: Literal["1.0"]
    id: _Text
    source: _Text
    type: _Text
    subject: _Text
    time: _Text
    tlogorigin: _Text
    refs: str | UnsetType = UNSET
    datacontenttype: str | UnsetType = UNSET
    dataschema: str | UnsetType = UNSET
    data: Any = UNSET  # a JsonValue: the decoder is not to look into it

    def texts(self) -> dict[str, str]:
        """Return every attribute that is set, by name, in order."""
        names = self.__struct_fields__[:-1]
        return {name: value for name in names if (value := getattr(self, name)) is not UNSET}


def usual_members(payload: bytes) -> UsualMembers | None:
    """Return the members of a payload in the usual spelling, each of its type; None for any other payload.

    Beyond that only `specversion` is checked, and that none is empty that every event needs.
    """
    # Brackets inside strings only make the depth look too high.
    if type(payload) is not bytes or payload.count(b"{") + payload.count(b"[") > MAX_DEPTH:
        return None
    try:
        members = _READER.decode(payload)
        # MessagePack has no integers beyond 64 bits, so that writing it finds those that are too large.
        if _WRITER.encode(members) == payload and (
            members.data is UNSET or _INTEGER_CHECK.encode(members.data)
        ):
            return members
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
        pass
    return None


_READER: Final = msgspec.json.Decoder(UsualMembers)
_WRITER: Final = msgspec.json.Encoder()
_INTEGER_CHECK: Final = msgspec.msgpack.Encoder()
