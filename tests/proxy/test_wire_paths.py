"""Paths: what each asks for, and that none leads where the operator did not point."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.domain.models.call import Operation, Wire
from apikeyrouter_proxy.wire.endpoints import PLAIN, Kind, Target, find
from apikeyrouter_proxy.wire.errors import WireError
from apikeyrouter_proxy.wire.raw_path import raw_path

PROVIDERS = ("openai", "groq", "api", "v1")
BASE = "https://api.groq.com/openai/v1"


def found(path: str, headers: dict[bytes, bytes] | None = None) -> Target | None:
    return PLAIN.get(path) or find(path, headers or {}, PROVIDERS)


@pytest.mark.parametrize("prefix", ["/v1", "", "/openai/v1", "/anthropic", "/anthropic/v1", "/v1/v1", "//v1/"])
@pytest.mark.parametrize("operation", [Operation.Chat, Operation.Messages, Operation.Responses, Operation.Embeddings])
def test_operations_are_found_below_every_prefix(prefix: str, operation: Operation) -> None:
    target = found(f"{prefix}/{operation.value}")
    assert target is not None
    assert target.operation is operation


@pytest.mark.parametrize(
    ("path", "model", "operation", "streams"),
    [
        ("/v1beta/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro", Operation.Gemini, False),
        ("/v1/models/gemini-2.5-pro:streamGenerateContent", "gemini-2.5-pro", Operation.Gemini, True),
        ("/gemini/v1beta/models/m:countTokens", "m", Operation.GeminiCountTokens, False),
        ("/v1beta/models/groq/llama3:8b:generateContent", "groq/llama3:8b", Operation.Gemini, False),
        ("/v1beta/models/e:batchEmbedContents", "e", Operation.GeminiEmbed, False),
    ],
)
def test_geminis_model_and_verb_stand_in_the_path(path: str, model: str, operation: Operation, streams: bool) -> None:
    target = found(path)
    assert target is not None
    assert (target.model, target.operation, target.streams, target.wire) == (model, operation, streams, Wire.Gemini)


@pytest.mark.parametrize(
    ("path", "thing", "wire"),
    [
        ("/v1/responses/resp_1", ("response", "resp_1"), Wire.Responses),
        ("/v1/responses/resp_1/input_items", ("response", "resp_1"), Wire.Responses),
        ("/openai/v1/files/file-1/content", ("file", "file-1"), Wire.Chat),
        ("/v1/batches/b/cancel", ("batch", "b"), Wire.Chat),
        ("/anthropic/v1/messages/batches/b/results", ("batch", "b"), Wire.Messages),
    ],
)
def test_what_lives_in_one_account_is_known_by_its_id(path: str, thing: tuple[str, str], wire: Wire) -> None:
    target = found(path)
    assert target is not None
    assert (target.kind, target.thing, target.wire) == (Kind.Owned, thing, wire)


@pytest.mark.parametrize(
    ("path", "headers", "wire"),
    [
        ("/v1/models", {}, Wire.Chat),
        ("/openai/v1/models/a/b:c", {}, Wire.Chat),
        ("/v1/models", {b"anthropic-version": b"2023-06-01"}, Wire.Messages),
        ("/anthropic/v1/models", {b"anthropic-version": b"2023-06-01"}, Wire.Messages),
        ("/v1/models", {b"x-goog-api-key": b"k"}, Wire.Gemini),
        ("/v1beta/models/gemini-2.5-pro", {}, Wire.Gemini),
    ],
)
def test_lists_of_models_have_the_callers_shape(path: str, headers: dict[bytes, bytes], wire: Wire) -> None:
    target = found(path, headers)
    assert target is not None
    assert (target.kind, target.wire) == (Kind.Models, wire)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/groq/openai/v1/chat/completions", Kind.Raw),
        ("/openai/v1/vector_stores", Kind.Raw),
        ("/anthropic/v1/skills", Kind.Unknown),
        ("/v1/vector_stores", Kind.Unknown),
        ("/v1beta/models/m:predict", Kind.Models),
        ("/v1", Kind.Unknown),
    ],
)
def test_other_paths_are_a_providers_or_nobodys(path: str, kind: Kind) -> None:
    target = found(path)
    assert target is not None
    assert target.kind is kind


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/keys", "/api/x", "/docs", "/metrics", "/healthz", "/unknown/v1/x", "/groq"]
)
def test_management_and_pages_are_no_clients_business(path: str) -> None:
    assert found(path) is None


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/groq/openai/v1/chat/completions", "chat/completions"),
        ("/groq/v1/chat/completions", "chat/completions"),
        ("/groq/chat/completions", "chat/completions"),
        ("//groq//files/a%20b/", "files/a%20b"),
        ("/groq/v1", "v1"),
        ("/groq/models/a:b@c;d=1", "models/a:b@c;d=1"),
        ("/groq/@evil.example/x", "@evil.example/x"),
        ("/groq/models/org%2Fname", "models/org%2Fname"),
    ],
)
def test_a_raw_path_is_below_the_base_url(asked: str, path: str) -> None:
    assert raw_path(asked, "groq", BASE) == path


@pytest.mark.parametrize(
    "rest",
    [
        "../admin", "a/../../b", "..", ".", "a/./b", "%2e%2e/x", "a/%2E%2e/x", "%252e%252e/x", "..%2fx", "a%5c..%5cx",
        "http://evil.example/", "http%3a%2f%2fevil.example", "a b", "a%00b", "a%0d%0aHost:evil", "a\\b", "a%",
        "%25252525252e%25252525252e/x", "a" * 3000, "x#y", "x%09y", "..;/admin", "é",
    ],
)  # fmt: skip
def test_tricks_are_refused(rest: str) -> None:
    with pytest.raises(WireError) as caught:
        raw_path(f"/groq/{rest}", "groq", BASE)
    assert (caught.value.status, caught.value.fact.code) == (400, "invalid_path")


@given(st.text(alphabet="./%25eE2fF5cC:@\\?#ab ", min_size=1, max_size=24))
def test_no_path_leaves_the_base_url(rest: str) -> None:
    try:
        path = raw_path(f"/groq/{rest}", "groq", BASE)
    except WireError as error:
        assert error.status == 400
        return
    url = urlsplit(f"{BASE}/{path}")
    assert (url.scheme, url.hostname, url.query, url.fragment) == ("https", "api.groq.com", "", "")
    plain = url.path
    for _ in range(6):
        plain = unquote(plain)
        assert ".." not in plain.split("/")
        assert "\\" not in plain


@given(st.text(max_size=40), st.sampled_from(["", "/v1", "/v1beta/models", "/openai", "/files", "/responses"]))
def test_whatever_the_path_it_is_found_or_not(rest: str, prefix: str) -> None:
    target = find(f"{prefix}/{rest}", {}, PROVIDERS)
    assert target is None or isinstance(target, Target)
