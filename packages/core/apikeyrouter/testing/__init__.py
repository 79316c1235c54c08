"""The public test kit: the tools that our own tests use, for yours.

`apikeyrouter.testing.virtual_time`: clocks and an event loop whose time jumps instead of waiting.
`apikeyrouter.testing.store_conformance`: the suite that every `StateStore` passes; run it on your own.
`apikeyrouter.testing.adapter_conformance`: the same for every `ProviderAdapter`; it needs no test framework.
Law: nothing here needs a test framework to be imported, and nothing in the library imports this package.
"""

from __future__ import annotations

from apikeyrouter.testing.virtual_time import DeadlockError, ManualClock, VirtualClock, VirtualTimeLoop, run_virtual

__all__ = ["DeadlockError", "ManualClock", "VirtualClock", "VirtualTimeLoop", "run_virtual"]
