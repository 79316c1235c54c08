"""Uploads, things of one account, raw paths and credentials, over real HTTP with a provider that keeps what it got."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter_proxy.bootstrap import Proxy
from tests.support.server import Answer, Served, run_proxy
from tests.support.upstream import Upstream, upstream

KEYS = [f"sk-upstream-{n}" for n in range(3)]
HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
BOUNDARY = "form-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
SOUND = bytes(range(256)) * 40
WITHOUT_MESSAGES = [
    one for one in Operation if one not in (Operation.Messages, Operation.Gemini, Operation.CountTokens)
]


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        yield app


@pytest.fixture(scope="module")
def running(provider: Upstream) -> Iterator[tuple[Served, Proxy]]:
    with run_proxy(provider.base_url, KEYS) as (served, proxy):
        adapter = OpenAIAdapter(provider.base_url, operations=WITHOUT_MESSAGES, claims_all=True)
        proxy.router.directory.register("openai", adapter, overwrite=True)
        yield served, proxy


@pytest.fixture
def served(running: tuple[Served, Proxy], provider: Upstream) -> Served:
    provider.forget()
    return running[0]


def form_of(**fields: str) -> bytes:
    out = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode() + SOUND
    for name, value in fields.items():
        out += f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
    return out + f"\r\n--{BOUNDARY}--\r\n".encode()


# -- uploads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["audio/transcriptions", "audio/translations", "images/edits"])
def test_an_upload_passes_byte_for_byte(served: Served, provider: Upstream, path: str) -> None:
    provider.answers(f"/v1/{path}", {"text": "Hello!"})
    body = form_of(model="whisper-1", language="en")
    answer = served.ask("POST", f"/v1/{path}", body, FORM)
    assert (answer.status, answer.json) == (200, {"text": "Hello!"})
    assert provider.last.body == body
    assert provider.last.headers["content-type"] == FORM["Content-Type"]


def test_a_providers_prefix_is_taken_out_of_the_form(served: Served, provider: Upstream) -> None:
    served.ask("POST", "/v1/audio/transcriptions", form_of(model="openai/whisper-1", prompt="Hi"), FORM)
    assert provider.last.body == form_of(model="whisper-1", prompt="Hi")


def test_an_upload_without_a_model_is_refused_by_name(served: Served, provider: Upstream) -> None:
    answer = served.ask("POST", "/v1/audio/transcriptions", form_of(language="en"), FORM)
    assert (answer.status, answer.json["error"]["param"]) == (400, "model")
    assert not provider.seen


def test_something_else_than_a_form_is_refused_where_one_is_needed(served: Served) -> None:
    answer = served.ask("POST", "/v1/audio/transcriptions", SOUND, {"Content-Type": "audio/wav"})
    assert (answer.status, answer.code) == (415, "invalid_form")


def test_pictures_may_be_edited_by_json_too(served: Served, provider: Upstream) -> None:
    body = {"model": "gpt-image-1", "prompt": "Bluer", "image": "https://example.com/a.png"}
    assert served.post("/v1/images/edits", body).status == 200
    assert provider.last.json == body


def test_uploads_have_a_limit_of_their_own(provider: Upstream) -> None:
    body = form_of(model="whisper-1")
    with run_proxy(provider.base_url, KEYS, body_limit_bytes=2048, upload_limit_bytes=len(body)) as (served, proxy):
        adapter = OpenAIAdapter(provider.base_url, operations=WITHOUT_MESSAGES, claims_all=True)
        proxy.router.directory.register("openai", adapter, overwrite=True)
        assert served.ask("POST", "/v1/audio/transcriptions", body, FORM).status == 200
        assert served.ask("POST", "/v1/audio/transcriptions", body + b"\r\n", FORM).status == 413


# -- things of one account ---------------------------------------------------------------------------------------------


def made_file(served: Served, provider: Upstream, file_id: str) -> str:
    provider.answers("/v1/files", {"id": file_id, "object": "file"})
    assert served.ask("POST", "/v1/files", form_of(purpose="batch"), FORM).status == 200
    return provider.last.key


def test_a_file_is_read_by_the_key_that_made_it(served: Served, provider: Upstream) -> None:
    owners = {f"file-{n}": made_file(served, provider, f"file-{n}") for n in range(6)}
    assert len(set(owners.values())) == len(KEYS), "fairness spreads uploads over all keys"
    for file_id, key in owners.items():
        provider.answers(f"/v1/files/{file_id}/content", b"line\n", kind="application/jsonl")
        assert served.get(f"/v1/files/{file_id}/content").body == b"line\n"
        assert (provider.last.key, provider.last.method) == (key, "GET")
        assert served.ask("DELETE", f"/v1/files/{file_id}").status == 200
        assert (provider.last.key, provider.last.method) == (key, "DELETE")


def test_a_batch_goes_where_its_file_is_and_its_results_come_from_there(served: Served, provider: Upstream) -> None:
    key = made_file(served, provider, "file-in")
    provider.answers("/v1/batches", {"id": "batch_1", "object": "batch", "output_file_id": None})
    body = {"input_file_id": "file-in", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert served.post("/v1/batches", body).status == 200
    assert (provider.last.key, provider.last.json) == (key, body)
    provider.answers("/v1/batches/batch_1", {"id": "batch_1", "output_file_id": "file-out"})
    assert served.get("/v1/batches/batch_1").json["output_file_id"] == "file-out"
    assert provider.last.key == key
    assert served.get("/v1/files/file-out/content").status == 200
    assert provider.last.key == key
    assert served.ask("POST", "/v1/batches/batch_1/cancel").status == 200
    assert (provider.last.key, provider.last.target) == (key, "/v1/batches/batch_1/cancel")


def test_what_nobody_here_made_is_not_looked_for(served: Served, provider: Upstream) -> None:
    for answer in (
        served.get("/v1/files/file-unknown"),
        served.post("/v1/batches", {"input_file_id": "file-unknown"}),
        served.get("/v1/responses/resp_unknown"),
    ):
        assert (answer.status, answer.code) == (404, "not_found")
    assert not provider.seen


def test_a_batch_without_a_file_is_refused_by_name(served: Served) -> None:
    assert served.post("/v1/batches", {"endpoint": "/v1/embeddings"}).json["error"]["param"] == "input_file_id"


def test_a_list_is_of_one_account(served: Served, provider: Upstream) -> None:
    assert served.get("/v1/files").code == "ambiguous_key"
    provider.answers("/v1/files", {"object": "list", "data": []})
    assert served.get("/v1/files?limit=2", {"x-akr-keys": "openai-2"}).json["data"] == []
    assert (provider.last.key, provider.last.target) == (KEYS[1], "/v1/files?limit=2")


def test_a_thing_whose_key_is_gone_is_409(provider: Upstream) -> None:
    with run_proxy(provider.base_url, KEYS[:2]) as (served, proxy):
        key = made_file(served, provider, "file-orphan")
        record = next(one for one in proxy.router.key_manager.records("openai") if one.secret.reveal() == key)
        assert served.ask("DELETE", f"/api/v1/keys/{record.key_id}").status in (200, 204)
        seen = len(provider.seen)
        answer = served.get("/v1/files/file-orphan")
        assert (answer.status, answer.code) == (409, "pinned_key_gone")
        assert answer.headers["x-should-retry"] == "false"
        assert len(provider.seen) == seen


def test_reading_costs_nothing_under_a_hard_budget(provider: Upstream) -> None:
    with run_proxy(provider.base_url, KEYS[:1]) as (served, _):
        budget = {"scope": "global", "limit": "0.0000001", "period": "daily"}
        assert served.post("/api/v1/budgets", budget).status == 201
        made_file(served, provider, "file-free")
        provider.answers("/v1/files/file-free", {"usage": {"prompt_tokens": 5, "completion_tokens": 5}})
        assert served.get("/v1/files/file-free").status == 200
        assert served.ask("GET", "/openai/v1/vector_stores").status == 200
        (decision,) = served.get("/api/v1/decisions?limit=1").json["data"][:1]
        assert decision.get("cost_usd") in (None, 0, "0")
        assert served.post("/v1/batches", {"input_file_id": "file-free"}).status == 402


# -- raw ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_any_method_passes_to_the_provider_that_the_path_names(served: Served, provider: Upstream, method: str) -> None:
    body = None if method == "GET" else {"name": "store", "nested": {"model": "x"}}
    answer = served.ask(method, "/openai/v1/vector_stores/vs%2F1?after=a%20b&key=secret", body)
    assert answer.status == 200
    seen = provider.last
    assert (seen.method, seen.target) == (method, "/v1/vector_stores/vs%2F1?after=a%20b")
    assert seen.key in KEYS
    assert seen.body == b"" if body is None else seen.json == body


def test_a_raw_request_is_metered_like_any_other(served: Served, provider: Upstream) -> None:
    body = {"model": "gpt-4o-mini", "input": "x"}
    answer = served.post("/openai/v1/fine_tuning/jobs", body)
    assert provider.last.json == body
    assert float(answer.headers["x-akr-cost"]) == pytest.approx(9 * 0.15e-6 + 2 * 0.6e-6)
    by_header = served.post("/openai/v1/fine_tuning/jobs", {"a": 1}, {"x-akr-model": "gpt-4o-mini"})
    assert by_header.headers["x-akr-cost"] == answer.headers["x-akr-cost"]


def test_a_raw_request_is_refused_when_a_hard_budget_has_no_room(provider: Upstream) -> None:
    with run_proxy(provider.base_url, KEYS[:1]) as (served, _):
        budget = {"scope": "global", "limit": "0.0000001", "period": "daily"}
        assert served.post("/api/v1/budgets", budget).status == 201
        seen = len(provider.seen)
        answer = served.post("/openai/v1/other", HELLO)
        assert (answer.status, answer.code) == (402, "budget_exceeded")
        assert len(provider.seen) == seen


@pytest.mark.parametrize("status", [401, 403])
def test_a_path_that_no_key_may_take_sets_no_key_aside(served: Served, provider: Upstream, status: int) -> None:
    told = {"error": {"message": "You have insufficient permissions for this operation.", "code": None}}
    provider.answers("/v1/organization/costs", told, status=status)
    answer = served.get("/openai/v1/organization/costs")
    assert (answer.status, answer.json) == (400, told)
    assert len(provider.seen) == 1
    assert {one["state"] for one in served.get("/api/v1/keys").json["data"]} == {"available"}


def test_the_head_of_a_raw_path_has_no_body(served: Served, provider: Upstream) -> None:
    for _ in range(3):
        assert (served.ask("HEAD", "/openai/v1/vector_stores").status, provider.last.method) == (200, "HEAD")


def test_a_form_and_any_other_body_pass_raw_with_their_type(served: Served, provider: Upstream) -> None:
    for kind in (FORM["Content-Type"], "application/x-www-form-urlencoded", "application/octet-stream"):
        assert served.ask("POST", "/openai/v1/uploads", SOUND, {"Content-Type": kind}).status == 200
        assert (provider.last.headers["content-type"], provider.last.body) == (kind, SOUND)


@pytest.mark.parametrize(
    "rest", ["../x", "a/../../x", "%2e%2e/x", "..%2fx", "%252e%252e%252fx", "a%5c..%5cx", "a%0d%0aHost:%20evil"]
)
def test_a_raw_path_cannot_leave_the_base_url(served: Served, provider: Upstream, rest: str) -> None:
    answer = served.ask("GET", f"/openai/{rest}")
    assert answer.status in (400, 404), answer.body
    assert not provider.seen


@pytest.mark.parametrize("path", ["/nobody/v1/x", "/openai", "/http://127.0.0.1:1/x", "/openai@evil.example/x"])
def test_only_registered_providers_are_reached(served: Served, provider: Upstream, path: str) -> None:
    assert served.ask("GET", path).status in (400, 404)
    assert not provider.seen


def test_an_absolute_request_target_reaches_no_other_host(served: Served, provider: Upstream) -> None:
    answer = served.ask("GET", "http://evil.example/openai/v1/vector_stores")
    assert answer.status == 421  # as for any foreign name
    assert not provider.seen


@given(st.text(alphabet="/v1betaopni.%2fFeE:~@;=?&#key ", max_size=40), st.sampled_from(["GET", "POST", "DELETE"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_is_a_fault_of_ours(served: Served, provider: Upstream, path: str, method: str) -> None:
    asked = quote(f"/{path}", safe="/%?&=:;@~.")
    if asked.startswith("/api/"):
        return
    answer = served.ask(method, asked, HELLO if method == "POST" else None)
    assert answer.status < 500, (asked, answer.body)


# -- who asks ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(provider: Upstream) -> Iterator[tuple[Served, str]]:
    with run_proxy(provider.base_url, KEYS) as (served, _):
        made = served.post("/api/v1/virtual-keys", {"name": "one", "models": ["gpt-4o-mini"]})
        yield served, made.json["key"]


@pytest.mark.parametrize("place", ["authorization", "x-api-key", "x-goog-api-key", "?key=", "empty bearer"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/openai/v1/vector_stores/gpt-4o-mini"])
def test_a_virtual_key_counts_wherever_it_stands_and_never_travels(
    guarded: tuple[Served, str], provider: Upstream, place: str, path: str
) -> None:
    served, key = guarded
    provider.forget()

    def ask(token: str) -> Answer:
        headers = {
            "authorization": {"authorization": f"Bearer {token}"},
            "x-api-key": {"x-api-key": token},
            "x-goog-api-key": {"x-goog-api-key": token},
            "?key=": {},
            "empty bearer": {"authorization": "Bearer ", "x-api-key": token},
        }[place]
        query = f"?key={token}&a=b" if place == "?key=" else ""
        return served.ask(
            "GET" if path == "/v1/models" else "POST", path + query, None if path == "/v1/models" else HELLO, headers
        )

    assert ask(key).status == 200
    assert ask(key[:-4] + "AAAA").status == 401
    for seen in provider.seen:
        assert key not in seen.target + str(seen.headers) + seen.body.decode()
        assert seen.key in KEYS


def test_a_key_for_certain_models_cannot_hide_which_one_it_asks_for(guarded: tuple[Served, str]) -> None:
    served, key = guarded
    headers = {"authorization": f"Bearer {key}", "x-akr-model": "gpt-4o-mini"}
    for answer in (
        served.post("/openai/v1/fine_tuning/jobs", {"a": 1}, headers),
        served.post("/openai/v1/fine_tuning/jobs", {"model": "gpt-4"}, headers),
        served.post("/v1beta/models/gpt-4:generateContent", {"contents": [], "model": "gpt-4o-mini"}, headers),
        served.ask("POST", "/v1/audio/transcriptions", form_of(model="whisper-1"), {**headers, **FORM}),
    ):
        assert answer.status == 403


def test_lists_are_not_for_clients(guarded: tuple[Served, str]) -> None:
    served, key = guarded
    assert served.get("/v1/files", {"authorization": f"Bearer {key}"}).status == 403
