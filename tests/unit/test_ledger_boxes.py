"""Boxes of one machine: ended workers are settled once, from their own figures, and nothing breaks without a box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from apikeyrouter.domain.components.lessee import Boxes
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import Legacy, WorkerRow
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.black_box import BlackBox, available
from apikeyrouter.infrastructure.ledger_boxes import LedgerBoxes, boxes_for
from apikeyrouter.infrastructure.state_store import open_store

pytestmark = pytest.mark.skipif(not available(), reason="no flock or no boot id here")
STORE = "sqlite:///money.db"


class Workers:
    """The part of a store that ends workers: each once, and without a journal only those that have expired."""

    def __init__(self, *alive: str, expired: tuple[str, ...] = ()) -> None:
        self.rows = [WorkerRow(one, "host", 0.0, expired=one in expired) for one in (*alive, *expired)]
        self.ended: list[tuple[str, dict[tuple[str, int], Legacy] | None]] = []
        self.down = False

    async def list_workers(self) -> list[WorkerRow]:
        return list(self.rows)

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        if self.down:
            raise StateStoreError("the store is down")
        row = next((row for row in self.rows if row.worker_id == worker_id), None)
        if row is None or (legacy is None and not row.expired):
            return None
        self.rows.remove(row)
        self.ended.append((worker_id, None if legacy is None else dict(legacy)))
        return sum(line.sent for line in (legacy or {}).values())

    @property
    def store(self) -> StateStore:
        return cast("StateStore", self)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "boxes"


def boxes_of(directory: Path) -> LedgerBoxes:
    boxes = LedgerBoxes(directory, STORE)
    port: Boxes = boxes
    assert port is boxes
    return boxes


def die(directory: Path, worker_id: str, spent: int, sent: int) -> None:
    box = BlackBox.create(directory, worker_id, store_identity=STORE)
    cells = box.slot("b", 7).cells
    cells[0], cells[1] = spent, sent
    box.close()


async def test_a_dead_neighbour_is_settled_from_its_box_once(directory: Path) -> None:
    die(directory, "w1", 30, 4)
    workers = Workers("w1", "w2")
    boxes = boxes_of(directory)
    boxes.begin("w2")
    assert await boxes.rescue(workers.store) == 1
    assert await boxes.rescue(workers.store) == 0
    assert workers.ended == [("w1", {("b", 7): Legacy(30, 4)})]
    assert len(list(directory.iterdir())) == 1
    boxes.end()
    assert list(directory.iterdir()) == []


async def test_a_box_is_kept_while_the_store_is_down(directory: Path) -> None:
    die(directory, "w1", 30, 4)
    workers = Workers("w1")
    workers.down = True
    boxes = boxes_of(directory)
    for _ in range(2):
        with pytest.raises(StateStoreError):
            await boxes.rescue(workers.store)
    workers.down = False
    assert await boxes.rescue(workers.store) == 1
    assert workers.ended == [("w1", {("b", 7): Legacy(30, 4)})]


async def test_the_box_of_a_worker_that_was_ended_already_is_cleared_away(directory: Path) -> None:
    die(directory, "w1", 30, 4)
    assert await boxes_of(directory).rescue(Workers().store) == 0
    assert list(directory.iterdir()) == []


async def test_a_box_that_says_nothing_waits_for_the_end_of_its_lease(directory: Path) -> None:
    die(directory, "w1", 30, 4)
    (path,) = directory.iterdir()
    path.write_bytes(b"noise")
    workers = Workers("w1")
    boxes = boxes_of(directory)
    assert await boxes.rescue(workers.store) == 0
    assert path.exists()
    workers.rows = [replace(row, expired=True) for row in workers.rows]
    assert await boxes.rescue(workers.store) == 1
    assert workers.ended == [("w1", None)], "what a damaged box says is not used"
    assert not path.exists()


async def test_expired_workers_without_a_box_are_ended_too(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers("w1", expired=("w2",))
    boxes = boxes_of(directory)
    boxes.begin("w1")
    assert sum([await boxes.rescue(workers.store) for _ in range(5)]) == 1
    assert workers.ended == [("w2", None)]
    boxes.end()


async def test_after_an_outage_of_the_store_the_living_may_speak_first(directory: Path) -> None:
    workers = Workers("w1", expired=("w2", "w3"))
    boxes = boxes_of(directory)
    for _ in range(4):
        await boxes.rescue(workers.store)
    heard = replace(workers.rows[1], expires_at_s=15.0)
    workers.rows[1] = replace(heard, expired=False)
    await boxes.rescue(workers.store)
    assert workers.ended == [("w3", None)]
    workers.rows[1] = heard
    for _ in range(2):
        await boxes.rescue(workers.store)
    assert workers.ended == [("w3", None)], "its silence counts anew"
    await boxes.rescue(workers.store)
    assert workers.ended == [("w3", None), ("w2", None)]


async def test_wrecks_that_could_not_be_settled_are_free_for_others(directory: Path) -> None:
    for name in ("w1", "w2", "w3"):
        die(directory, name, 30, 4)
    workers = Workers("w1", "w2", "w3")
    workers.down = True
    with pytest.raises(StateStoreError) as kept:
        await boxes_of(directory).rescue(workers.store)
    workers.down = False
    assert await boxes_of(directory).rescue(workers.store) == 3, kept


def test_a_store_that_lasts_has_somebody_who_ends_expired_workers_on_every_platform(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/money.db")
    assert boxes_for(store, {}) is not None
    assert boxes_for(open_store("memory://"), {}) is None


async def test_a_new_worker_of_this_process_has_a_new_box(directory: Path) -> None:
    boxes = boxes_of(directory)
    boxes.begin("w1")
    cells = boxes.open_cells("b", 7)
    assert cells is not None
    cells[0] = 5
    boxes.begin("w2")
    cells[0] = 6  # somebody who still holds it does no harm
    boxes.close_cells("b", 7)
    assert boxes.open_cells("b", 7) is not None
    assert await boxes.rescue(Workers().store) == 0
    assert [path.name.rpartition("-")[2] for path in directory.iterdir()] == ["w2.box"]
    boxes.end()
    assert boxes.open_cells("b", 7) is None


def test_closed_cells_are_used_again(directory: Path) -> None:
    boxes = boxes_of(directory)
    boxes.begin("w1")
    for window in range(2000):
        assert boxes.open_cells("b", window) is not None
        boxes.close_cells("b", window)
    (path,) = directory.iterdir()
    assert path.stat().st_size == 65536
    boxes.end()


async def test_without_a_box_everything_else_goes_on_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    boxes = boxes_of(tmp_path / "file" / "boxes")
    boxes.begin("w1")
    assert boxes.open_cells("b", 7) is None
    boxes.close_cells("b", 7)
    boxes.end()
    assert "No black box can be kept" in caplog.text
