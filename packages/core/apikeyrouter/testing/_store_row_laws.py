"""Laws of single rows: keys, budgets, virtual keys, settings.

Main entry: `RowLaws`, a part of `StoreConformance`. Laws: what was written reads back equal, field by field; replacing
keeps a row's place in the order; rows are copied in and copied out.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch
from apikeyrouter.testing._store_suite import AWKWARD_TEXTS, StoreSuite
from apikeyrouter.testing.store_rows import budget_row, key_row, virtual_key_row

__all__ = ["RowLaws"]

_EVERY_BYTE = bytes(range(256))
_DEEP_DOCUMENT: dict[str, Any] = {
    "text": "ключ 🔑 \x00 \u2028",
    "numbers": [0, -1, 2**53, 1.5, 1e-9],
    "nothing": None,
    "flags": [True, False],
    "nested": {"a": {"b": [{"c": []}]}},
    "": "an empty name",
}


class RowLaws(StoreSuite):
    """Keys, budgets, virtual keys and settings."""

    async def test_an_empty_store_answers_with_nothing(self) -> None:
        async with self.opened() as store:
            assert await store.load_keys() == []
            assert await store.list_keys() == []
            assert await store.load_budgets() == []
            assert await store.load_virtual_keys() == []
            assert await store.get_setting("pepper") is None
            assert await store.get_decision("nobody") is None

    async def test_a_key_reads_back_equal_in_every_field(self) -> None:
        row = key_row(
            "key_1",
            provider_id="anthropic",
            state="throttled",
            sealed_secret=_EVERY_BYTE,
            fingerprint=_EVERY_BYTE[::-1],
            version=7,
            document=_DEEP_DOCUMENT,
            created_at_s=1_767_225_600.123456,
            updated_at_s=1_767_225_601.5,
            sealed_previous=b"",
            revision=2**40,
        )
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[row]))
            assert await store.load_keys() == [row]
            async with self.reopened(store) as later:
                assert await later.load_keys() == [row]

    async def test_a_large_sealed_secret_and_a_large_document_fit(self) -> None:
        row = key_row("key_1", sealed_secret=b"\x00\xff" * 500_000, document={"notes": "n" * 1_000_000})
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[row]))
            assert await store.load_keys() == [row]

    async def test_awkward_ids_are_ids_and_nothing_else(self) -> None:
        rows = [key_row(text, at_s=at_s, provider_id=text) for at_s, text in enumerate(AWKWARD_TEXTS)]
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=rows))
            assert await store.load_keys() == rows
            for text in AWKWARD_TEXTS:
                assert [key.id for key in await store.list_keys(text)] == [text]
                await store.delete_key(text)
            assert await store.load_keys() == []

    async def test_keys_come_oldest_first_and_replacing_keeps_the_place(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("b", at_s=2), key_row("c", at_s=2), key_row("a", at_s=1)]))
            await store.apply(StoreBatch(keys=[key_row("b", at_s=2, state="disabled", version=2)]))
            rows = await store.load_keys()
            assert [row.key_id for row in rows] == ["a", "b", "c"]
            assert (rows[1].state, rows[1].version) == ("disabled", 2)

    async def test_named_keys_are_loaded_alone_oldest_first(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row(text, at_s=at_s) for at_s, text in enumerate(AWKWARD_TEXTS)]))
            wanted = [AWKWARD_TEXTS[7], "unknown", AWKWARD_TEXTS[1], AWKWARD_TEXTS[7]]
            assert [row.key_id for row in await store.load_keys(wanted)] == [AWKWARD_TEXTS[1], AWKWARD_TEXTS[7]]
            assert await store.load_keys(["unknown"]) == await store.load_keys([]) == []
            await store.apply(StoreBatch(keys=[key_row(f"k{number}") for number in range(2_000)]))
            assert len(await store.load_keys([f"k{number}" for number in range(5_000)])) == 2_000

    async def test_the_last_of_two_rows_with_one_id_wins(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("a", version=1), key_row("a", version=2)]))
            assert [row.version for row in await store.load_keys()] == [2]

    async def test_replacing_can_empty_a_field(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("a", sealed_previous=b"old", document={"x": 1})]))
            await store.apply(StoreBatch(keys=[key_row("a", sealed_previous=None, document={})]))
            (row,) = await store.load_keys()
            assert (row.sealed_previous, row.document) == (None, {})

    async def test_views_show_no_secret_and_leave_retired_keys_out(self) -> None:
        rows = [key_row("a", at_s=1), key_row("b", at_s=2, state="retired"), key_row("c", at_s=3, provider_id="other")]
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=rows))
            assert [key.id for key in await store.list_keys()] == ["a", "c"]
            assert [key.id for key in await store.list_keys(provider_id="openai")] == ["a"]
            assert await store.list_keys(provider_id="unknown") == []
            assert len(await store.load_keys()) == 3
            (view, _) = await store.list_keys()
            assert view.metadata == {"cost_per_1k": "0.01"}
            assert "sealed" not in repr(view)

    async def test_a_deleted_key_is_gone_and_deleting_it_again_is_harmless(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("a", at_s=1), key_row("b", at_s=2)]))
            await store.delete_key("a")
            await store.delete_key("a")
            await store.delete_key("unknown")
            async with self.reopened(store) as later:
                assert [row.key_id for row in await later.load_keys()] == ["b"]

    async def test_rows_are_copied_in_and_copied_out(self) -> None:
        row = key_row("a", document={"tags": ["x"]})
        async with self.opened() as store:
            store.post(StoreBatch(keys=[row]))
            row.document["tags"].append("changed after the call")
            row.state = "disabled"
            (read,) = await store.load_keys()
            assert (read.document, read.state) == ({"tags": ["x"]}, "available")
            read.document["tags"].append("changed by a reader")
            assert (await store.load_keys())[0].document == {"tags": ["x"]}

    async def test_budgets_read_back_equal_and_deleted_ones_stay_out(self) -> None:
        first = budget_row("b1", at_s=1, limit_nano_usd=2**62, mode="soft", rolling=True)
        second = budget_row(
            "b2", at_s=2, scope="per_key", scope_id=AWKWARD_TEXTS[0], time_zone="Europe/Berlin", name=AWKWARD_TEXTS[5]
        )
        async with self.opened() as store:
            await store.apply(StoreBatch(budgets=[second, first]))
            assert await store.load_budgets() == [first, second]
            await store.apply(StoreBatch(budgets=[budget_row("b1", at_s=1, status="deleted")]))
            async with self.reopened(store) as later:
                assert await later.load_budgets() == [second]

    async def test_virtual_keys_read_back_equal_revoked_and_expired_ones_too(self) -> None:
        rows = [
            virtual_key_row("v1", at_s=1, role="admin", digest=_EVERY_BYTE, document=_DEEP_DOCUMENT),
            virtual_key_row("v2", at_s=2, expires_at_s=3.5),
            virtual_key_row(AWKWARD_TEXTS[0], at_s=3),
        ]
        async with self.opened() as store:
            for row in reversed(rows):
                await store.save_virtual_key(row)
            assert await store.load_virtual_keys() == rows
            rows[1].revoked_at_s = 3.25
            await store.save_virtual_key(rows[1])
            async with self.reopened(store) as later:
                assert await later.load_virtual_keys() == rows

    async def test_a_virtual_key_that_is_revoked_stays_so_whoever_writes_later(self) -> None:
        ended = virtual_key_row("v", revoked_at_s=3.25)
        async with self.opened() as store:
            await store.save_virtual_key(virtual_key_row("v"))
            await store.save_virtual_key(ended)
            await store.save_virtual_key(virtual_key_row("v", expires_at_s=9.0))
            assert await store.load_virtual_keys() == [ended]
            await store.save_virtual_key(virtual_key_row("v", revoked_at_s=4.0))
            async with self.reopened(store) as later:
                assert await later.load_virtual_keys() == [virtual_key_row("v", revoked_at_s=4.0)]

    async def test_of_changes_to_one_virtual_key_that_began_with_the_same_row_one_is_made(self) -> None:
        plain = virtual_key_row(AWKWARD_TEXTS[0], document=_DEEP_DOCUMENT)
        others = [replace(plain, document={**_DEEP_DOCUMENT, "change": n}, expires_at_s=n + 0.5) for n in range(5)]
        async with self.opened() as store:
            assert not await store.save_virtual_key(plain, only_if=plain)
            assert await store.load_virtual_keys() == []
            assert await store.save_virtual_key(plain)
            async with self.reopened(store) as later:
                (read,) = await later.load_virtual_keys()
                made = await asyncio.gather(*(later.save_virtual_key(one, only_if=read) for one in others))
                assert sum(made) == 1
                changed = others[made.index(True)]
                assert await later.load_virtual_keys() == [changed]
                assert await later.save_virtual_key(replace(changed, revoked_at_s=3.0), only_if=changed)
                assert not await later.save_virtual_key(plain, only_if=changed)
                assert not await later.save_virtual_key(plain)
                (ended,) = await later.load_virtual_keys()
                assert not await later.save_virtual_key(changed, only_if=ended), "a revoked key came back"

    async def test_settings_hold_any_bytes_under_any_name(self) -> None:
        async with self.opened() as store:
            for name in AWKWARD_TEXTS:
                assert await store.put_setting(name, name.encode() + _EVERY_BYTE) == name.encode() + _EVERY_BYTE
            assert await store.put_setting("empty", b"") == b""
            async with self.reopened(store) as later:
                for name in AWKWARD_TEXTS:
                    assert await later.get_setting(name) == name.encode() + _EVERY_BYTE
                assert await later.get_setting("empty") == b""

    async def test_a_setting_is_replaced_unless_only_absence_allows_it(self) -> None:
        async with self.opened() as store:
            assert await store.put_setting("pepper", b"one", only_if_absent=True) == b"one"
            assert await store.put_setting("pepper", b"two", only_if_absent=True) == b"one"
            assert await store.put_setting("pepper", b"three") == b"three"
            assert await store.get_setting("pepper") == b"three"

    async def test_a_setting_is_replaced_only_where_it_is_still_what_it_was(self) -> None:
        async with self.opened() as store:
            await store.put_setting("list", _EVERY_BYTE)
            assert await store.put_setting("list", b"two", only_if=b"other") == _EVERY_BYTE
            assert await store.put_setting("list", b"two", only_if=_EVERY_BYTE) == b"two"
            assert await store.put_setting("list", b"", only_if=b"two") == b""
            assert await store.put_setting("list", b"three", only_if=b"") == b"three"
            await store.put_setting("absent", b"x", only_if=b"y")
            assert await store.get_setting("absent") is None
            assert await store.get_setting("list") == b"three"

    async def test_what_16_callers_add_to_a_setting_at_once_is_all_kept(self) -> None:
        async def add(store: StateStore, letter: bytes) -> None:
            while True:
                before = await store.get_setting("letters") or b""
                after = before + letter
                if await store.put_setting("letters", after, only_if=before) == after:
                    return

        async with self.opened() as store:
            await store.put_setting("letters", b"")
            letters = [b"%c" % (97 + number) for number in range(16)]
            await asyncio.gather(*(add(store, letter) for letter in letters))
            assert sorted((await store.get_setting("letters") or b"").decode()) == sorted(b"".join(letters).decode())

    async def test_64_callers_agree_on_one_value_of_an_absent_setting(self) -> None:
        async with self.opened() as store:
            offers = [b"offer %d" % number for number in range(64)]
            stored = await asyncio.gather(*(store.put_setting("salt", offer, only_if_absent=True) for offer in offers))
            assert len(set(stored)) == 1
            assert stored[0] in offers
            assert await store.get_setting("salt") == stored[0]
