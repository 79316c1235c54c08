"""Bodies in the log: never unless asked for, of the share that was asked for, capped, and without secrets."""

from __future__ import annotations

import base64
import http.client
import json
import random
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter_proxy.body_log import BODY_MAX_BYTES, loggable
from apikeyrouter_proxy.body_pieces import joined
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.settings import ProxySettings
from tests.support.config_files import configured, until
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim
from tests.support.upstream import CHAT_ANSWER, Upstream, upstream

CHAT = "/v1/chat/completions"


def asking(text: str = "Hello!", **members: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **members}


def random_word(length: int = 32) -> str:
    return "".join(random.choices(string.ascii_lowercase + string.digits, k=length))


class Told:
    """What the proxy wrote to standard output: `text`, and the lines of bodies among it."""

    text = ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == "request_bodies"]

    @property
    def line(self) -> dict[str, Any]:
        (only,) = self.lines
        return only


class Desk:
    """Proxies whose output is kept when they end."""

    def __init__(self, sim: Sim, capsys: pytest.CaptureFixture[str]) -> None:
        self.sim = sim
        self._capsys = capsys

    @contextmanager
    def proxy(
        self, log_bodies: float = 1.0, *, base_url: str = "", **settings: Any
    ) -> Iterator[tuple[Served, Told, Proxy]]:
        told = Told()
        given = {"log_level": "INFO", "log_bodies": log_bodies, **settings}
        with run_proxy(base_url or self.sim.base_url, self.sim.keys[:1], **given) as (served, proxy):
            yield served, told, proxy
        told.text = self._capsys.readouterr().out


@pytest.fixture
def desk(sim: Sim, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(sim, capsys)


@pytest.fixture
def provider() -> Iterator[Upstream]:
    """A provider whose answers the test writes."""
    with upstream() as app:
        yield app


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_no_body_is_logged_unless_somebody_asked_for_it(desk: Desk, level: str) -> None:
    word = random_word()
    with desk.proxy(ProxySettings().log_bodies, log_level=level) as (served, told, proxy):
        assert proxy.data_plane.bodies is None
        for body in (asking(word), asking(word, stream=True), asking(word, model=""), {"word": word}):
            served.post(CHAT, body)
    assert told.lines == []
    assert '"event":"request"' in told.text
    assert word not in told.text


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_a_whole_reply_is_told_with_what_was_asked_and_by_whom(desk: Desk, log_format: str) -> None:
    with desk.proxy(log_format=log_format) as (served, told, _):
        answer = served.post(CHAT, asking("What is it?"), {"x-request-id": "asked-for-by-a-test"})
    line = told.line
    assert json.loads(line["request"]) == asking("What is it?")
    assert line["response"].encode() == answer.body
    assert (line["request_bytes"], line["response_bytes"]) == (len(line["request"]), len(answer.body))
    assert (line["request_cut"], line["response_cut"], line["complete"], line["status"]) == (False, False, True, 200)
    assert (line["request_id"], line["decision_id"]) == ("asked-for-by-a-test", answer.headers["x-akr-decision"])
    assert (line["model"], line["endpoint"], line["caller"]) == ("gpt-4o-mini", f"POST {CHAT}", "local")
    assert (line["request_type"], line["response_type"]) == ("application/json", "application/json")
    assert (line["level"], line["logger"]) == ("info", "apikeyrouter_proxy.bodies")


def test_a_stream_is_told_as_the_client_got_it(desk: Desk) -> None:
    with desk.proxy() as (served, told, _):
        answer = served.post(CHAT, asking(stream=True, max_tokens=5))
    line = told.line
    assert line["response_bytes"] == len(answer.body)
    assert line["response_type"] == "text/event-stream"
    assert line["response"].startswith('data: {"')
    assert answer.body.decode().startswith(line["response"])
    assert line["complete"]


def test_errors_are_told_whoever_makes_them(desk: Desk) -> None:
    desk.sim.fault(None, "client_error")
    with desk.proxy() as (served, told, _):
        answers = [
            served.post(CHAT, asking()),  # the provider's
            served.post(CHAT, b'{"model": '),
            served.post("/v1/nothing", asking()),
        ]
    assert [line["status"] for line in told.lines] == [400, 400, 404]
    for line, answer in zip(told.lines, answers, strict=True):
        assert line["response"].encode() == answer.body
        assert line["request_id"] == answer.headers["x-request-id"]
    assert told.lines[0]["decision_id"] == answers[0].headers["x-akr-decision"]
    assert told.lines[1] | {"request": '{"model": ', "decision_id": None, "model": ""} == told.lines[1]
    assert told.lines[2]["request"] is None  # an address that does not exist is refused unread
    assert told.lines[2]["request_bytes"] is None


def test_long_bodies_are_cut_and_say_so(desk: Desk, provider: Upstream) -> None:
    text = "Long words of a patient author, über alles. " * 1000
    events = "".join(
        f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': f'{i} '}}]})}\n\n" for i in range(500)
    )
    provider.answers(CHAT, (events + "data: [DONE]\n\n").encode(), kind="text/event-stream")
    with desk.proxy(base_url=provider.base_url) as (served, told, _):
        stream = served.post(CHAT, asking(text, stream=True))
        provider.answers(CHAT, CHAT_ANSWER | {"text": text})
        whole = served.post(CHAT, asking(text))
    for line, answer in zip(told.lines, (stream, whole), strict=True):
        assert answer.status == 200
        assert len(answer.body) > 2 * BODY_MAX_BYTES
        assert line["response_bytes"] == len(answer.body)
        assert line["request_bytes"] > len(text)
        assert (line["request_cut"], line["response_cut"], line["complete"]) == (True, True, True)
        for part in (line["request"], line["response"]):
            assert BODY_MAX_BYTES - 4 < len(part.encode()) <= BODY_MAX_BYTES
        assert answer.body.decode().startswith(line["response"])


def forms_of(secret: str) -> list[str]:
    """Texts that hold it, as people paste them."""
    return [
        f"My key is sk-{secret}, is it good?",
        f"Key:\nsk-{secret}\n",
        f"curl -H 'Authorization: Bearer {secret}' x",
        f"Authorization: Token {secret}",
        f'{{"api_key": "{secret}"}}',
        json.dumps({"headers": json.dumps({"authorization": f"Bearer {secret}"})}),
        json.dumps({"text": json.dumps({"password": secret, "x-api-key": secret})}),
        f"https://somebody:{secret}@example.com/?a=1&key={secret}",
        f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----",
        f"ek_{secret}",
    ]


def test_what_looks_like_a_key_is_not_in_the_log(desk: Desk) -> None:
    secrets = [random_word() for _ in range(10)]
    texts = [forms_of(secret)[i] for i, secret in enumerate(secrets)]
    with desk.proxy() as (served, told, _):
        for text in texts:
            for body in (
                json.dumps(asking(text)),
                json.dumps(asking(text)).replace("/", "\\/").replace("&", "\\u0026"),
            ):
                served.post(CHAT, body.encode())
                served.post(CHAT, body.encode()[:-2])  # no JSON, and told all the same
    assert len(told.lines) == 40
    for secret, text in zip(secrets, texts, strict=True):
        assert secret not in told.text, text
        assert secret[8:24] not in told.text, text
    assert all("[redacted]" in line["request"] for line in told.lines)
    assert "is it good?" in told.lines[0]["request"]


def _chat(piece: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "obfuscation": random_word(), "choices": [{"index": 0, "delta": {"content": piece}}]}


def _call(piece: str) -> dict[str, Any]:
    call = {"index": 0, "function": {"arguments": piece}}
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


@pytest.mark.parametrize("event", [_chat, _call])
@pytest.mark.parametrize("form", [0, 1, 3, 4, 7, 9])
def test_a_key_that_a_stream_spells_over_several_events_is_not_in_the_log(
    desk: Desk, provider: Upstream, event: Callable[[str], dict[str, Any]], form: int
) -> None:
    secret = random_word()
    text = f"Here it comes: {forms_of(secret)[form]} That was it."
    pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
    events = "".join(f"data: {json.dumps(event(piece))}\n\n" for piece in pieces) + "data: [DONE]\n\n"
    provider.answers(CHAT, events.encode(), kind="text/event-stream")
    with desk.proxy(base_url=provider.base_url) as (served, told, _):
        assert served.post(CHAT, asking(stream=True)).body.decode().count("data: ") == len(pieces) + 1
    assert not any(secret[at : at + 6] in spelt(told.line) for at in range(len(secret) - 5))
    assert "Here it comes: " in spelt(told.line)
    assert "[redacted]" in told.line["response"]


def spelt(line: dict[str, Any]) -> str:
    """What the events that are told in a line say together."""
    said = ""
    for event in line["response"].split("\n\n"):
        try:
            delta = json.loads(event.removeprefix("data: "))["choices"][0]["delta"]
        except ValueError:
            continue
        said += delta["content"] if "content" in delta else delta["tool_calls"][0]["function"]["arguments"]
    return said


def test_texts_that_are_spelt_at_the_same_time_are_told_apart_and_what_holds_no_key_stays() -> None:
    secret = random_word()
    words = [f"sk-{secret}"[at : at + 5] for at in range(0, 35, 5)]
    both = [
        {"type": "delta", "output_index": place, "delta": {"text": piece}}
        for first, second in zip(words, "The other.", strict=False)
        for place, piece in ((0, first), (1, second))
    ]
    for head, tail, begin, end in (("data: ", "\n\n", "", ""), ("", "\n", "", ""), ("", "", "[", "]\n")):
        between = ",\n" if begin else ""
        body = begin + between.join(f"{head}{json.dumps(one)}{tail}" for one in both) + end
        kind = "application/json" if begin else "text/event-stream" if head else "application/x-ndjson"
        shown, cut = loggable(body.encode(), kind, (), more=False)
        assert shown is not None
        assert not cut
        assert not any(piece in shown for piece in words)
        assert all(json.dumps(one) in shown for one in both[1::2])
        calm = begin + between.join(f"{head}{json.dumps(one)}{tail}" for one in both[1::2]) + end
        assert loggable(calm.encode(), kind, (), more=False) == (calm, False)


def test_of_a_stream_that_is_cut_no_end_of_a_key_is_left() -> None:
    for shift in range(0, 60, 3):
        secret = "Zz9" * 40
        text = "word " * (shift // 3) + f"sk-{secret}" + " and more" * 300
        pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
        body = "".join(f"data: {json.dumps(_chat(piece) | {'padding': '{}' * 60})}\n\n" for piece in pieces).encode()
        shown, cut = loggable(body[: 2 * BODY_MAX_BYTES], "text/event-stream", (), more=True)
        assert shown is not None
        assert cut
        assert "Zz9" not in shown.replace("obfuscation", "")
    long = f"data: {json.dumps(_chat('word ' * 4000))}\n\n".encode()
    shown, _ = loggable(long, "text/event-stream", (), more=True)
    assert shown is not None
    assert shown.count("word ") > 700


def test_no_half_of_a_key_is_left_where_a_body_is_cut() -> None:
    for shift in range(200):
        for length in (BODY_MAX_BYTES, 2 * BODY_MAX_BYTES):
            secret = random_word()
            # many keys make a text short, so that what stands at the end of what is looked at is told
            words = f"sk-{'b' * 200} " * 50
            body = words[: length - shift].rpartition("sk-")[0].ljust(length - shift) + f"sk-{secret} and more " * 400
            for more in (False, True):
                text, cut = loggable(body.encode(), "text/plain", (), more=more)
                assert text is not None
                assert cut
                assert secret[:6] not in text


def test_a_body_that_was_read_to_its_beginning_only_tells_no_last_word() -> None:
    assert loggable(b'{"a": "b sk-0', "application/json", (), more=True) == ('{"a": "b ', True)
    assert loggable(b'{"a": "b sk-0', "application/json", (), more=False) == ('{"a": "b sk-0', False)
    assert loggable(b'"Bearer a\\/b', "application/json", (), more=True) == ('"Bearer ', True)
    assert loggable("über".encode()[:1], "text/plain", (), more=True) == ("", True)


@pytest.mark.parametrize(
    "text", ["word " * 400_000, "\\" * 400_000, "\\\\n" * 200_000, "secret:" * 200_000, "a" * 255 + " "]
)
def test_a_megabyte_is_told_by_its_beginning(text: str) -> None:
    """Slow patterns would take minutes for these."""
    shown, cut = loggable(text.encode(), "text/plain", (), more=False)
    assert shown is not None
    assert len(shown) <= BODY_MAX_BYTES
    assert cut == (len(text) > 2 * BODY_MAX_BYTES)


def test_what_the_caller_showed_is_not_in_the_log_whatever_it_looks_like(desk: Desk) -> None:
    admin, wrong = (f"plain-{random_word(12)}" for _ in range(2))
    with desk.proxy(admin_key=Secret(admin), require_auth=True) as (served, told, _):
        served.post(CHAT, asking(f"I am {admin} and ask."), {"Authorization": f"Bearer {admin}"})
        served.post(CHAT, asking(f"I am {admin} and ask."), {"X-Api-Key": admin})
        served.post(CHAT, asking(), {"Authorization": f"Bearer {wrong}"})
        served.post(f"{CHAT}?key={wrong}", asking())
        made = served.post("/api/v1/virtual-keys", {"name": "a"}, {"X-Api-Key": admin}).json
        served.post(CHAT, asking(made["key"]), {"Authorization": f"Bearer {made['key']}"})
        (row,) = [one for one in served.get("/api/v1/requests", {"X-Api-Key": admin}).json["data"] if one["caller"]]
    lines = told.lines
    assert [line["status"] for line in lines] == [200, 200, 401, 401, 200]
    assert [line["caller"] for line in lines] == ["admin", "admin", "", "", row["caller"]]
    assert "I am [redacted] and ask." in lines[0]["request"]
    assert lines[2]["request"] is None
    for secret in (admin, wrong, made["key"]):
        assert secret not in told.text


def test_pictures_are_told_by_their_size(desk: Desk) -> None:
    picture = base64.b64encode(random.randbytes(30_000)).decode()
    parts = [
        {"type": "text", "text": "before"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        {"type": "input_audio", "input_audio": {"data": picture, "format": "wav"}},
        {"type": "text", "text": "after"},
    ]
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": parts}]})
    with desk.proxy() as (served, told, _):
        served.post(CHAT, body.encode())
        served.post(CHAT, body.replace("/", "\\/").encode())  # as PHP writes it
    for line in told.lines:
        assert "[data:image/png;base64, " in line["request"]
        assert '"data": "[base64, ' in line["request"]
        assert line["request"].index("before") < line["request"].index("[data:") < line["request"].index("after")
        assert not line["request_cut"]
        assert picture[:16] not in told.text
    assert '"url": "[data:image/png;base64, 40022 bytes]"' in told.lines[0]["request"]
    assert '"data": "[base64, 40000 bytes]"' in told.lines[0]["request"]


def test_forms_and_sound_are_told_by_type_and_size(desk: Desk, provider: Upstream) -> None:
    form = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\x00\xff\r\n--x--\r\n'
    )
    with desk.proxy(base_url=provider.base_url) as (served, told, proxy):
        adapter = OpenAIAdapter(provider.base_url, operations=frozenset({Operation.Speech}), claims_all=True)
        proxy.router.directory.register("openai", adapter, overwrite=True)
        served.post("/v1/audio/transcriptions", form, {"Content-Type": "multipart/form-data; boundary=x"})
        provider.answers("/v1/audio/speech", bytes(range(256)), kind="audio/mpeg")
        spoken = served.post("/v1/audio/speech", {"model": "tts-1", "input": "Hello!", "voice": "alloy"})
        served.post("/openai/v1/anything", b"\xff\xfe\x00", {"Content-Type": "application/json"})
    asked, sound, odd = told.lines
    assert (asked["request"], asked["request_type"], asked["request_bytes"]) == (None, "multipart/form-data", len(form))
    assert spoken.body == bytes(range(256))
    assert (sound["response"], sound["response_type"], sound["response_bytes"]) == (None, "audio/mpeg", 256)
    assert (odd["request"], odd["request_bytes"]) == (None, 3)
    assert "whisper-1\\r\\n" not in told.text


def test_a_share_of_one_half_logs_about_half(desk: Desk) -> None:
    with desk.proxy(0.0) as (served, told, proxy):
        proxy.log_bodies(0.5, random.Random(5))
        for number in range(60):
            served.post(CHAT, asking(f"number {number}"))
    lots = random.Random(5)
    drawn = [number for number in range(60) if lots.random() < 0.5]
    assert 20 <= len(drawn) <= 40
    assert [json.loads(line["request"])["messages"][0]["content"] for line in told.lines] == [
        f"number {number}" for number in drawn
    ]


def test_a_client_that_hangs_up_in_mid_stream_is_told_with_what_it_got(desk: Desk) -> None:
    desk.sim.fault(None, "slow_tokens", delay_s=0.05)
    with desk.proxy() as (served, told, _):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
        connection.request("POST", CHAT, json.dumps(asking(stream=True, max_tokens=500)))
        reply = connection.getresponse()
        first = reply.read1()
        reply.close()
        connection.close()
        desk.sim.until(desk.sim.keys[0], disconnected=1, in_flight=0)
    line = told.line
    assert (line["complete"], line["status"]) == (False, 200)
    assert line["response"].startswith(first.decode()[:40])
    assert "[DONE]" not in line["response"]
    assert line["request_id"] == reply.headers["x-request-id"]


def test_above_info_nothing_is_logged(desk: Desk) -> None:
    with desk.proxy(log_level="WARNING") as (served, told, _):
        assert served.post(CHAT, asking()).status == 200
    assert told.lines == []


def settings_of(**environ: str) -> ProxySettings:
    return ProxySettings.from_environ({"APIKEYROUTER_STORE": "memory:", **environ})


@pytest.mark.parametrize(("given", "share"), [("0", 0.0), ("1", 1.0), ("0.05", 0.05), ("", 0.0)])
def test_the_share_comes_from_the_environment(given: str, share: float) -> None:
    assert settings_of(APIKEYROUTER_LOG_BODIES=given).log_bodies == share


@pytest.mark.parametrize("given", ["2", "-0.1", "nan", "10%", "true", "inf"])
def test_what_is_no_share_is_refused_in_words(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"APIKEYROUTER_LOG_BODIES: expected a share of requests from 0"):
        settings_of(APIKEYROUTER_LOG_BODIES=given)


def test_the_start_warns_of_logged_bodies() -> None:
    assert settings_of().warnings == ()
    (warning,) = settings_of(APIKEYROUTER_LOG_BODIES="0.125").warnings
    assert warning.startswith("Bodies of 12.5 % of requests are written to the log")
    (warning,) = settings_of(APIKEYROUTER_LOG_BODIES="1", LOG_LEVEL="ERROR").warnings
    assert "has no effect" in warning


def test_a_reload_of_the_file_turns_it_on_and_off(sim: Sim, tmp_path: Path) -> None:
    def lines() -> int:
        return running.proxy.log.count('"event":"request_bodies"')

    def text(share: str) -> str:
        return f"""
server: {{admin_key: "${{ADMIN_KEY}}", log_level: INFO{share}}}
providers: {{openai: {{base_url: "${{SIM_URL}}"}}}}
keys: {{first: {{provider: openai, secret: "${{SIM_KEY_1}}"}}}}
"""

    with configured(sim, tmp_path, text("")) as running:
        assert running.chat()[0] == 200
        running.write(text(", log_bodies: 1.5"))
        status, told = running.reload()
        assert status == 400
        assert "expected a share of requests" in json.dumps(told)
        running.write(text(", log_bodies: 1"))
        status, told = running.reload()
        assert (status, told["restart"]) == (200, [])
        assert "Bodies of 100 % of requests" in json.dumps(told)
        assert running.chat()[0] == 200
        until(lambda: lines() == 1, "a line for the second request")
        running.write(text(", log_bodies: 0"))
        assert running.reload()[0] == 200
        assert running.chat()[0] == 200
    assert lines() == 1


@pytest.mark.parametrize("split", [3, 7, 40])
def test_the_event_in_which_a_stream_is_cut_tells_no_rest_of_a_key_that_began_before(split: int) -> None:
    secret = f"sk-{random_word()}{random_word()}"
    whole = f"data: {json.dumps({'text': f'it is {secret[:split]}'})}\n\n"
    last = f"data: {json.dumps({'text': f'{secret[split:]} and more'})}"
    for missing in (1, 2, 8, len(secret) // 2):
        shown, cut = loggable((whole + last[:-missing]).encode(), "text/event-stream", (), more=True)
        assert shown is not None
        assert cut
        assert "it is " in shown
        assert secret[split:][:6] not in shown


@pytest.mark.parametrize("line", [" " * 400_000 + "x", "{}" + " " * 400_000 + "x", "{" + "}" * 400_000 + "x"])
def test_the_work_for_a_line_grows_with_its_length_and_not_with_the_square_of_it(line: str) -> None:
    assert joined(line, str.upper, cut=False) == line  # an hour, if it grew with the square
