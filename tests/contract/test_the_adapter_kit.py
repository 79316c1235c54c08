"""Each law of the adapter kit can be broken, and a broken adapter fails by the law that it breaks, and no other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.provider_adapter import StreamReader
from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation
from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.testing.adapter_conformance import NOW, AdapterConformance
from apikeyrouter.wire.losses import UntranslatableError

URL = "https://kit.example/v1"
NUMBERS = count()


class Good(OpenAIAdapter):
    """What the broken ones begin as."""

    def __init__(self) -> None:
        super().__init__(URL)


class SlashAtTheEnd(Good):
    def __init__(self) -> None:
        super().__init__()
        self.dialect = ""


class MaybeItsOwn(Good):
    def claims(self, model: str) -> bool:
        return model and len(model) > 3  # type: ignore[return-value] # what is broken


class NumbersItsRequests(Good):
    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:
        return replace(request, headers=[*request.headers, (b"x-number", b"%d" % next(NUMBERS))])


class ChangesTheCall(Good):
    def native_body(self, call: Call) -> bytes:
        body = super().native_body(call)
        call.headers.append((b"x-seen", b"1"))
        return body

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        request = super().build_request(call, secret, base_url=base_url)
        return replace(request, headers=[one for one in request.headers if one[0] != b"x-seen"])


class KeyInTheUrl(Good):
    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        request = super().build_models_request(secret, base_url=base_url)
        return replace(request, url=f"{request.url}?key={secret.reveal()}")


class ListsWithoutKey(Good):
    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        return replace(super().build_models_request(secret, base_url=base_url), headers=[])


class KeepsTheFirstKey(Good):
    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        self.first = getattr(self, "first", secret)
        return super().build_request(call, self.first, base_url=base_url)


class TellsTheTeam(Good):
    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:
        return replace(request, headers=[*request.headers, (b"x-team", call.tags["team"].encode())])


class WritesTheLength(Good):
    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:
        length = str(len(request.body)).encode()
        return replace(request, headers=[*request.headers, (b"content-length", length)])


class OneAddressOnly(Good):
    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        return super().build_request(call, secret)


class ParsesAndWrites(Good):
    def native_body(self, call: Call) -> bytes:
        body = super().native_body(call)
        return json.dumps(json.loads(body)).encode() if b"kit_unknown" in body else body


class SendsThePrefix(Good):
    def native_body(self, call: Call) -> bytes:
        return call.body


class NeverStreams(AnthropicAdapter):
    """Forgets to ask for a stream where it translates."""

    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:
        request = super().prepared(request, call)
        return replace(request, body=request.body.replace(b',"stream":true', b""))


class RefusesWithoutAName(Good):
    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        if call.operation not in self.get_capabilities().operations:
            raise UntranslatableError("kit", ["this cannot be done here"])
        return super().build_request(call, secret, base_url=base_url)


class StumblesOverBodies(Good):
    def native_body(self, call: Call) -> bytes:
        members = json.loads(call.body or b"{}") if call.body[:1] == b"[" else {}
        return super().native_body(call) if isinstance(members, dict) else bytes(members["model"])


class LosesUsage(Good):
    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        return super().read_reply(call, body)[0], None


class RewritesReplies(Good):
    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        body, usage = super().read_reply(call, body)
        return json.dumps(json.loads(body), indent=1).encode() if self.passes(call.operation) else body, usage


class AnswersInItsOwnFormat(Good):
    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        usage = super().read_reply(call, body)[1]
        return body, usage


class TakesAnything(Good):
    """An empty body is a reply to it."""

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        return super().read_reply(call, body) if body else (body, None)


class TakesErrorsForReplies(Good):
    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        return (body, None) if body.startswith(b'{"error"') and body.endswith(b"}") else super().read_reply(call, body)


class ListsNames(Good):
    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        return [{"name": one["id"]} for one in super().read_models(body)]


class StumblesOverLists(Good):
    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        try:
            return super().read_models(body)
        except ValueError:
            return json.loads(b"{}")["data"]  # type: ignore[no-any-return] # what is broken


class Reading:
    """A reader around ours; what it does not say, that one does."""

    def __init__(self, inner: StreamReader) -> None:
        self.__dict__["inner"] = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _NoDeltas(Reading):
    deltas = 0


class _AlwaysDone(Reading):
    ended = False

    @property
    def done(self) -> bool:
        return self.ended or bool(self.inner.done)

    def finish(self) -> bytes:
        out = bytes(self.inner.finish())
        self.__dict__["ended"] = True
        return out


class _Deaf(Reading):
    error = None


class _WholeLinesOnly(Reading):
    """Takes each chunk for whole lines, as many do."""

    def feed(self, chunk: bytes) -> bytes:
        return bytes(self.inner.feed(chunk if chunk[-1:] == b"\n" else chunk + b"\n"))


class _Fragile(Reading):
    def feed(self, chunk: bytes) -> bytes:
        if chunk.startswith(b"\xff"):
            chunk.decode()
        return bytes(self.inner.feed(chunk))


class _Commenting(Reading):
    """Adds a comment, which every client skips, to the end of what passes."""

    def finish(self) -> bytes:
        return bytes(self.inner.finish()) + b": that was all\n\n"


class _Silent(Reading):
    """Knows everything and passes nothing on."""

    def feed(self, chunk: bytes) -> bytes:
        self.inner.feed(chunk)
        return b""

    def finish(self) -> bytes:
        self.inner.finish()
        return b""


class _Reads(Good):
    how: type[Reading] = Reading
    all_of_them = True

    def open_stream(self, call: Call) -> StreamReader:
        inner = super().open_stream(call)
        return self.how(inner) if self.all_of_them or self.passes(call.operation) else inner  # type: ignore[return-value] # by duck


class CountsNothing(_Reads):
    how = _NoDeltas


class DoneWhenItEnds(_Reads):
    how = _AlwaysDone


class HearsNoErrors(_Reads):
    how = _Deaf


class WholeLines(_Reads):
    how = _WholeLinesOnly


class FragileReader(_Reads):
    how = _Fragile


class AddsComments(_Reads):
    how = _Commenting


class Silent(_Reads):
    how = _Silent

    def passes(self, operation: Operation) -> bool:
        return False if operation in CONVERSATIONS else super().passes(operation)


class OneReaderForAll(Good):
    """Keeps one reader for the streams that run."""

    def open_stream(self, call: Call) -> StreamReader:
        known: dict[Operation, StreamReader] = self.__dict__.setdefault("readers", {})
        reader = known.get(call.operation)
        if reader is None or reader.done or getattr(reader, "deltas", 0) != 0:
            reader = known[call.operation] = super().open_stream(call)
        return reader


BROKEN: dict[str, type[OpenAIAdapter] | type[AnthropicAdapter]] = {
    "test_it_is_an_adapter": SlashAtTheEnd,
    "test_it_says_whether_a_model_is_its_own": MaybeItsOwn,
    "test_the_same_call_makes_the_same_request": NumbersItsRequests,
    "test_a_call_is_left_as_it_was": ChangesTheCall,
    "test_the_key_stands_in_headers_alone": KeyInTheUrl,
    "test_the_key_is_sent": ListsWithoutKey,
    "test_each_request_has_the_key_that_it_is_made_for": KeepsTheFirstKey,
    "test_what_is_the_routers_own_does_not_travel": TellsTheTeam,
    "test_requests_are_http": WritesTheLength,
    "test_the_address_of_a_key_goes_before_the_adapters": OneAddressOnly,
    "test_bodies_that_need_no_change_keep_their_bytes": ParsesAndWrites,
    "test_models_are_called_what_the_provider_calls_them": SendsThePrefix,
    "test_streams_are_asked_for": NeverStreams,
    "test_what_is_not_offered_is_refused_by_name": RefusesWithoutAName,
    "test_bodies_that_make_no_sense_are_refused_or_passed": StumblesOverBodies,
    "test_usage_is_read": LosesUsage,
    "test_replies_that_pass_keep_their_bytes": RewritesReplies,
    "test_replies_are_in_the_callers_format": AnswersInItsOwnFormat,
    "test_what_is_no_reply_raises_value_error": TakesAnything,
    "test_an_error_with_status_200_is_no_reply": TakesErrorsForReplies,
    "test_models_are_listed": ListsNames,
    "test_what_is_no_list_of_models_raises_value_error": StumblesOverLists,
    "test_streams_tell_usage_and_end": CountsNothing,
    "test_streams_are_in_the_callers_format": Silent,
    "test_streams_that_pass_keep_their_bytes": AddsComments,
    "test_streams_are_the_same_however_they_are_cut": WholeLines,
    "test_a_stream_that_breaks_off_is_not_done": DoneWhenItEnds,
    "test_errors_inside_a_stream_are_seen": HearsNoErrors,
    "test_noise_raises_nothing": FragileReader,
    "test_streams_at_the_same_time_do_not_meet": OneReaderForAll,
}


def suite_of(kind: type[OpenAIAdapter] | type[AnthropicAdapter]) -> type[AdapterConformance]:
    class Suite(AdapterConformance):
        cut_step = 97

        def adapter(self) -> OpenAIAdapter | AnthropicAdapter:
            return kind()

    return Suite


class Misnamed(AdapterConformance):
    """The base of adapters that name a dialect which is not how their provider speaks."""

    cut_step = 97

    def adapter(self) -> OpenAIAdapter:
        return OpenAIAdapter(URL, dialect="generic")


class ALimitForEverything(Misnamed):
    def error_of(self, status: int, code: str, message: str) -> bytes:
        return super().error_of(status, "insufficient_quota", message)


class WaitsUntilATime(Misnamed):
    wait_told = ("x-ratelimit-reset", str(int(NOW.timestamp()) + 30), 30.0)


class CreditInWords(Misnamed):
    spent = (400, "invalid_request_error", "Your credit balance is too low to access the API.")


MISNAMED: dict[str, type[AdapterConformance]] = {
    "test_errors_mean_what_they_say": ALimitForEverything,
    "test_hints_when_to_come_back_are_kept": WaitsUntilATime,
    "test_an_account_without_credit_is_told_from_one_in_a_hurry": CreditInWords,
}


@pytest.mark.parametrize("law", AdapterConformance.checks())
def test_what_breaks_a_law_fails_by_that_law_alone(law: str) -> None:
    suite = MISNAMED[law] if law in MISNAMED else suite_of(BROKEN[law])
    assert set(suite.failures()) == {law}


def test_what_they_begin_as_breaks_none() -> None:
    assert suite_of(Good).failures() == {}
