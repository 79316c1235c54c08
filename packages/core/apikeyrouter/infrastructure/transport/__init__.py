"""HTTP towards providers. Entry: `HttpTransport`; its bounds: `TransportLimits`."""

from __future__ import annotations

from apikeyrouter.infrastructure.transport.http_transport import HttpTransport
from apikeyrouter.infrastructure.transport.limits import OriginStats, TransportLimits

__all__ = ["HttpTransport", "OriginStats", "TransportLimits"]
