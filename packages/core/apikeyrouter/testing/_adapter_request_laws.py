"""The laws of requests: what an adapter sends, where the key stands, and what it refuses.

Main entry: `RequestLaws`, a part of `AdapterConformance`.
"""

from __future__ import annotations

import copy
from urllib.parse import quote, urlsplit

from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.testing._adapter_suite import OURS, SECRET, AdapterSuite, must
from apikeyrouter.wire.losses import UntranslatableError

__all__ = ["RequestLaws"]

_TRANSPORTS = frozenset({b"host", b"content-length", b"connection", b"transfer-encoding"})
_OTHER_BASE = "https://other-place.example"
_PREFIX = "kitprefix/"
_BROKEN_BODIES = (b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe{", b'{"messages":5,"input":5,"contents":5}')


class RequestLaws(AdapterSuite):
    """What goes out."""

    def test_it_is_an_adapter(self) -> None:
        adapter = self.adapter()
        must(isinstance(adapter, ProviderAdapter), "it lacks a method or attribute of ProviderAdapter")
        must(adapter.dialect and isinstance(adapter.dialect, str), "dialect is a name, such as 'generic'")
        parts = urlsplit(adapter.base_url)
        must(parts.scheme in ("http", "https") and parts.hostname, f"base_url {adapter.base_url!r} is no http(s) URL")
        must(not adapter.base_url.endswith("/"), "base_url has no slash at its end")
        must(self.offered, "get_capabilities() names at least one operation")
        must(all(isinstance(one, Operation) for one in self.offered), "operations are values of Operation")

    def test_it_says_whether_a_model_is_its_own(self) -> None:
        for name in (self.model, "gpt-4o", "claude-x", "vendor/x", "", "é" * 300):
            must(isinstance(self.adapter().claims(name), bool), f"claims({name!r}) is True or False")

    def test_the_same_call_makes_the_same_request(self) -> None:
        for operation, call, first in self.requests():
            must(_all_of(self.request(call)) == _all_of(first), f"{operation}: two requests for one call differ")

    def test_a_call_is_left_as_it_was(self) -> None:
        for operation in self.offered:
            call = self.call(operation)
            before = copy.deepcopy(call)
            self.request(call)
            must(call == before, f"{operation}: build_request changed the call, which other keys may yet be asked with")

    def test_the_key_stands_in_headers_alone(self) -> None:
        adapter = self.adapter()
        listing = adapter.build_models_request(Secret(SECRET))
        for what, request in [*((str(o), r) for o, _, r in self.requests()), ("the list of models", listing)]:
            must(self.secret_in_query or SECRET not in request.url, f"{what}: the key is in the URL")
            must(SECRET.encode() not in request.body, f"{what}: the key is in the body")
            must(SECRET not in repr(request), f"{what}: the key is in repr(request)")
        must(SECRET not in repr(adapter) + repr(getattr(adapter, "__dict__", "")), "the adapter keeps the key")

    def test_the_key_is_sent(self) -> None:
        listing = self.adapter().build_models_request(Secret(SECRET))
        for what, request in [*((str(o), r) for o, _, r in self.requests()), ("the list of models", listing)]:
            places = {name.decode(): value for name, value in request.headers if SECRET.encode() in value}
            if self.secret_in_query:
                must(SECRET in request.url, f"{what}: no key in the URL")
            elif self.auth_header is None:
                must(places, f"{what}: no header has the key")
            else:
                expected = {self.auth_header.lower(): self.auth_value.format(SECRET).encode()}
                must(places == expected, f"{what}: the key stands in {sorted(places)}, not as {expected.keys()}")

    def test_each_request_has_the_key_that_it_is_made_for(self) -> None:
        adapter = self.adapter()
        call = self.call(self.offered[0])
        adapter.build_request(call, Secret("kit-first-credential"))
        second = adapter.build_request(call, Secret(SECRET))
        told = second.url.encode() + b"".join(value for _, value in second.headers)
        must(b"kit-first-credential" not in told, "a request has the key of an earlier one")

    def test_what_is_the_routers_own_does_not_travel(self) -> None:
        for operation, _, request in self.requests():
            told = b"".join([request.url.encode(), request.body, *(n + v for n, v in request.headers)])
            for ours in OURS:
                must(ours.encode() not in told, f"{operation}: {ours!r} went to the provider")

    def test_requests_are_http(self) -> None:
        for operation, call, request in self.requests():
            must(request.url.startswith(self.adapter().base_url), f"{operation}: the URL is not below base_url")
            must(not any(c <= " " or c > "~" for c in request.url), f"{operation}: the URL has spaces or non-ASCII")
            must(request.method in ("GET", "POST", "PUT", "PATCH", "DELETE"), f"{operation}: method {request.method!r}")
            names = [name for name, _ in request.headers]
            must(all(name == name.lower() for name in names), f"{operation}: header names are lower case")
            must(not _TRANSPORTS & set(names), f"{operation}: {_TRANSPORTS & set(names)} is the transport's to write")
            kinds = [value for name, value in request.headers if name == b"content-type"]
            must(len(kinds) == (1 if request.body else 0), f"{operation}: a body has one content-type")
            must(request.deadline_s == call.deadline_s, f"{operation}: the call's deadline_s is not the request's")

    def test_the_address_of_a_key_goes_before_the_adapters(self) -> None:
        for operation in self.offered:
            request = self.request(self.call(operation), base_url=_OTHER_BASE)
            must(request.url.startswith(_OTHER_BASE), f"{operation}: base_url of the key is not used")
        listing = self.adapter().build_models_request(Secret(SECRET), base_url=_OTHER_BASE)
        must(listing.url.startswith(_OTHER_BASE), "the list of models: base_url of the key is not used")

    def test_bodies_that_need_no_change_keep_their_bytes(self) -> None:
        for operation in self.conversations:
            if self.adapter().passes(operation):
                name = self.sent_model or self.model
                plain = self.call(operation, written=name).body
                body = b'{ "kit_unknown" : [1.50,"\\u00e9"],\n' + plain[1:]
                sent = self.request(self.call(operation, body=body, written=name)).body
                must(sent == body, f"{operation}: passes, yet the body's bytes changed")

    def test_models_are_called_what_the_provider_calls_them(self) -> None:
        expected = self.sent_model or self.model
        for operation in self.conversations:
            request = self.request(self.call(operation, written=_PREFIX + self.model))
            path = urlsplit(request.url).path
            must(_PREFIX.encode() not in request.body, f"{operation}: the caller's prefix of the model travels")
            asked = f'"{expected}"'.encode() in request.body or quote(expected, safe="") in path or expected in path
            must(asked, f"{operation}: the model {expected!r} is asked for nowhere")

    def test_streams_are_asked_for(self) -> None:
        for operation in self.streamed():
            whole, streamed = self.request(self.call(operation)), self.request(self.call(operation, stream=True))
            told = streamed.body + streamed.url.encode()
            same = (whole.url, whole.body) == (streamed.url, streamed.body)
            must(not same and b"stream" in told.lower(), f"{operation}: a stream is asked for like a whole reply")

    def test_what_is_not_offered_is_refused_by_name(self) -> None:
        for operation in Operation:
            if operation not in self.offered and operation is not Operation.Raw:
                try:
                    self.request(self.call(operation))
                except UntranslatableError as refusal:
                    must(operation.value in str(refusal), f"{operation}: the refusal does not name it: {refusal}")
                except Exception as fault:
                    raise AssertionError(f"{operation}: refused by {type(fault).__name__}: {fault}") from fault
                else:
                    must(False, f"{operation}: not offered, and yet a request is made")

    def test_bodies_that_make_no_sense_are_refused_or_passed(self) -> None:
        for operation in self.conversations:
            for body in _BROKEN_BODIES:
                for stream in (False, True):
                    try:
                        self.request(self.call(operation, body=body, stream=stream))
                    except ValueError:
                        continue
                    except Exception as fault:
                        raise AssertionError(f"{operation}: {body!r} raises {type(fault).__name__}: {fault}") from fault


def _all_of(request: HttpRequest) -> tuple[object, ...]:
    return request.method, request.url, request.headers, request.body, request.dropped
