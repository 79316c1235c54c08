"""One scrape for all workers: each writes what it has counted to a shared folder, whoever is scraped adds it up.

Main entries: `MetricsBoard.post` (a worker, once a second), `MetricsBoard.add_up` (the worker that is scraped) and
`fold_ended` (the parent, when a worker has ended: its counts must not vanish, or every counter would seem to restart).
Laws: a file appears whole or not at all; counters and histograms are sums over workers, dead ones included; of gauges
only those in `_SUMMED` are, over workers that live, since the others say the same in each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from prometheus_client.metrics_core import Metric

__all__ = ["MetricsBoard", "fold_ended"]

_SUMMED = frozenset(
    {
        "apikeyrouter_breaker_open",
        "apikeyrouter_key_in_flight",
        "apikeyrouter_upstream_connections",
        "apikeyrouter_holds_open",
        "apikeyrouter_in_flight",
        "apikeyrouter_tasks",
        "apikeyrouter_workers",
    }
)
_ADDED_UP = frozenset({"counter", "histogram"})
_ENDED = "ended"

_Labels = tuple[tuple[str, str], ...]


class _Sample(msgspec.Struct, array_like=True, gc=False):
    name: str
    labels: _Labels
    value: float


class _Family(msgspec.Struct, array_like=True, gc=False):
    name: str
    documentation: str
    kind: str
    samples: list[_Sample]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Family]).decode


class MetricsBoard:
    """The folder as one worker sees it. `name`: of this worker's file; no other process may use it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._posted: bytes = b""

    @property
    def place(self) -> Path:
        """The folder and this worker's name in it, for what else workers leave there for each other."""
        return self._folder / self._name

    def post(self, families: Iterable[Metric]) -> None:
        """Leaves this worker's families for the others."""
        shot = _encode([_plain(family) for family in families])
        if shot != self._posted:
            _write(self._folder / f"{self._name}.metrics", shot)
            self._posted = shot

    def add_up(self, own: Iterable[Metric]) -> list[Metric]:
        """This worker's families with what the others have left."""
        living: list[list[_Family]] = []
        ended: list[list[_Family]] = []
        for file in sorted(self._folder.glob("*.metrics")):
            if file.stem != self._name:
                (ended if file.stem == _ENDED else living).append(_read(file))
        return [_metric(family) for family in _sum([_plain(family) for family in own], living, ended)]


def fold_ended(folder: Path, name: str) -> None:
    """Adds what the ended worker `name` had left to what other ended ones left. Does nothing when it left nothing."""
    file, sums = folder / f"{name}.metrics", folder / f"{_ENDED}.metrics"
    if not file.exists():
        return
    before = [_read(sums)] if sums.exists() else []
    _write(sums, _encode(_sum(_read(file), [], before)))
    file.unlink()


def _write(path: Path, content: bytes) -> None:
    draft = path.with_suffix(f".{os.getpid()}.draft")
    draft.write_bytes(content)
    draft.replace(path)


def _read(path: Path) -> list[_Family]:
    """Nothing, when its worker ended in this moment."""
    try:
        return _decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return []


def _plain(family: Metric) -> _Family:
    samples = [_Sample(s.name, tuple(sorted(s.labels.items())), float(s.value)) for s in family.samples]
    return _Family(family.name, family.documentation, family.type, samples)


def _metric(family: _Family) -> Metric:
    metric = Metric(family.name, family.documentation, family.kind)
    for sample in family.samples:
        metric.add_sample(sample.name, dict(sample.labels), sample.value)
    return metric


def _sum(own: list[_Family], living: list[list[_Family]], ended: list[list[_Family]]) -> list[_Family]:
    sums = {family.name: family for family in own}
    for shot, lives in [*((shot, True) for shot in living), *((shot, False) for shot in ended)]:
        for family in shot:
            mine = sums.get(family.name)
            if family.kind in _ADDED_UP or (lives and family.name in _SUMMED):
                if mine is None:
                    sums[family.name] = family
                else:
                    _add(mine, family)
    return list(sums.values())


def _add(mine: _Family, other: _Family) -> None:
    places = {(sample.name, sample.labels): sample for sample in mine.samples}
    for sample in other.samples:
        known = places.get((sample.name, sample.labels))
        if known is None:
            mine.samples.append(sample)
        else:
            known.value += sample.value
