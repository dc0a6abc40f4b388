"""Fetches a page of a log's own server, for its operator: metrics and health."""

from __future__ import annotations

import asyncio

from tlog.errors import RemoteError
from tlog.http_client import ANSWER_ERRORS, HttpClient, check_url
from tlog.tls import ClientTls


def get(url: str, tls: ClientTls | None, timeout_s: float) -> tuple[int, bytes]:
    """Fetch one page: its status and body. Raises RemoteError."""
    try:
        check_url(url)
        return asyncio.run(_get(url, tls, timeout_s))
    except (*ANSWER_ERRORS, TimeoutError) as error:
        raise RemoteError(f"{url} cannot be asked: {str(error) or 'nobody answered in time'}") from error


async def _get(url: str, tls: ClientTls | None, timeout_s: float) -> tuple[int, bytes]:
    client = HttpClient(url, max_connections=1, tls=tls)
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.request("GET", url, headers={}, timeout_s=timeout_s) as answer,
        ):
            return answer.status, await answer.read()
    finally:
        await client.aclose()
