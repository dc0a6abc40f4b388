"""What every HTTP client here needs against servers that may answer anything.

httpx keeps the cookies of whoever it asks, without a bound, and sends them with every later request: one that
is not ASCII then breaks all of those. It also reads the target of a redirect that nobody follows, and what is
wrong with that comes out as errors that are not its own.
"""

from __future__ import annotations

import ssl
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING

import httpx

from tlog.tls import ClientTls

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


def tls_context(url: str, tls: ClientTls | None = None) -> ssl.SSLContext:
    """Make the context that checks a server's certificate; for a URL without TLS, one that trusts nobody.

    `tls` says which authorities are trusted, and what is shown to a server that asks; without it the usual.

    SSL_CERT_FILE and SSL_CERT_DIR name other authorities than the usual ones. To load the certificates of all
    of those takes longer than most commands run.
    """
    if url.lower().startswith("https:"):
        return httpx.create_ssl_context() if tls is None else tls.http_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def time_limits(timeout_s: float) -> httpx.Timeout:
    """Make the time limits of the steps of a request that is cancelled after `timeout_s`.

    Less for each half of connecting: httpx closes the socket of a TLS handshake that it times itself, and not
    of one that is cancelled from outside.
    """
    return httpx.Timeout(timeout_s, connect=0.4 * timeout_s)
