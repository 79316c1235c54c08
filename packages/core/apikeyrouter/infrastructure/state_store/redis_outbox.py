"""What waits to be written to Redis: batches, in order, many to a script.

Main entries: `Outbox.post` (queue and forget), `Outbox.submit` (queue and await), `Outbox.settle` (await the queue).
Everything queued while a call runs goes into the next one (group commit); posted facts wait up to `LINGER_S` for
company.
Laws: order is kept; a batch is written once or not at all, also when an answer is lost: each call has a number, and the
server remembers the last one. While the server cannot be reached, posted batches are kept and tried again; whoever
awaits is refused at once and its batch is not tried again. A batch that the server refuses takes no other with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.infrastructure.state_store.redis_link import StoreUnavailableError

__all__ = ["LINGER_S", "Outbox"]

LINGER_S = 0.05
"""How long a post may wait for company: what a crash of this process may lose."""

_RETRY_S = 0.5
"""Between attempts to write what was posted, while the server cannot be reached."""

_GROUP_WORDS_MAX = 2_000
_GROUP_BYTES_MAX = 4_000_000
"""Of one call: they bound how long the server serves nobody else (some milliseconds). A larger batch goes alone."""

Send = Callable[[str, int, list[str | bytes]], Awaitable[object]]
"""Runs the script: writer, number, operations."""


@dataclass(slots=True, eq=False)
class _Job:
    """A batch. `future`: who awaits it. `decisions`: how many of its rows may be dropped from a full queue."""

    words: list[str | bytes]
    decisions: int = 0
    future: asyncio.Future[None] | None = None

    @property
    def size(self) -> int:
        return sum([len(word) for word in self.words])


class Outbox:
    """The queue of one store object. It outlives connections and event loops.

    `failed_posts`: batches that will never be written, ever; `failing`: whether the last attempt failed.
    `queued_decisions`: decisions that wait.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._writer = secrets.token_hex(8)
        self._number = 1
        self._jobs: deque[_Job] = deque()
        self._group: list[_Job] = []
        self._alone = 0
        self._runner: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unreported = 0
        self._last_failure = ""
        self.failed_posts = 0
        self.failing = False
        self.queued_decisions = 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._jobs and not self._group

    @property
    def waiting(self) -> int:
        """Batches that wait."""
        return len(self._jobs) + len(self._group)

    def post(self, words: list[str | bytes], decisions: int) -> None:
        """Queues rows that nobody waits for. Works without an event loop too: they go with the next call."""
        self._jobs.append(_Job(words, decisions))
        self.queued_decisions += decisions
        with contextlib.suppress(RuntimeError):
            self._here()
            if self._timer is None:
                self._start_within(LINGER_S)

    def post_failure(self, error: StateStoreError) -> None:
        """Something posted cannot be stored."""
        self._fail(error)

    async def submit(self, words: list[str | bytes]) -> None:
        """Returns when everything up to these rows is written. Raises StateStoreError."""
        future: asyncio.Future[None] = self._here().create_future()
        self._jobs.append(_Job(words, 0, future))
        self._run()
        await future

    async def settle(self) -> None:
        """Returns when everything queued so far is written or was refused. Raises StoreUnavailableError."""
        if not self.idle:
            await self.submit([])

    def report(self) -> None:
        """Raises StateStoreError for posts that were refused since the last report."""
        failed, self._unreported = self._unreported, 0
        if failed:
            raise StateStoreError(f"{failed} posted batches were not stored. The last: {self._last_failure}")

    async def stop(self) -> None:
        """Tries to write everything, then runs no more until the next call. Raises StoreUnavailableError."""
        try:
            await self.settle()
        finally:
            self._cancel_timer()
            runner, self._runner = self._runner, None
            if runner is not None and not runner.done():
                runner.cancel()
                await asyncio.wait([runner])

    def forget(self) -> None:
        """Forgets what waits: after a fork that is the parent's to write."""
        self._jobs.clear()
        self._writer, self.queued_decisions = secrets.token_hex(8), 0
        self._next_number()

    def _here(self) -> asyncio.AbstractEventLoop:
        """The running loop. When it is another one than before, nobody waits any more, and nothing runs."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer, self._runner = loop, None, None
            for job in self._waiters():
                self._discard(job)
            if not self._group:
                self._next_number()
        return loop

    def _waiters(self) -> list[_Job]:
        return [job for job in (*self._group, *self._jobs) if job.future is not None]

    def _discard(self, job: _Job) -> None:
        with contextlib.suppress(ValueError):
            self._jobs.remove(job)
        with contextlib.suppress(ValueError):
            self._group.remove(job)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_within(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._run)

    def _run(self) -> None:
        self._cancel_timer()
        if self._runner is None or self._runner.done():
            self._runner = asyncio.get_running_loop().create_task(self._write_all(), name="apikeyrouter-store-writer")

    async def _write_all(self) -> None:
        while not self.idle:
            if not self._group:
                self._group = self._next_group()
            group = self._group
            words = [word for job in group for word in job.words]
            try:
                if words:
                    await self._send(self._writer, self._number, words)
            except StoreUnavailableError as error:
                self._wait_for_better_times(error)
                return
            except StateStoreError as error:
                if len(group) > 1:
                    self._alone = len(group)
                    self._jobs.extendleft(reversed(group))
                else:
                    self._answer(group[0], error)
            else:
                if words and any(job.future is None for job in group):
                    self.failing = False
                for job in group:
                    self._answer(job, None)
            self._next_number()

    def _next_number(self) -> None:
        self._number += 1
        self._group = []

    def _next_group(self) -> list[_Job]:
        group: list[_Job] = []
        words = size = 0
        while self._jobs:
            job = self._jobs[0]
            words, size = words + len(job.words), size + job.size
            if group and (self._alone or words > _GROUP_WORDS_MAX or size > _GROUP_BYTES_MAX):
                break
            group.append(self._jobs.popleft())
        self._alone = max(0, self._alone - 1)
        return group

    def _answer(self, job: _Job, error: StateStoreError | None) -> None:
        self.queued_decisions -= job.decisions
        if job.future is None:
            if error is not None:
                self._fail(error)
        elif not job.future.done():
            if error is None:
                job.future.set_result(None)
            else:
                job.future.set_exception(error)

    def _fail(self, error: StateStoreError) -> None:
        self.failed_posts += 1
        self._unreported += 1
        self._last_failure = error.message
        self.failing = True

    def _wait_for_better_times(self, error: StoreUnavailableError) -> None:
        self.failing = self.failing or any(job.future is None for job in (*self._group, *self._jobs))
        for job in self._waiters():
            self._discard(job)
            if job.future is not None and not job.future.done():
                job.future.set_exception(error)
        if not self._group:
            self._next_number()  # nobody repeats this call, and it may have been heard
        if not self.idle:
            self._start_within(_RETRY_S)
