"""OpenTelemetry, the extra `otel`: one span for each request, one for each send, and GenAI's metrics.

`RequestTracer` is told of every finished request (`Journal.recorders`) and writes spans with the times that were
measured, so that nothing is done for tracing while a request runs. Nothing is imported from OpenTelemetry before one is
made.
"""

from apikeyrouter.infrastructure.telemetry.tracer import RequestTracer

__all__ = ["RequestTracer"]
