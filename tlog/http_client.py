"""What every HTTP client here needs against servers that may answer anything: no cookies, and known failures.

httpx keeps the cookies of whoever it asks, without a bound, and sends them with every later request: one that
is not ASCII then breaks all of those. It also reads the target of a redirect that nobody follows, and what is
wrong with that comes out as errors that are not its own.
"""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import Request

ANSWER_ERRORS = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ValueError)
"""Everything that a server's answer can make httpx raise; a UnicodeError is a ValueError."""


class NoCookies(CookieJar):
    """Keeps no cookie and sends none; hand it to httpx as `cookies`."""

    def extract_cookies(self, response: HTTPResponse, request: Request) -> None:
        """Leave all cookies of a response where they are, unparsed."""

    def add_cookie_header(self, request: Request) -> None:
        """Add nothing to a request."""
