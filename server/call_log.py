"""One line for each call: request id, caller, member, method, code, duration; nothing that a call says.

Requests over HTTP have the same (`server.http_call_log`), with the kind of their path.

A caller may give a request its id (`x-request-id`); what is no plain word is not taken over. A failed call is
told its id, so that whoever asks the operator can name it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, Literal

from server.membership_now import MembershipNow
from tlog.errors import StorageError
from tlog.log_view import LogView
from tlog.reading import member_of

if TYPE_CHECKING:
    from server.callers import Caller, Context

REQUEST_ID_KEY = "x-request-id"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = frozenset({"Check", "Watch", "metrics", "livez", "readyz"})
"""Questions about health, of which nothing is told while all is well: there is one every few seconds."""
_LOGGER = logging.getLogger("tlog.calls")
_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})

Calls = Literal["none", "failed", "all"]


class CallLog:
    """Writes the lines of one process; belongs to its event loop."""

    def __init__(self, calls: Calls, member_of: Callable[[tuple[str, ...]], str | None]) -> None:
        """Write about these calls; `member_of` says whose a certificate's URIs are."""
        self._calls = calls
        self._member_of = member_of
        self._ids = (f"{os.getpid():x}-{int(time.time()):x}-{number:x}" for number in count(1))

    @classmethod
    def for_log(
        cls, calls: Calls, origin: str, open_view: Callable[[], AbstractContextManager[LogView]]
    ) -> CallLog:
        """Write lines that name members as the entries of a log have them."""
        membership = MembershipNow(origin)

        def member_id(uris: tuple[str, ...]) -> str | None:
            try:
                with open_view() as view:
                    member = member_of(membership.look(view), uris)
            except StorageError:  # what is told of a call does not change how it ends
                return None
            return None if member is None else member.id

        return cls(calls, member_id)

    def answered(
        self, given_id: str | None, method: str, path: str, caller: Caller, code: str, seconds: float
    ) -> None:
        """Write the line of an HTTP request, where it is wanted; `path` is the kind of its path.

        Its id is the one it came with, `given_id`, where that is a plain word.
        """
        is_well = code[:1] in ("2", "3")
        if self._calls == "none" or (is_well and (self._calls != "all" or path in _PROBES)):
            return
        is_plain = given_id is not None and _PLAIN.fullmatch(given_id) is not None
        request_id = given_id if given_id is not None and is_plain else next(self._ids)
        self._write(f"{method} {path}", request_id, caller, code, seconds, {"method": method, "path": path})

    def _request_id(self, context: Context) -> str:
        """Return the caller's id of a request, or one of our own."""
        for key, value in context.invocation_metadata() or ():
            if key == REQUEST_ID_KEY and isinstance(value, str) and _PLAIN.fullmatch(value):
                return value
        return next(self._ids)

    def ended(self, context: Context, method: str, caller: Caller, code: str, seconds: float) -> str:
        """Write the line of a call that ended, where it is wanted, and return its request's id.

        A call that succeeds and has no line has no id either: its metadata are not even looked at.
        """
        if code == "OK" and (self._calls != "all" or method in _PROBES):
            return ""
        request_id = self._request_id(context)
        if self._calls == "none":
            return request_id
        self._write(method, request_id, caller, code, seconds, {"method": method})
        return request_id

    def _write(
        self,
        what: str,
        request_id: str,
        caller: Caller,
        code: str,
        seconds: float,
        more: dict[str, str],
    ) -> None:
        member = self._member_of(caller.uris) if caller.uris else None
        _LOGGER.info(
            "%s %s in %.1f ms for %s, request %s",
            what,
            code,
            seconds * 1e3,
            member or caller.name,
            request_id,
            extra={
                "request_id": request_id,
                **more,
                "code": code,
                "duration_ms": round(seconds * 1e3, 3),
                "caller": caller.name,
                "member": member,
            },
        )


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON; what was given as `extra` becomes names of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(form: Literal["text", "json"], text_format: str) -> None:
    """Send what is logged to stderr in this form; replaces what was set up before."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(text_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
