"""A transport of httpx that connects to no address but those that were looked at.

The name is resolved once for each request, every address judged, and the connection made to one of exactly these: an
answer of DNS that changes between the look and the connection cannot matter. TLS still verifies the host's name.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import httpx

from ray_app.config import Content
from ray_app.content.address import Resolve, chosen
from ray_app.content.failed import FetchFailed

PORTS = (80, 443, 8080, 8443)  # of hosts that content.allow_hosts does not name
MOST_TRIED = 3  # addresses of a host
# One connection a request: a pool knows connections by their address, and two names may share one.
ALONE = httpx.Limits(max_keepalive_connections=0)


class Guarded(httpx.AsyncBaseTransport):
    """Raises FetchFailed for a host, an address or a port that is not allowed."""

    def __init__(self, settings: Content, resolve: Resolve, verify: Any = True) -> None:
        self._settings, self._resolve = settings, resolve
        self._inner = httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=ALONE)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        known = host.lower().rstrip(".") in self._settings.allow_hosts
        if port not in PORTS and not known:
            raise FetchFailed(f"{url} asks for port {port}; allowed: {', '.join(map(str, PORTS))}")
        failed: Exception | None = None
        for address in (await chosen(self._resolve, host, port, known))[:MOST_TRIED]:
            try:
                return await self._inner.handle_async_request(_to(request, address, host))
            except (httpx.ConnectError, httpx.ConnectTimeout) as e:
                failed = e
        assert failed is not None
        raise failed

    async def aclose(self) -> None:
        await self._inner.aclose()


def _to(request: httpx.Request, address: str, host: str) -> httpx.Request:
    """The same request at this address; its header Host stays, and TLS asks for the name."""
    extensions = dict(request.extensions)
    if not _is_address(host):
        extensions["sni_hostname"] = host
    url = request.url.copy_with(host=address)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
