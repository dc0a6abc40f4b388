"""Protobuf messages that are made at run time, of the few fields that a client needs.

What decides on the wire are numbers and types; names are for the reader here. What a peer sends beyond these
fields is skipped, as protobuf has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.message import Message

_TYPES: Final = {
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}
_REPEATED: Final = "repeated "

Fields = Mapping[str, tuple[int, str]]
"""The fields of a message by name: each a number, and a type, one of those above or another message's name.

A type may have "repeated " before it.
"""


class Messages:
    """Holds message classes by name: `messages.of("LogLeaf")(leaf_value=b"...")`."""

    def __init__(self, package: str, messages: Mapping[str, Fields]) -> None:
        """Make the classes; a type that is neither known nor among `messages` is a TypeError or KeyError."""
        file = descriptor_pb2.FileDescriptorProto(name=f"bench/{package}", package=package, syntax="proto3")
        for name, fields in messages.items():
            described = file.message_type.add(name=name)
            for field, (number, type_name) in fields.items():
                _describe(described.field.add(name=field, number=number), type_name, package)
        self._classes = {
            full_name.removeprefix(f"{package}."): made
            for full_name, made in message_factory.GetMessages([file]).items()
        }

    def of(self, name: str) -> Any:  # noqa: ANN401 - its attributes are known at run time only
        """Return the class of a message."""
        return self._classes[name]

    def encode(self, name: str, **fields: object) -> bytes:
        """Encode a message; a field that is a message itself is given as a dict."""
        made: Message = self.of(name)(**fields)
        return made.SerializeToString()


def _describe(field: descriptor_pb2.FieldDescriptorProto, type_name: str, package: str) -> None:
    single = type_name.removeprefix(_REPEATED)
    field.label = (
        descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
        if single != type_name
        else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    )
    if single in _TYPES:
        field.type = _TYPES[single]
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{package}.{single}"
