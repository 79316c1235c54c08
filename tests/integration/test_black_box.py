"""Black boxes: what they keep when a process is killed at any instant, and what is not believed."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.interfaces.shared_ledger import Legacy
from apikeyrouter.infrastructure import black_box
from apikeyrouter.infrastructure.black_box import CHUNK_BYTES, BlackBox, Wreck, available, find_dead
from tests.support import box_writer
from tests.support.box_writer import COST, KEPT, STORE

pytestmark = pytest.mark.skipif(not available(), reason="no flock or no boot id here")
KILLS = 250
SLOTS_OF_FIRST_CHUNK = (CHUNK_BYTES - 256) // 128


class Writer:
    """The process that forks and kills (`tests/support/box_writer.py`)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, *words: object) -> str:
        ends: list[IO[str] | None] = [self.process.stdin, self.process.stdout]
        send, receive = ends
        assert send is not None
        assert receive is not None
        print(*words, file=send, flush=True)
        return receive.readline().strip()


@pytest.fixture(scope="module")
def writer() -> Iterator[Writer]:
    command = [sys.executable, str(Path(box_writer.__file__))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Writer(process)
        finally:
            process.terminate()


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    return tmp_path / "boxes"


def wreck_of(directory: Path, store: str = STORE) -> Wreck:
    (wreck,) = find_dead(directory, store)
    return wreck


def abandoned(directory: Path, figures: dict[tuple[str, int], tuple[int, int]], worker_id: str = "w1") -> Path:
    """A box whose worker is gone."""
    box = BlackBox.create(directory, worker_id, store_identity=STORE)
    for (budget_id, window), (spent, sent) in figures.items():
        cells = box.slot(budget_id, window).cells
        cells[0], cells[1] = spent, sent
    box.close()
    return box.path


def test_figures_survive_kills_at_any_instant(writer: Writer, boxes: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    truth_path = tmp_path / "truth"
    found = grown = 0
    for number in range(KILLS):
        truth_path.write_bytes(bytes(24))
        delay_s = chance.random() ** 3 * 0.02  # many early ones: the birth of a box is short
        assert writer.ask("write", boxes, f"w{number}", truth_path, delay_s) == "killed"
        left, lowest, highest = struct.unpack("3q", truth_path.read_bytes())
        wrecks = find_dead(boxes, STORE)
        if not wrecks:
            assert left == 0, "a request left and nothing is known of it"
            continue
        (wreck,) = wrecks
        found += 1
        grown += len(wreck.legacy) > SLOTS_OF_FIRST_CHUNK
        assert (wreck.worker_id, wreck.trusted, wreck.why) == (f"w{number}", True, "")
        check_figures(wreck.legacy, left, lowest, highest)
        wreck.remove()
    assert found > KILLS / 5
    assert grown > KILLS / 25
    assert list(boxes.iterdir()) == []


def check_figures(legacy: dict[tuple[str, int], Legacy], left: int, lowest: int, highest: int) -> None:
    steady = legacy.pop(("steady", 7), Legacy(0, 0))
    assert steady.spent + steady.sent >= left * COST, "less than has left"
    assert steady.spent + steady.sent <= (left + 2) * COST, "more than one request too much"
    for (budget_id, window), churned in legacy.items():
        assert budget_id == f"churn-{window}"
        assert churned.spent in (0, window * 1000 + 1), "figures of another window"
        assert churned.sent == 0
    windows = {window for _, window in legacy}
    assert set(range(max(lowest, 1), highest + 1)) <= windows
    assert len(windows) <= highest - max(lowest, 1) + 3
    assert len(windows) <= KEPT + 1


def test_each_wreck_goes_to_one_of_many_rescuers(writer: Writer, boxes: Path) -> None:
    for _ in range(5):
        assert writer.ask("leave", boxes, 40) == "left"
        taken = writer.ask("rescue", boxes, 4).split()
        rest = [wreck.worker_id for wreck in find_dead(boxes, STORE)]
        assert rest == [], "a process that could have its lock did not take it"
        assert sorted(taken) == sorted(f"w{number}" for number in range(40))


def test_sweeping_does_not_disturb_those_who_begin(writer: Writer, boxes: Path) -> None:
    boxes.mkdir(mode=0o700)
    assert writer.ask("churn", boxes, 300) == "failures [] sweeper lives"
    assert [wreck.worker_id for wreck in find_dead(boxes, STORE)] == []


def test_a_wreck_is_held_until_it_is_removed_or_left(boxes: Path) -> None:
    path = abandoned(boxes, {("b", 1): (10, 3)})
    wreck = wreck_of(boxes)
    assert (wreck.path, wreck.legacy) == (path, {("b", 1): Legacy(10, 3)})
    assert find_dead(boxes, STORE) == []
    wreck.leave()
    again = wreck_of(boxes)
    again.remove()
    again.remove()
    assert find_dead(boxes, STORE) == []
    assert not path.exists()


def test_a_living_box_is_never_found_not_even_by_its_owner(boxes: Path) -> None:
    box = BlackBox.create(boxes, "w1", store_identity=STORE)
    assert find_dead(boxes, STORE) == []
    box.close(clean=True)
    box.close()
    assert find_dead(boxes, STORE) == []
    assert list(boxes.iterdir()) == []


def test_boxes_of_other_stores_are_left_alone(boxes: Path) -> None:
    path = abandoned(boxes, {})
    assert find_dead(boxes, "another store") == []
    assert path.exists()
    wreck_of(boxes).remove()


def test_a_missing_directory_has_no_dead(boxes: Path) -> None:
    assert find_dead(boxes / "nowhere", STORE) == []


def test_files_and_directory_are_for_us_alone(boxes: Path) -> None:
    box = BlackBox.create(boxes / "deep", "w1", store_identity=STORE)
    assert box.path.stat().st_mode & 0o777 == 0o600
    assert box.path.parent.stat().st_mode & 0o777 == 0o700
    assert STORE.encode() not in box.path.read_bytes()
    box.close(clean=True)


def test_many_slots_keep_their_places_while_the_file_grows(boxes: Path) -> None:
    box = BlackBox.create(boxes, "w1", store_identity=STORE)
    slots = [box.slot(f"budget-{number % 7}", number) for number in range(3 * SLOTS_OF_FIRST_CHUNK)]
    for slot in slots:
        slot.cells[0], slot.cells[1] = slot.window + 1, 2
    assert box.path.stat().st_size == 3 * CHUNK_BYTES
    box.close()
    wreck = wreck_of(boxes)
    assert wreck.legacy == {(slot.budget_id, slot.window): Legacy(slot.window + 1, 2) for slot in slots}
    wreck.remove()


def test_a_slot_is_the_same_until_it_is_freed_and_then_blank(boxes: Path) -> None:
    box = BlackBox.create(boxes, "w1", store_identity=STORE)
    first = box.slot("b", 1)
    first.cells[0] = 99
    assert box.slot("b", 1) is first
    box.free(first)
    second = box.slot("c", 2)
    assert second.position == first.position
    assert list(second.cells) == [0, 0]
    with pytest.raises(ValueError, match="released"):
        first.cells[0] = 100
    box.close()
    wreck = wreck_of(boxes)
    assert wreck.legacy == {("c", 2): Legacy(0, 0)}
    wreck.remove()


def test_writing_after_the_end_is_harmless(boxes: Path) -> None:
    box = BlackBox.create(boxes, "w1", store_identity=STORE)
    cells = box.slot("b", 1).cells
    box.close(clean=True)
    cells[0] = 5
    assert find_dead(boxes, STORE) == []


def test_names_have_bounds(boxes: Path) -> None:
    box = BlackBox.create(boxes, "w" * 64, store_identity=STORE)
    longest = "é" * 32
    box.slot(longest, -1).cells[0] = 2**63 - 1
    for budget_id in ("", "é" * 33):
        with pytest.raises(ValueError, match="1 to 64 bytes"):
            box.slot(budget_id, 0)
    box.close()
    wreck = wreck_of(boxes)
    assert wreck.worker_id == "w" * 64
    assert wreck.legacy == {(longest, -1): Legacy(2**63 - 1, 0)}
    wreck.remove()
    for worker_id in ("", "w" * 65, "../w", "a b"):
        with pytest.raises(ValueError, match="worker id"):
            BlackBox.create(boxes, worker_id, store_identity=STORE)


def test_a_directory_that_others_may_write_is_refused(boxes: Path) -> None:
    boxes.mkdir()
    boxes.chmod(0o777)
    with pytest.raises(PermissionError, match=r"others may write .*boxes"):
        BlackBox.create(boxes, "w1", store_identity=STORE)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        BlackBox.create(tmp_path / "file" / "boxes", "w1", store_identity=STORE)
    with pytest.raises(OSError, match="/proc/"):
        BlackBox.create(Path("/proc/boxes"), "w1", store_identity=STORE)


def test_a_second_box_of_one_worker_is_refused(boxes: Path) -> None:
    box = BlackBox.create(boxes, "w1", store_identity=STORE)
    with pytest.raises(FileExistsError, match="has a box already"):
        BlackBox.create(boxes, "w1", store_identity=STORE)
    box.close(clean=True)


FULL_DISK = """
import resource, sys
from pathlib import Path
from apikeyrouter.infrastructure.black_box import BlackBox, find_dead
box = BlackBox.create(Path(sys.argv[1]), "w1", store_identity="test store")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
slots, failure = [], None
for number in range(600):
    try:
        slots.append(box.slot("b", number))
    except OSError as error:
        failure = error
for slot in slots:
    slot.cells[0] = 8
box.close()
try:
    BlackBox.create(Path(sys.argv[1]), "w2", store_identity="test store")
except OSError as error:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    BlackBox.create(Path(sys.argv[1]), "w3", store_identity="test store")
except OSError as error:
    print(error)
(wreck,) = find_dead(Path(sys.argv[1]), "test store")[:1]
print(len(slots), wreck.worker_id, wreck.trusted, len(wreck.legacy), sum(l.spent for l in wreck.legacy.values()))
print(failure)
"""


def test_a_full_disk_is_an_error_and_not_a_crash(boxes: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(boxes)], capture_output=True, text=True, check=True)
    third, first, failure = done.stdout.splitlines()
    slots = SLOTS_OF_FIRST_CHUNK
    assert third.startswith("[Errno 28] no room for a black box")
    assert first == f"{slots} w1 True {slots} {slots * 8}"
    assert failure.startswith("[Errno 28] no room for a black box")
    assert not list(boxes.glob("*.new"))


def rewrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def with_header(path: Path, at: int, data: bytes) -> None:
    """Changes the header and makes its checksum right again."""
    rewrite(path, at, data)
    rewrite(path, 140, struct.pack("=I", zlib.crc32(path.read_bytes()[:140])))


DAMAGE = {
    "empty": (lambda path: path.write_bytes(b""), "too short"),
    "cut": (lambda path: rewrite_size(path, CHUNK_BYTES - 1), "too short"),
    "cut later": (lambda path: rewrite_size(path, 2 * CHUNK_BYTES - 1), "shorter than it was"),
    "noise": (lambda path: path.write_bytes(random.Random(1).randbytes(2 * CHUNK_BYTES)), "no black box"),
    "version": (lambda path: with_header(path, 7, b"\2"), "another version"),
    "header": (lambda path: rewrite(path, 20, b"\0\0"), "header is damaged"),
    "store": (lambda path: with_header(path, 8, bytes(32)), "another file"),
    "worker": (lambda path: with_header(path, 76, b"other"), "another file"),
    "boot": (lambda path: with_header(path, 40, b"0" * 36), "before this machine was started"),
    "count": (lambda path: rewrite(path, 248, bytes(8)), "shorter than it was"),
    "identity": (lambda path: rewrite(path, 256 + 40, b"X"), "record is damaged"),
    "commit": (lambda path: rewrite(path, 256, b"\1"), "record is damaged"),
    "negative": (lambda path: rewrite(path, 256 + 8, struct.pack("=q", -1)), "record is damaged"),
    "twice": (lambda path: rewrite(path, 384, path.read_bytes()[256:384]), "there twice"),
}


def rewrite_size(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_boxes_and_those_of_an_earlier_boot_are_not_trusted(kind: str, boxes: Path) -> None:
    damage, why = DAMAGE[kind]
    path = abandoned(boxes, {("b", number): (1, 1) for number in range(SLOTS_OF_FIRST_CHUNK + 1)})
    damage(path)
    wreck = wreck_of(boxes)
    assert (wreck.worker_id, wreck.trusted, wreck.legacy) == ("w1", False, {})
    assert why in wreck.why
    wreck.remove()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.one_of(st.integers(0, 1023), st.integers(0, CHUNK_BYTES - 1)),
    flip=st.integers(1, 255),
)
def test_no_flipped_byte_gives_figures_to_another_window(boxes: Path, at: int, flip: int) -> None:
    figures = {("b", number): (number, 1) for number in range(5)}
    path = abandoned(boxes, figures)
    rewrite(path, at, bytes([path.read_bytes()[at] ^ flip]))
    wreck = wreck_of(boxes)
    in_cells = at >= 256 and at % 128 in range(8, 24)
    if wreck.trusted and not in_cells:
        assert wreck.legacy == {key: Legacy(*figure) for key, figure in figures.items()}
    else:
        assert set(wreck.legacy) <= set(figures)
    wreck.remove()


def test_things_that_are_no_boxes_are_passed_over(boxes: Path) -> None:
    box = BlackBox.create(boxes, "w1", store_identity=STORE)
    prefix = box.path.name[: -len("w1.box")]
    box.close(clean=True)
    (boxes / f"{prefix}directory.box").mkdir()
    (boxes / f"{prefix}link.box").symlink_to(boxes / f"{prefix}directory.box")
    (boxes / "note.txt").touch()
    (boxes / f"{prefix}unfinished.new").touch()
    assert find_dead(boxes, STORE) == []
    assert not (boxes / f"{prefix}unfinished.new").exists()
    assert (boxes / "note.txt").exists()


def test_a_platform_without_boot_ids_has_no_boxes(boxes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = abandoned(boxes, {})
    monkeypatch.setattr(black_box, "_boot_id", lambda: "")
    assert not available()
    assert find_dead(boxes, STORE) == []
    with pytest.raises(OSError, match="does not have"):
        BlackBox.create(boxes, "w2", store_identity=STORE)
    assert path.exists()
