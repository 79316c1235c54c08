"""The laws of replies: bodies and usage, replies that are none, errors, and lists of models.

Main entry: `ReplyLaws`, a part of `AdapterConformance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.domain.resilience.classify import classify_reply
from apikeyrouter.domain.resilience.failures import FailureClass as F
from apikeyrouter.testing._adapter_suite import REPLY_TEXT, SECRET, AdapterSuite, must
from apikeyrouter.wire.facts import ErrorFact, Text
from apikeyrouter.wire.translate import client_codec

__all__ = ["NOW", "ReplyLaws"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""When the samples of errors are seen."""

_NO_REPLIES = (b"", b" ", b"{", b"[]", b"null", b"7", b'"text"', b"<html>503</html>", b"\xff\xfe", b"[" * 5000)

CLASSES: Mapping[int, frozenset[F]] = {
    401: frozenset({F.Auth}),
    402: frozenset({F.Balance}),
    403: frozenset({F.Permission, F.Auth}),
    404: frozenset({F.Client, F.Permission}),
    408: frozenset({F.Server, F.Timeout, F.Capacity}),
    413: frozenset({F.Client, F.TooLargeForLimit}),
    429: frozenset({F.Rate, F.Burst}),
    500: frozenset({F.Server}),
    502: frozenset({F.Server, F.Capacity}),
    503: frozenset({F.Server, F.Capacity}),
    504: frozenset({F.Server, F.Timeout, F.Capacity}),
    529: frozenset({F.Server, F.Capacity}),
}
_CODES = {401: "invalid_api_key", 404: "not_found", 413: "request_too_large", 429: "rate_limit_exceeded"}
_MESSAGES = {429: "Too many requests, please slow down.", 402: "Payment is required."}


class ReplyLaws(AdapterSuite):
    """What comes back whole. `spent`: status, code and message with which the provider says that an account is out of
    credit, so that no key of it is asked again soon; None: it has no such thing. `wait_told`: header and value with
    which it says how long to wait, seen at `NOW`, and the seconds that they mean."""

    spent: tuple[int, str, str] | None = (
        429,
        "insufficient_quota",
        "You exceeded your current quota, check your billing.",
    )

    wait_told: tuple[str, str, float] = ("retry-after", "17", 17.0)

    def test_usage_is_read(self) -> None:
        for operation in self.conversations:
            expected = self.usage_of(operation)
            _, usage = self.adapter().read_reply(self.call(operation), self.reply_of(operation))
            must(usage is not None, f"{operation}: the usage of a reply is not read")
            got = (usage.input_tokens, usage.output_tokens) if usage is not None else ()
            must(
                got == (expected.input_tokens, expected.output_tokens), f"{operation}: usage {got} of a reply is wrong"
            )

    def test_replies_that_pass_keep_their_bytes(self) -> None:
        for operation in self.conversations:
            if self.adapter().passes(operation):
                reply = self.reply_of(operation)
                body, _ = self.adapter().read_reply(self.call(operation), reply)
                must(body == reply, f"{operation}: passes, yet the reply's bytes changed")

    def test_replies_are_in_the_callers_format(self) -> None:
        for operation in self.conversations:
            body, _ = self.adapter().read_reply(self.call(operation), self.reply_of(operation))
            try:
                answer = client_codec(operation).read_answer(body)
            except ValueError as fault:
                raise AssertionError(f"{operation}: not a reply in the caller's format: {fault}") from fault
            said = "".join(part.text for choice in answer.choices for part in choice.parts if isinstance(part, Text))
            must(said == REPLY_TEXT, f"{operation}: the caller reads {said!r}, not {REPLY_TEXT!r}")

    def test_what_is_no_reply_raises_value_error(self) -> None:
        for operation in self.conversations:
            reply = self.reply_of(operation)
            for body in (*_NO_REPLIES, *(reply[:end] for end in range(0, len(reply) - 1, 7))):
                must(self._refuses(operation, body), f"{operation}: {body[:60]!r} is taken for a reply")

    def test_an_error_with_status_200_is_no_reply(self) -> None:
        fault = ErrorFact(503, "The model is overloaded.", "overloaded")
        for operation in self.conversations:
            error = self.error_of(503, "overloaded", fault.message)
            if self.wire_of(operation) is not self.format:
                error = client_codec(operation).write_error(fault)
            must(self._refuses(operation, error), f"{operation}: {error!r} with status 200 is taken for a reply")

    def _refuses(self, operation: Operation, body: bytes) -> bool:
        try:
            self.adapter().read_reply(self.call(operation), body)
        except ValueError:
            return True
        except Exception as fault:
            raise AssertionError(f"{operation}: {body[:60]!r} raises {type(fault).__name__}, no ValueError") from fault
        return False

    # -- errors -----------------------------------------------------------------------------------------------------

    def test_errors_mean_what_they_say(self) -> None:
        for status, classes in CLASSES.items():
            message = _MESSAGES.get(status, f"Something is wrong ({status}).")
            found = self._class_of(status, _CODES.get(status, "error"), message)
            must(found in classes, f"status {status} is taken for {found}, not {' or '.join(sorted(classes))}")

    def test_hints_when_to_come_back_are_kept(self) -> None:
        name, value, wait_s = self.wait_told
        headers = [(name.lower().encode(), value.encode())]
        for status in (429, 503):
            body = self.error_of(status, _CODES.get(status, "overloaded"), _MESSAGES.get(status, "Overloaded."))
            failure = classify_reply(self.adapter().dialect, status, headers, body, utc_now=NOW)
            must(failure.retry_after_s == wait_s, f"status {status}: {name}: {value} is lost")

    def test_an_account_without_credit_is_told_from_one_in_a_hurry(self) -> None:
        if self.spent is not None:
            status, code, message = self.spent
            found = self._class_of(status, code, message)
            must(
                found in (F.Balance, F.DayQuota, F.SpendCap),
                f"{message!r} is taken for {found}: the key is asked again and again",
            )

    def _class_of(self, status: int, code: str, message: str) -> F:
        body = self.error_of(status, code, message)
        return classify_reply(self.adapter().dialect, status, [], body, utc_now=NOW).failure_class

    # -- models -----------------------------------------------------------------------------------------------------

    def test_models_are_listed(self) -> None:
        request = self.adapter().build_models_request(Secret(SECRET))
        must(request.method == "GET" and not request.body, "the list of models is asked for with a bare GET")
        body, ids = self.models_reply()
        found = list(self.adapter().read_models(body))
        must([one.get("id") for one in found] == list(ids), f"read_models found {found}, not the ids {list(ids)}")

    def test_what_is_no_list_of_models_raises_value_error(self) -> None:
        body, ids = self.models_reply()
        for wrong in (*_NO_REPLIES, body[: len(body) // 2], b'{"data":5,"models":5}') if ids else ():
            try:
                listed = self.adapter().read_models(wrong)
            except ValueError:
                continue
            except Exception as fault:
                raise AssertionError(f"read_models({wrong[:60]!r}) raises {type(fault).__name__}") from fault
            must(not listed, f"read_models({wrong[:60]!r}) finds models")
