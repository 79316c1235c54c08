"""The laws of `ProviderAdapter` as tests: an adapter that passes them can stand in a router.

Main entry: `AdapterConformance`. Derive a class from it, say how to make your adapter, and run it with pytest:

    class TestMyAdapter(AdapterConformance):
        auth_header, auth_value = "x-api-key", "{}"

        def adapter(self):
            return MyAdapter()

or without any test framework: `TestMyAdapter.failures()` is {} when all is well. What the provider says is made by our
codec of its format (`wire`); for a format of your own override `reply_of`, `stream_of`, `stream_error_of`, `error_of`.
Law of the suite: it uses nothing but the protocol, and sends nothing anywhere.
"""

from __future__ import annotations

from apikeyrouter.testing._adapter_reply_laws import NOW, ReplyLaws
from apikeyrouter.testing._adapter_request_laws import RequestLaws
from apikeyrouter.testing._adapter_stream_laws import StreamLaws
from apikeyrouter.testing._adapter_suite import REPLY_TEXT, SECRET, must

__all__ = ["NOW", "REPLY_TEXT", "SECRET", "AdapterConformance", "must"]


class AdapterConformance(RequestLaws, ReplyLaws, StreamLaws):
    """Every law of `ProviderAdapter`. What may be overridden: see `AdapterSuite` and `ReplyLaws`. An adapter that
    offers no conversation is judged by its requests alone."""

    @classmethod
    def checks(cls) -> tuple[str, ...]:
        """The names of all laws, in order of the alphabet."""
        return tuple(name for name in dir(cls) if name.startswith("test_"))

    @classmethod
    def failures(cls) -> dict[str, str]:
        """Runs every law on a new instance; what is wrong, by the name of the law. {}: the adapter conforms."""
        found: dict[str, str] = {}
        for name in cls.checks():
            try:
                getattr(cls(), name)()
            except Exception as fault:  # noqa: BLE001 - whatever an adapter raises is a finding
                found[name] = str(fault) if isinstance(fault, AssertionError) else f"{type(fault).__name__}: {fault}"
        return found
