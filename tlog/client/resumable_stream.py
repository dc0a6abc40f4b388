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
    """Says that a stream which had delivered ended in its time: open it again, nothing is wrong."""


def _everything(message: object, is_first: bool) -> bool:
    return True


class ResumableStream(Generic[Request, Response]):
    """Reads a server stream message by message, and opens it again after a failure.

    `make_request` says what to ask for now; it runs at every opening, so that a stream goes on where its
    reader stands. `stream_timeout_s` bounds one opening: a stream that delivered nothing within it counts
    as a failure, one that delivered something is opened again. The end of an `endless` stream is a failure
    as well, unless the stream lasted as long as the longest delay between two attempts: then opening it
    again costs little. `is_news(message, is_first)` may verify a message, and keep it from the reader: a
    message that is no news lets the same run of the retry policy go on. Belongs to one thread.
    """

    def __init__(
        self,
        connection: Connection,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        make_request: Callable[[], Request],
        *,
        stream_timeout_s: float,
        endless: bool,
        is_news: Callable[[Response, bool], bool] = _everything,
    ) -> None:
        self._connection = connection
        self._method = method
        self._make_request = make_request
        self._stream_timeout_s = stream_timeout_s
        self._endless = endless
        self._is_news = is_news
        self._call: _StreamCall[Response] | None = None
        self._delivered = 0
        self._lasts_until_s = 0.0

    def read(self) -> tuple[Response, bool] | None:
        """Return the next message that is news, and whether it is the first of an opening; None at the end.

        Raises what `Connection.call` and `is_news` raise.
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
        while (message := self._next(seconds_left)) is not None:
            if self._is_news(message, self._delivered == 1):
                return message, self._delivered == 1
        return None

    def _next(self, seconds_left: float) -> Response | None:
        retry = self._connection.retry
        self._connection.require_open()
        try:
            if self._call is None:
                timeout_s = min(self._stream_timeout_s, seconds_left)
                self._delivered = 0
                # A deadline is never kept to the millisecond.
                self._lasts_until_s = retry.clock() + min(retry.max_delay_s, 0.9 * timeout_s)
                self._call = self._method(self._make_request(), timeout=timeout_s)
            message = next(self._call)
        except StopIteration:
            self._call = None
            if not self._endless:
                return None
            self._connection.require_open()
            if self._has_lasted():
                raise _Expired from None
            ended = RemoteError(f"the log at {self._connection.address} ended a stream that has no end")
            raise CallFailed(ended, retry=True) from None
        except grpc.RpcError as error:
            self._call = None
            self._connection.require_open()
            failure = self._connection.failure(error)
            if failure.retry and self._has_lasted():
                raise _Expired from error
            raise failure from error
        except ValueError as error:  # what a channel says that another thread closed
            self._connection.require_open()
            raise RemoteError(f"the call could not be made: {error}") from error
        self._delivered += 1
        return message

    def _has_lasted(self) -> bool:
        return self._delivered > 0 and self._connection.retry.clock() >= self._lasts_until_s
