"""Ask HTTP servers that may answer anything: nothing of them is kept, followed, or unpacked on their behalf.

aiohttp does the talking; what it can be made to raise has one name here. No cookie is kept, no redirect is
followed, no body is decoded: who asks reads it as it comes, and stops where it is long enough. The time of a
whole request is the caller's to bound, with `asyncio.timeout`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

import aiohttp
from yarl import URL

from tlog.errors import ConfigError
from tlog.tls import ClientTls

ANSWER_ERRORS = (aiohttp.ClientError, ValueError)
"""Everything that a server's answer, or its absence, can make `HttpClient` raise, beside a TimeoutError."""

KEEP_ALIVE_S = 60.0


class HttpClient:
    """Asks servers below one URL, over a few connections that are kept; belongs to one event loop."""

    def __init__(
        self,
        url: str,
        *,
        max_connections: int,
        tls: ClientTls | None = None,
        use_proxies: bool = False,
    ) -> None:
        """Take what `tls_context` needs; connections are made by the first requests.

        With `use_proxies` those that the environment names are used.
        """
        self._context = tls_context(url, tls)
        self._max_connections = max_connections
        # Without any it would look for one, and for a password, before each request.
        self._use_proxies = use_proxies and bool(getproxies())
        self._session: aiohttp.ClientSession | None = None
        self.is_closed = False

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, and give the head of its answer, whose body can be read in the block.

        `timeout_s` is for connecting, of which it may take less than half: a TLS handshake that is ended here
        closes its socket at once. Raises ANSWER_ERRORS, and TimeoutError when that was not enough.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=0.4 * timeout_s)
        async with self._opened().request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=timeout,
        ) as response:
            yield response

    async def aclose(self) -> None:
        """Close all connections; a second call does nothing."""
        self.is_closed = True
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._max_connections, keepalive_timeout=KEEP_ALIVE_S, ssl=self._context
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Content-Type"),
                auto_decompress=False,
                trust_env=self._use_proxies,
            )
        return self._session


def check_url(url: str) -> None:
    """Check that a URL is http or https, with a host and a port that can be. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("it needs http:// or https://, a host, and perhaps a port and a path")
    URL(url, encoded=True)


def is_redirect(status: int) -> bool:
    """Tell whether a status says that the answer is somewhere else."""
    return status in {301, 302, 303, 307, 308}


def tls_context(url: str, tls: ClientTls | None = None) -> ssl.SSLContext:
    """Make the context that checks a server's certificate; for a URL without TLS, one that trusts nobody.

    `tls` says which authorities are trusted, and what is shown to a server that asks; without it the usual.

    SSL_CERT_FILE and SSL_CERT_DIR name other authorities than the usual ones. To load the certificates of all
    of those takes longer than most commands run. Raises ConfigError where they cannot be loaded.
    """
    if url.lower().startswith("https:"):
        if tls is not None:
            return tls.http_context()
        import httpx  # only here: most clients of this module speak to no such server

        try:
            return httpx.create_ssl_context()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(_told_authorities(error)) from None
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _told_authorities(error: Exception) -> str:
    what = getattr(error, "strerror", None) or str(error)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if value := os.environ.get(name):
            return (
                f"{name} names {value}, and authorities cannot be read there ({what}): let it name PEM "
                "certificates, or unset it to trust the usual authorities"
            )
    return f"the usual authorities of HTTPS servers cannot be read ({what}): name some in SSL_CERT_FILE"
