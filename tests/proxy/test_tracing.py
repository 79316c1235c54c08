"""OpenTelemetry through the door: a real collector's endpoint receives the spans and metrics of a proxy process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

PROMPT = "the words of a prompt that nobody may see"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 5}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes what OTLP sends by HTTP."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        took = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                took.append((self.path, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spans(self) -> list[Any]:
        told = [ExportTraceServiceRequest.FromString(body) for path, body in self.bodies if path == "/v1/traces"]
        return [
            s for one in told for resource in one.resource_spans for scope in resource.scope_spans for s in scope.spans
        ]

    def metrics(self) -> dict[str, Any]:
        told = [ExportMetricsServiceRequest.FromString(body) for path, body in self.bodies if path == "/v1/metrics"]
        return {
            m.name: m for one in told for r in one.resource_metrics for scope in r.scope_metrics for m in scope.metrics
        }


def facts(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def traced(sim: Sim, folder: Path, collector: Collector) -> Any:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    return proxy_process(sim, folder, env=environ)


def ended(proxy: ProxyProcess, collector: Collector) -> list[Any]:
    """Every span, once the proxy has ended."""
    proxy.process.terminate()
    proxy.process.wait(20)
    return collector.spans()


def test_a_request_is_a_span_in_its_callers_trace_with_a_span_for_each_send(
    sim: Sim, tmp_path: Path, collector: Collector
) -> None:
    with traced(sim, tmp_path, collector) as proxy:
        sim.fault(sim.keys[0], "server_error", status=500)
        header = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        begun_ns = time.time_ns()
        for _ in range(len(sim.keys)):
            assert proxy.post("/v1/chat/completions", CHAT, header)[0] == 200
        spans = ended(proxy, collector)
        requests = [span for span in spans if span.name == "chat gpt-4o-mini"]
        sends = [span for span in spans if span.name == "send to openai"]
        assert len(requests) == len(sim.keys)
        assert {span.trace_id.hex() for span in spans} == {TRACE}
        assert {span.parent_span_id.hex() for span in requests} == {PARENT}
        assert {span.parent_span_id for span in sends} == {span.span_id for span in requests}
        failed = [span for span in sends if facts(span).get("error.type")]
        assert {facts(span)["http.response.status_code"] for span in failed} == {500}
        request = next(span for span in requests if span.span_id == failed[0].parent_span_id)
        told = facts(request)
        assert (told["apikeyrouter.attempts"], told["http.response.status_code"]) == (2, 200)
        assert told["gen_ai.usage.output_tokens"] > 0
        assert told["apikeyrouter.decision.id"].startswith("dec_")
        assert (
            begun_ns - 1e9 < request.start_time_unix_nano < failed[0].end_time_unix_nano <= request.end_time_unix_nano
        )


def test_metrics_have_the_names_of_the_conventions_and_nothing_tells_prompts_or_keys(
    sim: Sim, tmp_path: Path, collector: Collector
) -> None:
    with traced(sim, tmp_path, collector) as proxy:
        assert proxy.post("/v1/chat/completions", CHAT)[0] == 200
        assert proxy.post("/v1/chat/completions", {**CHAT, "model": "no-such-model"})[0] >= 400
        ended(proxy, collector)
        metrics = collector.metrics()
        assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", "apikeyrouter.cost"} <= set(metrics)
        points = metrics["gen_ai.client.token.usage"].histogram.data_points
        assert {facts(point)["gen_ai.token.type"] for point in points} == {"input", "output"}
        sent = b"".join(body for _, body in collector.bodies)
        assert PROMPT.encode() not in sent
        assert not [key for key in sim.keys if key.encode() in sent]


def test_a_collector_that_is_away_costs_no_request(sim: Sim, tmp_path: Path, collector: Collector) -> None:
    with traced(sim, tmp_path, collector) as proxy:
        collector.close()
        assert [proxy.post("/v1/chat/completions", CHAT)[0] for _ in range(3)] == [200] * 3
