"""A line for each request over HTTP, tiles and the operator's pages, as calls over gRPC have one.

No line has a path: anybody may write into one what he likes. It has the kind of path that metrics have.
"""

from __future__ import annotations

from aiohttp import web

from server.call_log import REQUEST_ID_KEY, CallLog
from server.callers import Caller, Callers
from tlog.peer_host import host_of_address
from tlog.tile_application import shown_certificate

_METHODS = frozenset({"GET", "HEAD"})


class HttpCallLog:
    """Writes the lines of the requests of one process; belongs to its event loop."""

    def __init__(self, call_log: CallLog) -> None:
        """Write by the same rule, and with ids of the same row, as `call_log` does."""
        self._call_log = call_log
        self._callers = Callers()

    def ended(self, request: web.Request, path: str, code: str, seconds: float) -> None:
        """Write the line of a request that ended, where it is wanted; `path` is the kind of its path."""
        method = request.method if request.method in _METHODS else "other"
        given_id = request.headers.get(REQUEST_ID_KEY)
        self._call_log.answered(given_id, method, path, self._caller(request), code, seconds)

    def _caller(self, request: web.Request) -> Caller:
        certificate = shown_certificate(request)
        if certificate is not None:
            return self._callers.of_certificate(certificate)
        return Caller(name=host_of_address(request.remote or ""))
