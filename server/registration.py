"""Register a gRPC service so that a request which cannot be decoded is answered by our own error.

The generated registration lets grpc decode, and a request that is not protobuf ends as UNKNOWN, with a
traceback in the log for every one that anybody cares to send. Here the bytes are decoded the same way, but a
failure is handed to the method as a value, and `server.answers` makes INVALID_ARGUMENT of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecodable:
    """Stands where a request should be, and says which message it was to be."""

    message_name: str


def register(server: grpc.aio.Server, descriptor: ServiceDescriptor, service: object) -> None:
    """Register every method of a service, by the names and types of its descriptor."""
    handlers = {method.name: _handler(method, service) for method in descriptor.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(descriptor.full_name, handlers),))


def _handler(
    method: MethodDescriptor, service: object
) -> grpc.RpcMethodHandler[Message | Undecodable, Message]:
    make = (
        grpc.unary_stream_rpc_method_handler
        if method.server_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(
        getattr(service, method.name),
        request_deserializer=_decoder(GetMessageClass(method.input_type)),
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )


def _decoder(message_class: type[Message]) -> Callable[[bytes], Message | Undecodable]:
    def decode(data: bytes) -> Message | Undecodable:
        try:
            return message_class.FromString(data)
        except (DecodeError, ValueError):
            return Undecodable(message_name=message_class.DESCRIPTOR.full_name)

    return decode
