"""HTTP connections to one server: addresses, keys, few-connection clients, answers as they came."""

import os
import re
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.request import getproxies

import httpx2

from ....base.foreign_json import parse_json
from ....errors import CurateError, RequestFailed
from ...retry_after import parse_date, parse_retry_after

PATH = "/chat/completions"
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 4.0  # below uvicorn's 5: a connection is dropped here before it is dropped there
LANE = 8  # connections a client: the pool's own bookkeeping costs O(connections) a request


class Answer(NamedTuple):
    """What came back over HTTP: `data` is the JSON object, None where the body is none.

    `retry_after` is in seconds.
    """

    status: int
    retry_after: float | None
    text: str
    data: dict[str, Any] | None


class Lanes:
    """HTTP clients of a few connections each, the most recently used first."""

    def __init__(self, url: httpx2.URL, headers: Mapping[str, str], timeout: float) -> None:
        self._headers = headers
        self._timeout = httpx2.Timeout(timeout, connect=CONNECT_SECONDS, pool=None)
        # A proxy from the environment is not on the way to this machine.
        self._trust_env = not _loopback(url.host)
        self._verify: ssl.SSLContext | bool = False
        if self._trust_env or url.scheme == "https":
            self._verify = _certificates()
        self._clients: list[httpx2.AsyncClient] = []
        self._free: list[httpx2.AsyncClient] = []  # once for each connection not in use

    async def send(
        self,
        method: str,
        url: httpx2.URL,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        most: int,
    ) -> tuple[httpx2.Response, bytes]:
        """The response and its body, over a free connection; there are as many as are asked for.

        Raises RequestFailed for a body that has, or unpacks to, more than `most` bytes.
        """
        if not self._free:
            self._free += [self._new_client()] * LANE
        client = self._free.pop()
        try:
            async with client.stream(
                method, url, content=body or None, headers=headers
            ) as response:
                return response, await _bounded(response, most)
        finally:
            self._free.append(client)

    async def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            await client.aclose()

    def _new_client(self) -> httpx2.AsyncClient:
        limits = httpx2.Limits(
            max_connections=LANE, max_keepalive_connections=LANE, keepalive_expiry=IDLE_SECONDS
        )
        try:
            if self._trust_env and not all(_has_a_port(httpx2.URL(url)) for url in _proxies()):
                raise ValueError
            client = httpx2.AsyncClient(
                headers=self._headers,
                timeout=self._timeout,
                limits=limits,
                verify=self._verify,
                trust_env=self._trust_env,
            )
        except (ValueError, httpx2.InvalidURL):  # which shows the address, and a password in it
            raise CurateError(
                "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no address like http://proxy:3128"
            ) from None
        except ImportError:
            raise CurateError("a SOCKS proxy takes `pip install 'httpx2[socks]'`") from None
        self._clients.append(client)
        return client


async def _bounded(response: httpx2.Response, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > most:
            raise RequestFailed(f"the server's answer is larger than {most >> 20} MiB")
    return bytes(body)


def _certificates() -> ssl.SSLContext:
    try:
        return httpx2.create_ssl_context()
    except OSError as error:  # SSLError is one
        raise CurateError(
            f"SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error.strerror or error}"
        ) from None


def _proxies() -> list[str]:
    return [url for kind, url in getproxies().items() if kind in ("http", "https", "all")]


def _has_a_port(url: httpx2.URL) -> bool:
    return url.port is None or url.port < 1 << 16


def checked_key(key: str | None) -> str | None:
    """The key without white space; CurateError when no header can carry it."""
    key = (key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise CurateError("the API key holds characters that no HTTP header can carry")
    return key or None


def request_headers(url: httpx2.URL, key: str | None) -> dict[str, str]:
    """What each request carries; Azure reads the key from a header of its own."""
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
        if url.host.endswith((".azure.com", ".azure-api.net")):
            headers["api-key"] = key
    return headers


def checked_url(base_url: str) -> httpx2.URL:
    """The address of chat/completions under what was given."""
    try:
        url = httpx2.URL(base_url.strip())
        url = url.copy_with(path=url.path.rstrip("/").removesuffix(PATH) + PATH)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host or not _has_a_port(url):
        given = re.sub(r"//.*@", "//", re.split("[?#]", base_url)[0])
        raise CurateError(f"--base-url {given!r} is no address like http://localhost:8000/v1")
    return url


def shown(url: httpx2.URL) -> str:
    """The base URL for people and the journal: without user, password and query."""
    return f"{url.scheme}://{url.netloc.decode()}{url.path.removesuffix(PATH)}"


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def cause(error: BaseException) -> str:
    """The innermost reason: httpx2 and anyio wrap it in "All connection attempts failed"."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ssl.SSLError):  # its number is none of the system's
            said = getattr(inner, "verify_message", None) or inner.reason or inner.strerror
            return f"TLS failed: {said}".replace("_", " ").lower()
        if isinstance(inner, OSError) and inner.errno is not None:
            return os.strerror(inner.errno).lower() if inner.errno > 0 else str(inner.strerror)
        error, inner = inner, inner.__cause__ or inner.__context__
    return str(error) or type(error).__name__


def answered(response: httpx2.Response, body: bytes) -> Answer:
    """A response, read as UTF-8 whatever it says it is."""
    text = body.decode("utf-8-sig", "replace")
    try:
        data = parse_json(text)
    except ValueError:
        data = None
    headers = response.headers  # a date is the server's: ours may be hours from it
    wait = parse_retry_after(headers.get("retry-after"), now=parse_date(headers.get("date")))
    return Answer(response.status_code, wait, text, data if isinstance(data, dict) else None)
