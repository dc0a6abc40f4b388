"""A server stream that is opened again where its reader stands, after whatever broke it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from tlog.client.connection import Connection
from tlog.client.retry import CallFailed
from tlog.errors import RemoteError

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
ResponseOut = TypeVar("ResponseOut", bound=Message, covariant=True)


class _StreamCall(Protocol[ResponseOut]):
    def __iter__(self) -> Iterator[ResponseOut]: ...
    def __next__(self) -> ResponseOut: ...
    def cancel(self) -> bool: ...


class _Expired(Exception):  # noqa: N818 - a signal inside this file
    """Says that a stream which had delivered reached its deadline: open it again, nothing is wrong."""


class ResumableStream(Generic[Request, Response]):
    """Reads a server stream message by message, and opens it again after a failure.

    `make_request` says what to ask for now; it runs at every opening, so that a stream goes on where its
    reader stands. `stream_timeout_s` bounds one opening: a stream that delivered nothing within it counts
    as a failure, one that delivered something is opened again. The end of an `endless` stream is a failure
    as well. Belongs to one thread.
    """

    def __init__(
        self,
        connection: Connection,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        make_request: Callable[[], Request],
        *,
        stream_timeout_s: float,
        endless: bool,
    ) -> None:
        self._connection = connection
        self._method = method
        self._make_request = make_request
        self._stream_timeout_s = stream_timeout_s
        self._endless = endless
        self._call: _StreamCall[Response] | None = None
        self._delivered = 0

    def read(self) -> tuple[Response, bool] | None:
        """Return the next message, and whether it is the first one of an opening; None at the end.

        Raises what `Connection.call` raises.
        """
        while True:
            try:
                return self._connection.retry.run(self._attempt)
            except _Expired:
                continue

    def close(self) -> None:
        """Tell the log to stop sending."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _attempt(self, seconds_left: float) -> tuple[Response, bool] | None:
        self._connection.require_open()
        try:
            if self._call is None:
                self._delivered = 0
                self._call = self._method(
                    self._make_request(), timeout=min(self._stream_timeout_s, seconds_left)
                )
            message = next(self._call)
        except StopIteration:
            self._call = None
            if not self._endless:
                return None
            self._connection.require_open()
            ended = RemoteError(f"the log at {self._connection.address} ended a stream that has no end")
            raise CallFailed(ended, retry=True) from None
        except grpc.RpcError as error:
            self._call = None
            if self._delivered and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _Expired from error
            self._connection.require_open()
            raise self._connection.failure(error) from error
        except ValueError as error:  # what a channel says that another thread closed
            self._connection.require_open()
            raise RemoteError(f"the call could not be made: {error}") from error
        self._delivered += 1
        return message, self._delivered == 1
