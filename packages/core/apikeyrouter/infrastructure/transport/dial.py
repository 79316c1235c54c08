"""Opening connections: names to addresses, addresses to sockets, sockets to TLS, through a proxy if there is one.

Entry: `Dialer.open`. Addresses are tried as RFC 8305 (happy eyeballs) says: both families in turn, the next one after
0.25 s or at once when one fails. Every failure is a TransportError of phase NotSent that says what to do.
Laws: TLS always verifies the peer's certificate and name; names are resolved anew for each connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import zip_longest

from apikeyrouter.domain.interfaces.transport import SendPhase, TransportError
from apikeyrouter.infrastructure.transport.connection import Connection
from apikeyrouter.infrastructure.transport.wire import Origin, Proxy

__all__ = ["Dialer", "Resolver"]

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Turns host and port into IP addresses, best first; raises OSError to refuse. It sees literal addresses too, so that
it can be the one place where private addresses are refused: the connection goes to what it returned."""

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]

# RFC 8305 section 8: the recommended Connection Attempt Delay.
ATTEMPT_DELAY_S = 0.25
PROXY_HEAD_BYTES_MAX = 64 * 1024


class Dialer:
    """Opens connections for one transport. `ca_file`: certificates trusted besides the system's. `ssl_context`: used
    as it is, but it must verify."""

    __slots__ = ("_ca_file", "_proxy", "_resolver", "_ssl_context")

    def __init__(
        self,
        *,
        proxy: Proxy | None,
        resolver: Resolver | None,
        ca_file: str | os.PathLike[str] | None,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        if ssl_context is not None and (
            ssl_context.verify_mode is not ssl.CERT_REQUIRED or not ssl_context.check_hostname
        ):
            raise ValueError("This TLS context does not verify certificates. To trust a private CA, pass ca_file=.")
        self._proxy = proxy
        self._resolver = resolver
        self._ca_file = ca_file
        self._ssl_context = ssl_context

    async def open(self, origin: Origin, make: Callable[[], Connection]) -> Connection:
        """A fresh connection. Raises TransportError; the caller bounds the time."""
        loop = asyncio.get_running_loop()
        peer = origin if self._proxy is None else self._proxy.origin
        sock = await self._connect(loop, peer)
        try:
            if self._proxy is not None and origin.scheme == "https":
                await self._tunnel(loop, sock, self._proxy, origin)
        except BaseException:
            sock.close()
            raise
        if origin.scheme == "http":
            return await self._wrap(loop, sock, make, origin, None)
        return await self._wrap(loop, sock, make, origin, self._tls())

    def _tls(self) -> ssl.SSLContext:
        """Made once: reading the system's certificates takes some 20 ms."""
        if self._ssl_context is None:
            context = ssl.create_default_context()
            if self._ca_file is not None:
                context.load_verify_locations(cafile=self._ca_file)
            context.set_alpn_protocols(["http/1.1"])
            self._ssl_context = context
        return self._ssl_context

    async def _connect(self, loop: asyncio.AbstractEventLoop, peer: Origin) -> socket.socket:
        try:
            addresses = await self._resolve(loop, peer)
            why = "nothing found"
        except (OSError, ValueError) as error:  # getaddrinfo raises UnicodeError for names that cannot be
            addresses, why = [], str(error)
        if not addresses:
            advice = "Check the base URL, and that DNS works here."
            raise _not_sent("dns", f"The name {peer.host!r} has no usable address ({why}). {advice}")
        try:
            return await _first_connected(loop, addresses)
        except ConnectionRefusedError:
            raise _not_sent(
                "refused", f"Connection to {peer.address} was refused: is the server running, and the port right?"
            ) from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise _not_sent(
                "connect", f"No connection to {peer.address}: {reason}. Check the network and the firewall."
            ) from None

    async def _resolve(self, loop: asyncio.AbstractEventLoop, peer: Origin) -> list[Address]:
        if self._resolver is not None:
            return [_literal(text, peer.port) for text in await self._resolver(peer.host, peer.port)]
        try:
            return [_literal(peer.host, peer.port)]
        except ValueError:
            pass
        found = await loop.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
        addresses = [(family, sockaddr) for family, _, _, _, sockaddr in found]
        return list(_alternate(addresses))  # type: ignore[arg-type]  # typeshed widens sockaddr

    async def _tunnel(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy, origin: Origin) -> None:
        """CONNECT (RFC 9110 section 9.3.6). The proxy sends nothing more until we do: TLS begins with the client."""
        request = f"CONNECT {origin.address} HTTP/1.1\r\nHost: {origin.address}\r\n".encode("ascii")
        if proxy.authorization is not None:
            request += b"Proxy-Authorization: " + proxy.authorization + b"\r\n"
        name = f"The proxy {proxy.origin.address}"
        head = b""
        try:
            await loop.sock_sendall(sock, request + b"\r\n")
            while b"\r\n\r\n" not in head:
                piece = await loop.sock_recv(sock, 8192)
                head += piece
                if not piece or len(head) > PROXY_HEAD_BYTES_MAX:
                    raise _not_sent("connect", f"{name} gave no proper answer to CONNECT: is it an HTTP proxy?")
        except OSError:
            raise _not_sent("connect", f"{name} broke off the connection: is it an HTTP proxy?") from None
        line, _, rest = head.partition(b"\r\n")
        version, _, after = line.partition(b" ")
        status = after[:3]
        if not version.startswith(b"HTTP/1.") or not status.isdigit():
            raise _not_sent("connect", f"{name} gave no proper answer to CONNECT: is it an HTTP proxy?")
        if status == b"407":
            raise _not_sent("connect", f"{name} asks for credentials (407): put user:password@ into the proxy URL.")
        if not status.startswith(b"2") or not (b"\r\n" + rest).endswith(b"\r\n\r\n"):
            raise _not_sent(
                "connect", f"{name} would not connect to {origin.address} (status {status.decode()}): check its rules."
            )

    async def _wrap(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        make: Callable[[], Connection],
        origin: Origin,
        context: ssl.SSLContext | None,
    ) -> Connection:
        """Hands the socket to the loop, which closes it on failure too; with TLS when there is a context."""
        name = origin.host if context is not None else None
        try:
            _, connection = await loop.create_connection(make, sock=sock, ssl=context, server_hostname=name)
        except ssl.SSLCertVerificationError as error:
            raise _not_sent(
                "tls",
                f"The certificate of {origin.address} cannot be trusted: {error.verify_message}. "
                "If it comes from a private CA, name that CA's file in the transport's ca_file.",
            ) from None
        except (OSError, ssl.SSLError) as error:
            if context is None:
                raise _not_sent("connect", f"The connection to {origin.address} broke off at once.") from None
            reason = getattr(error, "reason", None) or type(error).__name__
            raise _not_sent(
                "tls", f"No TLS connection to {origin.address} ({reason}): does it speak https on this port?"
            ) from None
        return connection


def _not_sent(kind: str, message: str) -> TransportError:
    return TransportError(kind, SendPhase.NotSent, message)


def _literal(text: str, port: int) -> Address:
    """The socket address of a literal IP. Raises ValueError."""
    if ipaddress.ip_address(text).version == 6:
        return socket.AF_INET6, (text, port, 0, 0)
    return socket.AF_INET, (text, port)


def _alternate(addresses: list[Address]) -> Iterator[Address]:
    """RFC 8305 section 4: families in turn, beginning with the one that the system puts first."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    second = [address for address in addresses if address[0] != addresses[0][0]]
    for pair in zip_longest(first, second):
        yield from (address for address in pair if address is not None)


async def _connected(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    family, sockaddr = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


async def _first_connected(loop: asyncio.AbstractEventLoop, addresses: list[Address]) -> socket.socket:
    """The first address that answers; the others are given up. Raises OSError when none does."""
    if len(addresses) == 1:
        return await _connected(loop, addresses[0])
    tries: list[asyncio.Task[socket.socket]] = []
    pending: set[asyncio.Task[socket.socket]] = set()
    winner: asyncio.Task[socket.socket] | None = None
    left = list(reversed(addresses))
    try:
        while winner is None and (left or pending):
            if left:
                task = loop.create_task(_connected(loop, left.pop()))
                tries.append(task)
                pending.add(task)
            delay_s = ATTEMPT_DELAY_S if left else None
            done, pending = await asyncio.wait(pending, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
            winner = next((task for task in done if task.exception() is None), None)
    finally:
        await _discard([task for task in tries if task is not winner])
    if winner is not None:
        return winner.result()
    failures = [failure for failure in (task.exception() for task in tries) if failure is not None]
    # "Refused" says most: something is there. A machine without IPv6 fails that family with less.
    raise next((failure for failure in failures if isinstance(failure, ConnectionRefusedError)), failures[0])


async def _discard(tasks: list[asyncio.Task[socket.socket]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()
