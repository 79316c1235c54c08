"""Two sends, of which the first good one counts.

Main entry: `first_good`. The second leg starts when the first has been silent for a while; when one leg comes out well,
the other is cancelled and awaited, so that its own `finally` settles its hold: both legs are in the ledger.
Laws: no task outlives the call, also when the caller is cancelled, which cancels both legs; a first leg that ends
before the time is not hedged, since what follows a failure is the pipeline's decision; one that fails later just leaves
the race to the other; a good outcome that nobody will use is handed to `discard`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from apikeyrouter.domain.interfaces.clock import Clock

__all__ = ["Raced", "first_good"]

_T = TypeVar("_T")
Leg = Coroutine[Any, Any, _T]


@dataclass(frozen=True, slots=True)
class Raced(Generic[_T]):
    """How a race ended. `leg`: 0 or 1, whose `outcome` it is: the good one's, else that of the leg which failed last.
    `hedged`: whether the second leg was started."""

    outcome: _T
    leg: int
    hedged: bool


async def first_good(
    start_first: Callable[[], Leg[_T]],
    start_second: Callable[[], Leg[_T] | None],
    *,
    after_s: float,
    clock: Clock,
    good: Callable[[_T], bool],
    discard: Callable[[_T], None],
) -> Raced[_T]:
    """Runs the first leg, and after `after_s` seconds without its end the second as well.

    `start_second` returns None where no second leg can be had. What a leg raises is raised here, once the other has
    ended.
    """
    loop = asyncio.get_running_loop()
    legs = [loop.create_task(start_first())]
    timer = loop.create_task(clock.sleep(after_s))
    raced: Raced[_T] | None = None
    try:
        await asyncio.wait({legs[0], timer}, return_when=asyncio.FIRST_COMPLETED)
        if not legs[0].done() and (second := start_second()) is not None:
            legs.append(loop.create_task(second))
        running = set(legs)
        while raced is None or (running and not good(raced.outcome)):
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for number in sorted((legs.index(leg) for leg in ended), reverse=True):
                # backwards, so that of two that end together the first has the last word; a good one keeps it
                outcome = legs[number].result()
                if raced is None or good(outcome) or not good(raced.outcome):
                    raced = Raced(outcome, number, len(legs) > 1)
    finally:
        await _end([*legs, timer])
        for number, leg in enumerate(legs):
            unused = raced is None or raced.leg != number
            if unused and not leg.cancelled() and leg.exception() is None and good(leg.result()):
                discard(leg.result())
    return raced


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancels what still runs and waits for it, also while being cancelled again; that is passed on at the end."""
    cancelled: asyncio.CancelledError | None = None
    running = {task for task in tasks if not task.done()}
    for task in running:
        task.cancel()
    while running:
        try:
            _, running = await asyncio.wait(running)
        except asyncio.CancelledError as again:
            cancelled = again
            running = {task for task in running if not task.done()}
    if cancelled is not None:
        raise cancelled
