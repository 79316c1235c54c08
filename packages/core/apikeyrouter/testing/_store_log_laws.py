"""Laws of the two logs: events and decisions.

Main entry: `LogLaws`, a part of `StoreConformance`. Laws: newest first, by time and then by order of writing; a query
answers with exactly the rows that pass all its filters (`since_s` is in, `until_s` is out); a log never holds more rows
than its maximum, and what it drops is the oldest.
"""

from __future__ import annotations

from itertools import pairwise

from apikeyrouter.domain.interfaces.state_store import StateQuery, StateStore, StoreBatch
from apikeyrouter.testing._store_suite import AWKWARD_TEXTS, StoreSuite
from apikeyrouter.testing.store_rows import decision_row, event_row

__all__ = ["LogLaws"]

_ALL = 1_000_000


async def _decision_ids(store: StateStore, **filters: object) -> list[str]:
    query = StateQuery("RoutingDecision", **filters)  # type: ignore[arg-type]  # the tests name real fields
    return [row.decision_id for row in await store.query_decisions(query)]


class LogLaws(StoreSuite):
    """Events and decisions: contents, order, filters, paging, retention."""

    async def test_a_decision_is_found_by_its_id_and_by_its_request(self) -> None:
        row = decision_row("d1", key_id=None, provider_id=None, outcome="refused", payload=bytes(range(256)))
        async with self.opened() as store:
            await store.apply(StoreBatch(decisions=[decision_row("d0"), row]))
            assert await store.get_decision("d1") == row
            assert await store.get_decision(row.request_id) == row
            assert await store.get_decision("d2") is None
            async with self.reopened(store) as later:
                assert await later.get_decision("d1") == row

    async def test_a_request_with_several_decisions_answers_with_the_newest(self) -> None:
        rows = [decision_row(f"d{number}", at_s=number, request_id="r") for number in (1, 3, 2)]
        async with self.opened() as store:
            await store.apply(StoreBatch(decisions=rows))
            found = await store.get_decision("r")
            assert found is not None
            assert found.decision_id == "d3"

    async def test_a_decision_id_goes_before_an_equal_request_id(self) -> None:
        async with self.opened() as store:
            await store.apply(
                StoreBatch(decisions=[decision_row("same", at_s=1), decision_row("d2", at_s=2, request_id="same")])
            )
            found = await store.get_decision("same")
            assert found is not None
            assert found.decision_id == "same"

    async def test_a_decision_that_is_written_again_is_replaced(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(decisions=[decision_row("d1", at_s=1), decision_row("d2", at_s=1)]))
            await store.apply(StoreBatch(decisions=[decision_row("d1", at_s=1, outcome="failed")]))
            assert await _decision_ids(store) == ["d1", "d2"]
            found = await store.get_decision("d1")
            assert found is not None
            assert found.outcome == "failed"

    async def test_an_event_reads_back_equal(self) -> None:
        row = event_row(1.25, kind="budget.created", entity_id=AWKWARD_TEXTS[5], amounts=[1, 2], note="\x00🔑")
        async with self.opened() as store:
            await store.apply(StoreBatch(events=[row, event_row(2, kind="budget.deleted")]))
            async with self.reopened(store) as later:
                assert await later.query_events(StateQuery("budget.created")) == [row]

    async def test_rows_come_newest_first_and_of_equal_times_the_last_written_first(self) -> None:
        async with self.opened() as store:
            for number, at_s in enumerate((5, 1, 3, 3, 3, 9)):
                await store.apply(
                    StoreBatch(
                        events=[event_row(at_s, number=number)], decisions=[decision_row(f"d{number}", at_s=at_s)]
                    )
                )
            events = await store.query_events(StateQuery("key.transition"))
            assert [event.document["number"] for event in events] == [5, 0, 4, 3, 2, 1]
            assert await _decision_ids(store) == ["d5", "d0", "d4", "d3", "d2", "d1"]

    async def test_decisions_are_filtered_by_every_field_of_the_query(self) -> None:
        rows = [
            decision_row(f"d{number}", at_s=number, key_id=f"key_{number % 2}", provider_id=f"p{number % 3}")
            for number in range(12)
        ]
        async with self.opened() as store:
            await store.apply(StoreBatch(decisions=rows))
            assert await _decision_ids(store, key_id="key_1") == ["d11", "d9", "d7", "d5", "d3", "d1"]
            assert await _decision_ids(store, provider_id="p2") == ["d11", "d8", "d5", "d2"]
            assert await _decision_ids(store, key_id="key_1", provider_id="p2") == ["d11", "d5"]
            assert await _decision_ids(store, entity_id="d4") == ["d4"]
            assert await _decision_ids(store, entity_id="request-of-d4") == ["d4"]
            assert await _decision_ids(store, since_s=4, until_s=7) == ["d6", "d5", "d4"]
            assert await _decision_ids(store, since_s=4, until_s=4) == []
            assert await _decision_ids(store, key_id="nobody") == []

    async def test_events_are_filtered_by_every_field_of_the_query(self) -> None:
        rows = [
            event_row(1, entity_id="key_1", provider_id="p1"),
            event_row(2, kind="budget.created", entity_id="b1"),
            event_row(3, entity_id="key_2", provider_id="p2"),
            event_row(4, kind="budget.created", entity_id="b2", key_id="key_1"),
            event_row(5, entity_id="key_1", provider_id="p2", key_id="key_1"),
        ]
        async with self.opened() as store:
            await store.apply(StoreBatch(events=rows))

            async def times(query: StateQuery) -> list[float]:
                return [event.at_s for event in await store.query_events(query)]

            assert await times(StateQuery("key.transition")) == [5, 3, 1]
            assert await times(StateQuery("StateTransition")) == [5, 3, 1]
            assert await times(StateQuery("StateTransition", entity_id="key_1")) == [5, 1]
            assert await times(StateQuery("StateTransition", provider_id="p2")) == [5, 3]
            assert await times(StateQuery("StateTransition", key_id="key_1", provider_id="p2")) == [5]
            assert await times(StateQuery("StateTransition", key_id="key_1")) == [5, 1], "key_id is the entity's id"
            assert await times(StateQuery("budget.created", key_id="key_1")) == [4], "or the document's key_id"
            assert await times(StateQuery("StateTransition", since_s=1, until_s=5)) == [3, 1]
            assert await times(StateQuery("budget.deleted")) == []

    async def test_query_state_answers_by_entity_type(self) -> None:
        decision, event, other = decision_row("d1"), event_row(1), event_row(2, kind="budget.created")
        async with self.opened() as store:
            await store.apply(StoreBatch(decisions=[decision], events=[event, other]))
            assert await store.query_state(StateQuery("RoutingDecision")) == [decision]
            assert await store.query_state(StateQuery("StateTransition")) == [event]
            assert await store.query_state(StateQuery("budget.created")) == [other]

    async def test_awkward_texts_in_filters_match_themselves_only(self) -> None:
        rows = [decision_row(text, at_s=at_s, key_id=text) for at_s, text in enumerate(AWKWARD_TEXTS)]
        events = [event_row(at_s, kind=text, entity_id=text) for at_s, text in enumerate(AWKWARD_TEXTS)]
        async with self.opened() as store:
            await store.apply(StoreBatch(decisions=rows, events=events))
            for text, decision, event in zip(AWKWARD_TEXTS, rows, events, strict=True):
                assert await store.query_decisions(StateQuery("RoutingDecision", key_id=text)) == [decision]
                assert await store.query_events(StateQuery(text, entity_id=text)) == [event]

    async def test_pages_join_up_without_gap_or_overlap(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(decisions=[decision_row(f"d{n}", at_s=n // 3) for n in range(25)]))
            pages = [await _decision_ids(store, limit=10, offset=offset) for offset in (0, 10, 20, 30)]
            assert [len(page) for page in pages] == [10, 10, 5, 0]
            assert [one for page in pages for one in page] == [f"d{n}" for n in reversed(range(25))]
            assert await _decision_ids(store, limit=0) == []
            assert await _decision_ids(store, limit=-1) == [], "a negative limit is no limit lifted"
            assert await _decision_ids(store, limit=2, offset=-5) == ["d24", "d23"]

    async def test_without_a_limit_at_most_a_hundred_rows_come(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(events=[event_row(number) for number in range(150)]))
            assert len(await store.query_events(StateQuery("key.transition"))) == 100

    async def test_each_log_keeps_the_newest_rows_and_never_more_than_its_maximum(self) -> None:
        async with self.opened(max_events=50, max_decisions=20) as store:
            for number in range(300):
                store.post(
                    StoreBatch(
                        events=[event_row(number, number=number)], decisions=[decision_row(f"d{number}", at_s=number)]
                    )
                )
                if number % 37 == 0 or number > 290:
                    events = await store.query_events(StateQuery("key.transition", limit=_ALL))
                    times = [event.at_s for event in events]
                    assert times == list(range(number, number - len(times), -1))
                    assert min(number + 1, 45) <= len(times) <= 50
                    ids = await _decision_ids(store, limit=_ALL)
                    assert ids == [f"d{n}" for n in range(number, number - len(ids), -1)]
                    assert min(number + 1, 18) <= len(ids) <= 20

    async def test_one_batch_larger_than_the_log_leaves_its_newest_rows(self) -> None:
        async with self.opened(max_events=10, max_decisions=10) as store:
            await store.apply(
                StoreBatch(
                    events=[event_row(number) for number in range(100)],
                    decisions=[decision_row(f"d{number}", at_s=number) for number in range(100)],
                )
            )
            times = [event.at_s for event in await store.query_events(StateQuery("key.transition"))]
            assert times[0] == 99
            assert all(newer - older == 1 for newer, older in pairwise(times))
            assert 9 <= len(times) <= 10
            assert await store.get_decision("d99") is not None
            assert await store.get_decision("d0") is None

    async def test_a_late_row_does_not_push_out_newer_ones(self) -> None:
        async with self.opened(max_decisions=5) as store:
            await store.apply(StoreBatch(decisions=[decision_row(f"d{n}", at_s=100 + n) for n in range(5)]))
            await store.apply(StoreBatch(decisions=[decision_row("late", at_s=1)]))
            assert await _decision_ids(store) == ["d4", "d3", "d2", "d1", "d0"]

    async def test_a_log_of_no_rows_keeps_none(self) -> None:
        async with self.opened(max_events=0, max_decisions=0) as store:
            await store.apply(StoreBatch(events=[event_row(1)], decisions=[decision_row("d1")]))
            assert await store.query_events(StateQuery("key.transition")) == []
            assert await store.get_decision("d1") is None
