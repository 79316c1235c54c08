"""OpenTelemetry for the proxy: spans and metrics sent by OTLP, when the standard variables say where to.

Main entry: `open_tracing`. `OTEL_EXPORTER_OTLP_ENDPOINT` turns it on; OpenTelemetry's own SDK reads that and its other
variables (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS` ...):
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ (2026-11-21). A request belongs to its
caller's trace (`traceparent`). Law: sending happens in threads of the SDK; a collector that is slow or away costs
spans, never requests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from apikeyrouter import __version__
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.telemetry import RequestTracer

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from apikeyrouter_proxy.bootstrap import Proxy

__all__ = ["Tracing", "open_tracing"]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_DISABLED = "OTEL_SDK_DISABLED"
_CARRIERS = (b"traceparent", b"tracestate", b"baggage")
_CLOSE_WITHIN_MS = 5000


class Tracing:
    """What sends, and how requests find their caller's trace."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        from opentelemetry import context, propagate

        self._tracers = tracers
        self._meters = meters
        self._attach = context.attach
        self._extract = propagate.extract

    def enter(self, scope: MutableMapping[str, Any]) -> None:
        """Makes the caller's trace the current one, for the rest of this request's task."""
        carried = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIERS}
        if carried:
            self._attach(self._extract(carried))

    async def aclose(self) -> None:
        """Sends what is left, for five seconds at most."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._tracers.force_flush(_CLOSE_WITHIN_MS)
        self._tracers.shutdown()
        self._meters.shutdown(_CLOSE_WITHIN_MS)


def open_tracing(proxy: Proxy, environ: Mapping[str, str] | None = None) -> Tracing | None:
    """Starts sending what the proxy's router does; None where nothing asks for it. Raises ConfigurationError when the
    extra `otel` is not installed."""
    env = os.environ if environ is None else environ
    if not env.get(ENDPOINT, "").strip() or env.get(_DISABLED, "").strip().lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigurationError(
            [f"{ENDPOINT} is set, but the extra is missing: pip install 'apikeyrouter-proxy[otel]', or unset it."]
        ) from None
    named = {"service.version": __version__}
    if not env.get("OTEL_SERVICE_NAME"):
        named["service.name"] = "apikeyrouter"
    if proxy.worker:
        named["service.instance.id"] = f"worker-{proxy.worker}"
    resource = Resource.create(named)
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    meters = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
    proxy.router.journal.recorders.append(RequestTracer(tracers, meters, clock=proxy.clock))
    return Tracing(tracers, meters)
