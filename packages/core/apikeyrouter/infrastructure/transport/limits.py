"""What the transport allows: how many connections it keeps, and how much a provider may send.

A provider is not trusted to be well: every number here bounds memory or time that a broken or hostile peer could take.
Entry: `TransportLimits`, given to `HttpTransport`. `OriginStats` is what the pool tells about one origin.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OriginStats", "TransportLimits"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Bounds of one transport. All are > 0.

    `connections_per_origin`: open and opening connections to one scheme, host and port; further requests queue.
    `idle_per_origin`: kept alive for reuse; the rest is closed. `idle_s`: an unused connection is closed after this.
    `connection_age_s`: a connection older than this is not reused, so that a changed DNS answer takes effect.
    `head_bytes`: status line and headers, interim (1xx) replies included; also the framing bytes between two pieces of
    a body, trailers included. `header_count`: headers of one reply. `body_bytes`: what `read` accepts.
    `decoded_bytes`: what a compressed body may unpack to, for `read` and `chunks` alike. `buffer_bytes`: beyond this
    much unread body the socket is no longer read (back-pressure).
    """

    connections_per_origin: int = 1000
    idle_per_origin: int = 256
    idle_s: float = 30.0
    connection_age_s: float = 600.0
    head_bytes: int = 64 * KIB
    header_count: int = 200
    body_bytes: int = 64 * MIB
    decoded_bytes: int = 64 * MIB
    buffer_bytes: int = 256 * KIB


@dataclass(frozen=True, slots=True)
class OriginStats:
    """Connections of one origin now (`idle`, `active`, `waiting`) and since the start (`opened`, `reused`).

    `active`: serving a request, or being opened. `waiting`: requests queued for a connection. `reused`: requests that
    were written to a kept connection.
    """

    idle: int
    active: int
    waiting: int
    opened: int
    reused: int
