"""Finished requests as spans and measurements; see `RequestTracer`.

Names follow OpenTelemetry's semantic conventions for generative AI, which are still in development:
https://github.com/open-telemetry/semantic-conventions-genai (as of the package opentelemetry-semantic-conventions
0.66b2). Laws: no prompt, reply or key material is in any of it; what is ours alone is named `apikeyrouter.*`; a span's
times are those of the router's clock, moved to the time of day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.call import Call, Operation
from apikeyrouter.domain.routing.explain import AttemptFact, DecisionRecord
from apikeyrouter.infrastructure.clock import SystemClock

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["RequestTracer"]

_SCOPE = "apikeyrouter"
_NANO = 1_000_000_000

_OPERATIONS = {
    Operation.Chat: "chat",
    Operation.Messages: "chat",
    Operation.Responses: "chat",
    Operation.Gemini: "generate_content",
    Operation.Completions: "text_completion",
    Operation.Embeddings: "embeddings",
}
"""Well-known values of `gen_ai.operation.name`; others are told by the name of the endpoint."""

_PROVIDERS = {
    "azure": "azure.ai.openai", "bedrock": "aws.bedrock", "gemini": "gcp.gemini", "google": "gcp.gemini",
    "mistral": "mistral_ai", "vertex": "gcp.vertex_ai", "xai": "x_ai",
}  # fmt: skip
"""Well-known values of `gen_ai.provider.name` where our ids differ."""

_DURATIONS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""Bucket bounds that the conventions give for durations and token counts."""


class RequestTracer:
    """Writes to OpenTelemetry what `Journal.recorders` are told.

    `clock`: the router's, if it was given one. Providers default to the process's own ones, as
    `opentelemetry.trace.set_tracer_provider` and `opentelemetry.metrics.set_meter_provider` set them. Spans belong to
    whichever trace is current where the request was made. Raises ConfigurationError when OpenTelemetry is not installed
    (the extra `otel`).
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise ConfigurationError(
                ["OpenTelemetry is not installed. Install the extra: pip install 'apikeyrouter-core[otel]'"]
            ) from None
        self._trace = trace
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        clock = clock or SystemClock()
        self._epoch_ns = int(clock.utc_now().timestamp() * _NANO) - int(clock.monotonic_s() * _NANO)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Whole requests.", explicit_bucket_boundaries_advisory=_DURATIONS_S
        )
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "From a send to the reply's first byte.",
            explicit_bucket_boundaries_advisory=_DURATIONS_S,
        )  # fmt: skip
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens of requests.", explicit_bucket_boundaries_advisory=_TOKENS
        )
        self._cost = meter.create_counter("apikeyrouter.cost", "USD", "US dollars that were charged.")

    def __call__(self, call: Call, record: DecisionRecord, status: int, usage: Usage | None) -> None:
        """One request ended."""
        facts = self._facts(call, record, record.attempts[-1] if record.attempts else None)
        name = f"{facts['gen_ai.operation.name']} {record.model}".strip()
        span = self._tracer.start_span(
            name,
            kind=self._trace.SpanKind.INTERNAL,
            attributes={**facts, **_of_request(record, status)},
            start_time=self._ns(call.started_s),
        )
        if span.is_recording():
            self._tell_usage(span, usage)
            self._ended(span, record.outcome)
            for number, attempt in enumerate(record.attempts, 1):
                self._tell_attempt(span, call, record, attempt, number)
        span.end(self._ns(call.started_s + record.duration_s))
        self._measure(facts, record, usage)

    def _tell_attempt(self, above: Span, call: Call, record: DecisionRecord, attempt: AttemptFact, number: int) -> None:
        facts = self._facts(call, record, attempt)
        facts |= {"apikeyrouter.key": attempt.label, "apikeyrouter.attempt": number}
        if attempt.status is not None:
            facts["http.response.status_code"] = attempt.status
        if attempt.ttft_s is not None:
            facts["gen_ai.response.time_to_first_chunk"] = attempt.ttft_s
        span = self._tracer.start_span(
            f"send to {attempt.provider_id}",
            context=self._trace.set_span_in_context(above),
            kind=self._trace.SpanKind.CLIENT,
            attributes=facts,
            start_time=self._ns(attempt.started_s),
        )
        self._ended(span, attempt.outcome)
        span.end(self._ns(attempt.started_s + attempt.duration_s))

    def _ended(self, span: Span, outcome: str) -> None:
        if outcome != "ok":
            span.set_attribute("error.type", outcome)
            span.set_status(self._trace.StatusCode.ERROR, outcome)

    def _tell_usage(self, span: Span, usage: Usage | None) -> None:
        if usage is None:
            return
        span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
        if usage.cached_input_tokens:
            span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_input_tokens)

    def _measure(self, facts: dict[str, Any], record: DecisionRecord, usage: Usage | None) -> None:
        failed = {} if record.outcome == "ok" else {"error.type": record.outcome}
        self._duration.record(record.duration_s, {**facts, **failed})
        last = record.attempts[-1] if record.attempts else None
        if last is not None and last.ttft_s is not None:
            self._first.record(last.ttft_s, facts)
        if usage is not None:
            self._tokens.record(usage.input_tokens, {**facts, "gen_ai.token.type": "input"})
            self._tokens.record(usage.output_tokens, {**facts, "gen_ai.token.type": "output"})
        if record.cost_nano_usd:
            self._cost.add(record.cost_nano_usd / _NANO, facts)

    def _facts(self, call: Call, record: DecisionRecord, attempt: AttemptFact | None) -> dict[str, Any]:
        operation = _OPERATIONS.get(call.operation, call.operation.value)
        provider_id = attempt.provider_id if attempt is not None else ""
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _PROVIDERS.get(provider_id, provider_id),
            "gen_ai.request.model": record.model,
        }

    def _ns(self, monotonic_s: float) -> int:
        return self._epoch_ns + int(monotonic_s * _NANO)


def _of_request(record: DecisionRecord, status: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "gen_ai.request.stream": record.stream,
        "http.response.status_code": status,
        "apikeyrouter.request.id": record.request_id,
        "apikeyrouter.decision.id": record.decision_id,
        "apikeyrouter.objective": record.objective.name,
        "apikeyrouter.attempts": len(record.attempts),
        "apikeyrouter.candidates": record.candidates,
    }
    if record.caller:
        facts["apikeyrouter.caller"] = record.caller
    if record.cost_nano_usd is not None:
        facts["apikeyrouter.cost_usd"] = record.cost_nano_usd / _NANO
    if record.waited_s:
        facts["apikeyrouter.waited_s"] = record.waited_s
    return facts
