"""What real providers sent, and what nobody sends, through every translation."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.models.call import Wire
from bench.recordings import data_folder
from bench.translation_checks import fuzzed
from bench.translation_recordings import replayed

KNOWN_REFUSALS = ("the stream has no end", "no list of choices", "an error inside", "its status is queued")
"""Why recorded replies are no replies: an error inside the stream or the body, another service, work in progress."""


def test_mutated_bodies_and_streams_of_chat_break_nothing() -> None:
    found = fuzzed(2_000, seed=7, wires=(Wire.Chat,))
    assert not found.counts, found.samples


@pytest.mark.data
@pytest.mark.skipif(not (data_folder() / "exchanges" / "dev.jsonl").exists(), reason="data not found")
def test_recorded_replies_keep_their_usage_and_reasons_to_end() -> None:
    found = replayed()
    assert found.wrong == []
    assert sum(times for where, times in found.read.items() if where.startswith(Wire.Chat.value)) >= 350
    assert all(any(known in refusal for known in KNOWN_REFUSALS) for refusal in found.refused)
