"""The simulated provider as an application, driven in process with a clock that jumps."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from apikeyrouter.simulation.asgi import SimulatedProvider
from apikeyrouter.simulation.config import AccountConfig, Limits, Pace, SimConfig, load_config
from apikeyrouter.simulation.connection import SOCKET_EXTENSION
from apikeyrouter.simulation.control import Control
from apikeyrouter.simulation.faults import Fault, FaultKind, RetryAfterForm

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHAT = "/v1/chat/completions"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


class JumpClock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def utc_now(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(0)
        self.now_s += delay_s


class Wire:
    """The socket of one call; breaking it makes the application see a disconnect."""

    def __init__(self) -> None:
        self.broken: str | None = None
        self.gone = asyncio.Event()

    def reset(self) -> None:
        self.broken = "reset"
        self.gone.set()

    def close(self) -> None:
        self.broken = "close"
        self.gone.set()


class Reply:
    """What came back of one call."""

    def __init__(self, messages: list[dict[str, Any]], wire: Wire) -> None:
        self.status: int | None = messages[0]["status"] if messages else None
        self.headers: dict[str, str] = {}
        if messages:
            self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])
        self.complete = bool(messages) and messages[-1].get("more_body") is False
        self.wire = wire

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


class Caller:
    """Calls one provider. `leave_after`: the client leaves when it has seen so many body messages."""

    def __init__(self, config: SimConfig | None = None) -> None:
        self.clock = JumpClock()
        self.provider = SimulatedProvider(config, clock=self.clock)
        self.control = Control(self.provider)

    async def __call__(
        self,
        body: dict[str, Any] | bytes | None = None,
        *,
        key: str = "sim-key-1",
        path: str = CHAT,
        method: str | None = None,
        leave_after: int | None = None,
        headers: dict[str, str] | None = None,
        client: str = "127.0.0.1",
    ) -> Reply:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        wire = Wire()
        sent: list[dict[str, Any]] = []
        incoming = [{"type": "http.request", "body": raw, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop()
            await wire.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if leave_after is not None and len(sent) > leave_after:
                wire.gone.set()

        path, _, query = path.partition("?")
        given = {"host": "127.0.0.1:8010", "authorization": f"Bearer {key}", **(headers or {})}
        scope = {
            "type": "http",
            "method": method or ("GET" if body is None else "POST"),
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": (client, 5),
            "extensions": {SOCKET_EXTENSION: wire},
        }
        if leave_after == 0:
            wire.gone.set()
        await self.provider(scope, receive, send)
        return Reply(sent, wire)

    def fault(self, kind: FaultKind, key: str | None = None, **details: Any) -> None:
        self.control.add_faults([Fault(kind, key, **details)])

    def counts(self, key: str = "sim-key-1") -> dict[str, Any]:
        found: dict[str, Any] = self.control.state(key)["keys"][key]
        return found


async def test_limits_are_enforced_and_waiting_as_long_as_told_helps() -> None:
    call = Caller(SimConfig(limits=Limits(rpm=2, tpm=None)))
    assert [(await call(HELLO)).status for _ in range(2)] == [200, 200]
    refused = await call(HELLO)
    assert (refused.status, refused.headers["retry-after"]) == (429, "30")
    call.clock.now_s += 29.9
    assert (await call(HELLO)).status == 429  # and this knock costs a request again
    call.clock.now_s += 30
    assert (await call(HELLO)).status == 200


async def test_admission_charges_the_larger_of_max_tokens_and_estimate() -> None:
    call = Caller(SimConfig(limits=Limits(rpm=None, tpm=1000)))
    reply = await call({**HELLO, "max_tokens": 600})
    assert reply.headers["x-ratelimit-remaining-tokens"] == "400"
    assert (await call({**HELLO, "max_tokens": 600})).error["type"] == "tokens"
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 1200}]}
    assert int((await call(body)).headers["x-ratelimit-remaining-tokens"]) < 100


async def test_the_legacy_endpoint_charges_max_tokens_too() -> None:
    call = Caller(SimConfig(limits=Limits(rpm=None, tpm=1000)))
    reply = await call({"model": "davinci-002", "prompt": "Once", "max_tokens": 600}, path="/v1/completions")
    assert reply.headers["x-ratelimit-remaining-tokens"] == "400"


async def test_a_refused_client_error_counts_against_the_limits_and_carries_their_headers() -> None:
    reply = await Caller()({**HELLO, "messages": []})
    assert (reply.status, reply.headers["x-ratelimit-remaining-requests"]) == (400, "499")


async def test_an_unknown_model_is_a_404_without_rate_limit_headers() -> None:
    reply = await Caller()({**HELLO, "model": "no-such-model"})
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert "x-ratelimit-limit-requests" not in reply.headers


async def test_unknown_addresses_and_methods_are_refused_as_the_real_one_does() -> None:
    call = Caller()
    assert (await call(HELLO, path="/v1/foo")).error["message"] == "Invalid URL (POST /v1/foo)"
    assert (await call(path=CHAT)).status == 405
    assert (await call(HELLO, path="/v1/models")).status == 405


async def test_models_are_listed_and_found_one_by_one() -> None:
    call = Caller()
    listed = (await call(path="/v1/models")).json
    assert listed["object"] == "list"
    assert "gpt-4o" in {model["id"] for model in listed["data"]}
    assert (await call(path="/v1/models/meta/llama:8b")).json["id"] == "meta/llama:8b"
    assert (await call(path="/v1/models/no-such")).status == 404


async def test_a_run_replays_from_its_seed_to_the_byte() -> None:
    async def run(seed: int) -> list[bytes]:
        call = Caller(SimConfig(seed=seed))
        call.fault(FaultKind.ServerError, probability=0.5)
        return [(await call({**HELLO, "stream": n % 2 == 1})).body for n in range(20)]

    assert await run(3) == await run(3)
    assert await run(3) != await run(4)


async def test_reset_brings_back_the_beginning() -> None:
    call = Caller()
    first = (await call(HELLO)).body
    call.fault(FaultKind.Revoked)
    await call({}, path="/_sim/reset")
    assert (await call(HELLO)).body == first
    assert call.counts()["requests"] == 1


async def test_pace_spaces_the_tokens_of_streams_and_of_whole_replies() -> None:
    config = SimConfig(pace=Pace(first_token_s=2.0, token_s=0.5))
    whole = Caller(config)
    tokens = (await whole(HELLO)).json["usage"]["completion_tokens"]
    assert whole.clock.now_s == 2.0 + 0.5 * (tokens - 1)
    stream = Caller(config)
    events = (await stream({**HELLO, "stream": True})).body.count(b"\n\n")
    assert stream.clock.now_s == 2.0 + 0.5 * (events - 1)


async def test_slowness_faults_add_to_the_pace() -> None:
    call = Caller()
    call.fault(FaultKind.LatencyS, delay_s=7)
    call.fault(FaultKind.SlowFirstToken, delay_s=3)
    await call(HELLO)
    assert call.clock.now_s == 10.0


@pytest.mark.parametrize(
    ("form", "header", "value"),
    [
        (RetryAfterForm.Seconds, "retry-after", "20"),
        (RetryAfterForm.HttpDate, "retry-after", "Fri, 02 Jan 2026 03:04:25 GMT"),
        (RetryAfterForm.Milliseconds, "retry-after-ms", "20000"),
    ],
)
async def test_a_rate_limit_fault_hints_in_the_wanted_form(form: RetryAfterForm, header: str, value: str) -> None:
    call = Caller()
    call.fault(FaultKind.RateLimited, retry_after_s=20, retry_after_form=form)
    reply = await call(HELLO)
    assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")
    assert reply.headers[header] == value
    assert len({"retry-after", "retry-after-ms"} & set(reply.headers)) == 1


async def test_a_hint_may_stand_in_the_text_alone_or_nowhere() -> None:
    call = Caller()
    call.fault(FaultKind.RateLimited, count=1, retry_after_s=1.2, retry_after_form=RetryAfterForm.Message)
    call.fault(FaultKind.RateLimited, retry_after_s=20, retry_after_form=RetryAfterForm.NoHint)
    texted, silent = await call(HELLO), await call(HELLO)
    assert "Please try again in 1.2s" in texted.error["message"]
    for reply in (texted, silent):
        assert not {"retry-after", "retry-after-ms"} & set(reply.headers)
    assert "try again" not in silent.error["message"]


async def test_a_rate_limit_with_an_end_hints_at_its_end() -> None:
    call = Caller()
    call.fault(FaultKind.RateLimited, "sim-key-1", for_s=20)
    call.clock.now_s += 5
    assert (await call(HELLO)).headers["retry-after"] == "15"
    call.clock.now_s += 15
    assert (await call(HELLO)).status == 200


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(FaultKind.Revoked), 401, "invalid_api_key"),
        (Fault(FaultKind.Revoked, code="account_deactivated"), 401, "account_deactivated"),
        (Fault(FaultKind.Billing), 429, "insufficient_quota"),
        (Fault(FaultKind.ServerError), 500, None),
        (Fault(FaultKind.ServerError, status=503), 503, "server_is_overloaded"),
        (Fault(FaultKind.ServerError, status=529), 529, None),
        (Fault(FaultKind.ClientError, status=413, code="too_big", param="messages"), 413, "too_big"),
    ],
)
async def test_error_faults_answer_with_their_status_and_code(fault: Fault, status: int, code: str | None) -> None:
    call = Caller()
    call.control.add_faults([fault])
    reply = await call(HELLO)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert call.counts()["by_status"] == {str(status): 1}


async def test_failed_requests_use_up_the_request_limit() -> None:
    call = Caller(SimConfig(limits=Limits(rpm=2, tpm=None)))
    call.fault(FaultKind.ServerError, count=2)
    assert [(await call(HELLO)).status for _ in range(3)] == [500, 500, 429]


@pytest.mark.parametrize(("body", "start"), [("html", b"<html>"), ("empty", b"")])
async def test_server_errors_come_in_other_bodies_too(body: str, start: bytes) -> None:
    call = Caller()
    call.fault(FaultKind.ServerError, status=502, body=body)
    reply = await call(HELLO)
    assert reply.status == 502
    assert reply.body.startswith(start)
    assert bool(reply.body) == bool(start)


@pytest.mark.parametrize("kind", [FaultKind.Reset, FaultKind.Close])
async def test_connection_faults_break_before_any_byte(kind: FaultKind) -> None:
    call = Caller()
    call.fault(kind)
    reply = await call(HELLO)
    assert (reply.status, reply.wire.broken) == (None, kind.value)
    assert call.counts()["by_status"] == {kind.value: 1}
    assert call.counts()["disconnected"] == 0


async def test_a_hanging_request_ends_when_its_client_leaves() -> None:
    call = Caller()
    call.fault(FaultKind.Hang)
    assert (await call(HELLO, leave_after=0)).status is None
    assert call.counts()["disconnected"] == 1
    assert call.counts()["in_flight"] == 0


async def test_a_server_that_stops_hangs_up_on_those_who_wait() -> None:
    call = Caller()
    call.fault(FaultKind.Hang)
    waiting = asyncio.create_task(call(HELLO))
    while call.counts()["in_flight"] == 0:  # noqa: ASYNC110  (the provider has no event for this)
        await asyncio.sleep(0)
    call.provider.hang_up()
    assert (await waiting).wire.broken == "reset"


@pytest.mark.parametrize("after", [0, 1, 3, 10_000])
async def test_a_cut_stream_stops_after_so_many_events_and_never_says_done(after: int) -> None:
    call = Caller()
    call.fault(FaultKind.CutStream, after_chunks=after)
    reply = await call({**HELLO, "stream": True})
    assert reply.body.count(b"\n\n") == after or after == 10_000
    assert b"[DONE]" not in reply.body
    assert (reply.complete, reply.wire.broken) == (False, "close")
    assert call.counts()["cut"] == 1


async def test_a_cut_whole_reply_breaks_off_half_way() -> None:
    call = Caller()
    call.fault(FaultKind.CutStream, rst=True)
    reply = await call(HELLO)
    assert (reply.complete, reply.wire.broken) == (False, "reset")
    assert 0 < len(reply.body) < int(reply.headers["content-length"])


@pytest.mark.parametrize("after", [0, 2])
async def test_a_stream_error_is_an_event_without_done(after: int) -> None:
    call = Caller()
    call.fault(FaultKind.StreamError, after_chunks=after, code="server_error")
    events = (await call({**HELLO, "stream": True})).body.split(b"\n\n")[:-1]
    assert len(events) == after + 1
    assert json.loads(events[-1].removeprefix(b"data: "))["error"]["code"] == "server_error"


async def test_bad_json_is_bad_in_whole_replies_and_in_one_event_of_a_stream() -> None:
    call = Caller()
    call.fault(FaultKind.BadJson, after_chunks=2)
    whole = await call(HELLO)
    assert whole.headers["content-type"] == "application/json"
    with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting|property"):
        json.loads(whole.body)
    events = (await call({**HELLO, "stream": True})).body.split(b"\n\n")
    broken = [number for number, event in enumerate(events[:-2]) if not event.endswith(b"}")]
    assert broken == [2]
    assert events[-2] == b"data: [DONE]"


async def test_a_wrong_content_type_comes_with_the_reply_or_with_a_page() -> None:
    call = Caller()
    call.fault(FaultKind.WrongContentType, count=1)
    call.fault(FaultKind.WrongContentType, body="html")
    plain, page = await call(HELLO), await call({**HELLO, "stream": True})
    assert (plain.headers["content-type"], plain.json["object"]) == ("text/plain", "chat.completion")
    assert (page.headers["content-type"], page.body[:6]) == ("text/html", b"<html>")


async def test_a_huge_reply_has_the_wanted_size() -> None:
    call = Caller()
    call.fault(FaultKind.Huge, size_bytes=200_001)
    reply = await call(HELLO)
    assert len(reply.json["padding"]) == 200_001


async def test_a_client_that_leaves_a_stream_is_noticed() -> None:
    call = Caller(SimConfig(pace=Pace(token_s=1.0)))
    reply = await call({**HELLO, "stream": True}, leave_after=3)
    assert b"[DONE]" not in reply.body
    assert call.counts()["disconnected"] == 1
    assert call.clock.now_s < 10


async def test_what_reached_upstream_can_be_read_without_credentials() -> None:
    call = Caller(SimConfig(record_last=2))
    secret = "sk-" + "s" * 20
    for number in range(3):
        await call({**HELLO, "user": f"u{number}"}, key=secret, headers={"x-mine": "yes", "x-api-key": secret})
    read = await call(path="/_sim/requests")
    assert secret.encode() not in read.body
    assert [json.loads(request["body"])["user"] for request in read.json["requests"]] == ["u1", "u2"]
    assert read.json["requests"][0]["headers"]["x-mine"] == "yes"
    mine = (await call(path=f"/_sim/requests?key={secret}&last=1")).json["requests"]
    assert [request["number"] for request in mine] == [3]
    assert (mine[0]["at_utc_s"], mine[0]["status"]) == (START.timestamp(), "200")
    state = await call(path=f"/_sim/state?key={secret}")
    assert secret.encode() not in state.body
    (counts,) = state.json["keys"].values()
    assert counts["requests"] == 3


async def test_a_fixed_limit_is_back_with_the_clock_minute_and_a_rolling_one_is_not() -> None:
    for refill, status in (("fixed", 200), ("rolling", 429)):
        call = Caller(msgspec.convert({"limits": {"rpm": 1, "refill": refill}}, SimConfig))
        assert (await call(HELLO)).status == 200
        refused = await call(HELLO)
        assert refused.headers["retry-after"] == {"fixed": "55", "rolling": "60"}[refill]  # the clock says 03:04:05
        call.clock.now_s = 55.0
        assert (await call(HELLO)).status == status


async def test_usage_and_concurrency_are_counted_per_key() -> None:
    call = Caller()
    replies = await asyncio.gather(*(call(HELLO) for _ in range(3)))
    total = sum(reply.json["usage"]["completion_tokens"] for reply in replies)
    assert call.counts()["completion_tokens"] == total
    assert call.counts("sim-key-2")["requests"] == 0


async def test_the_control_endpoint_sets_lists_and_ends_faults() -> None:
    call = Caller()
    ids = (await call([{"kind": "hang", "key": "sim-key-1"}, {"kind": "billing"}], path="/_sim/faults")).json["ids"]  # type: ignore[arg-type]  # a list body
    listed = (await call(path="/_sim/faults")).json["faults"]
    assert [fault["id"] for fault in listed] == ids
    ended = await call(path=f"/_sim/faults?id={ids[1]}", method="DELETE")
    assert ended.json == {"ended": 1}
    assert (await call(path="/_sim/faults?key=sim-key-1", method="DELETE")).json == {"ended": 1}


async def test_the_control_endpoint_adds_accounts() -> None:
    call = Caller()
    made = await call(
        {"name": "poor", "keys": ["poor-key"], "limits": {"rpm": 1}, "credit_tokens": 5}, path="/_sim/accounts"
    )
    assert made.json["accounts"]["poor"]["credit_tokens"] == 5
    assert (await call(HELLO, key="poor-key")).status == 200
    assert (await call(HELLO, key="poor-key")).error["code"] == "insufficient_quota"


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/_sim/nothing", "GET", None, 404),
        ("/_sim/faults", "POST", {"kind": "sulk"}, 400),
        ("/_sim/faults", "POST", b"{", 400),
        ("/_sim/faults?id=x", "DELETE", None, 400),
        ("/_sim/requests?last=x", "GET", None, 400),
        ("/_sim/reset", "POST", {"sed": 1}, 400),
    ],
)
async def test_wrong_control_requests_are_refused(path: str, method: str, body: Any, status: int) -> None:
    assert (await Caller()(body, path=path, method=method)).status == status


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({"origin": "https://example.com"}, "127.0.0.1"),
        ({"host": "example.com"}, "127.0.0.1"),
        ({"host": "example.com:8010"}, "127.0.0.1"),
        ({}, "192.0.2.7"),
    ],
)
async def test_the_control_endpoint_answers_only_callers_on_this_machine(headers: dict[str, str], client: str) -> None:
    reply = await Caller()(path="/_sim/state", headers=headers, client=client)
    assert reply.status == 403
    assert b"keys" not in reply.body


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8010", "[::1]:8010", "[::1]"])
async def test_local_names_reach_the_control_endpoint(host: str) -> None:
    assert (await Caller()(path="/_sim/state", headers={"host": host})).status == 200


async def test_a_body_in_pieces_is_put_together_and_a_half_one_dropped() -> None:
    provider = SimulatedProvider(clock=JumpClock())
    raw = json.dumps(HELLO).encode()
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [(b"authorization", b"Bearer sim-key-1")]}
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    for ending in ({"type": "http.request", "body": raw[10:]}, {"type": "http.disconnect"}):
        pieces = iter([{"type": "http.request", "body": raw[:10], "more_body": True}, ending])

        async def receive(pieces: Any = pieces) -> dict[str, Any]:
            piece: dict[str, Any] = next(pieces)
            return piece

        await provider(scope, receive, send)
    assert [message["status"] for message in sent if "status" in message] == [200]


def test_a_configuration_file_is_read_and_its_faults_named_with_their_path(tmp_path: Any) -> None:
    path = tmp_path / "sim.json"
    path.write_text('{"seed": 9, "limits": "none", "accounts": [{"name": "a", "keys": ["k"]}]}')
    config = load_config(path)
    assert (config.seed, config.limits, config.accounts) == (9, "none", (AccountConfig(name="a", keys=("k",)),))
    for wrong, words in (
        ('{"sede": 9}', "sede"),
        ('{"seed": "x"}', r"\$\.seed"),
        ('{"reply_tokens": [9, 2]}', "least"),
    ):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=words):
            load_config(path)
