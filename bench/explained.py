"""The plots of the explanations in `docs/explanation/`, each drawn from a run of the production code.

Entry: `main(argv)` (`python -m bench explained [--only NAME] [--into FOLDER]`). `quota`: what came on a recorded trace
beside the bound that was foretold. `budgets`: what requests that start at once spend of one budget. `routing`: the
share of a trace that several policies serve, by load. Traces: see `bench.quota_grid`.
Laws: the same seed draws the same bytes; a plot shows what the run gave, whatever that is.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path

from apikeyrouter import ApiKeyRouter, BudgetScope, OpenAIAdapter, TimeWindow
from apikeyrouter.domain.errors import RouterError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.transport import Headers, HttpReply, HttpRequest
from apikeyrouter.domain.models.call import Operation, peek
from apikeyrouter.simulation.world.arena import run_one
from apikeyrouter.simulation.world.run import figures
from apikeyrouter.testing import VirtualClock, run_virtual
from bench import forecast
from bench.plots import COLOURS, Line, Plot, draw
from bench.quota_grid import Point, trace, world_of

_IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"

# -- quota: the bound beside what came ---------------------------------------------------------------------------------

_HORIZON_S = 60
_FROM_S, _SPAN_S, _STEP_S = 1_200, 900, 5


def quota() -> Plot:
    """A quarter of an hour of the code trace: tokens that came in each next minute, and two bounds made before it."""
    found = next(one for one in forecast.traces(forecast.data_folder()) if one.name == "code tokens")
    bounds = forecast.bounds_of(found)
    sums = found.per_second()
    seconds = range(_FROM_S, _FROM_S + _SPAN_S, _STEP_S)

    def line(label: str, values: Sequence[float], colour: str, dash: str = "") -> Line:
        points = [((second - _FROM_S) / 60.0, value / 1e6) for second, value in zip(seconds, values, strict=True)]
        return Line(label, points, colour, dash)

    came = [float(sum(sums[second + 1 : second + 1 + _HORIZON_S])) for second in seconds]
    ours = [bounds["ours", _HORIZON_S][second] for second in seconds]
    poisson = [bounds["Poisson", _HORIZON_S][second] for second in seconds]
    top = math.ceil(max(ours + came) / 5e5) * 0.5 + 0.5  # room for the legend
    return Plot(
        "Tokens of the next 60 seconds: foretold and seen",
        "minutes of the code trace (Azure LLM inference 2023)",
        "million tokens",
        (0, _SPAN_S / 60.0, 3),
        (0, top, 0.5),
        [
            line("95 % bound, ours", ours, COLOURS[0]),
            line("95 % bound, Poisson", poisson, COLOURS[1], "6 4"),
            line("what came", came, COLOURS[4]),
        ],
        legend_low=False,
        x_unit="",
        y_unit="",
    )


# -- budgets: many requests at once ------------------------------------------------------------------------------------

_LIMIT_USD = 0.01
_AT_ONCE = (1, 5, 10, 20, 40, 64)
_TOKENS = 500
_PER_MILLION_USD = "2"
_REQUEST_USD = 0.001
"""What 500 tokens cost at two dollars a million."""


class _Reply:
    """A chat completion that used what was asked for."""

    status = 200

    def __init__(self) -> None:
        self.headers: Headers = [(b"content-type", b"application/json")]

    def header(self, name: bytes) -> bytes | None:
        """See `HttpReply.header`."""
        return next((value for given, value in self.headers if given == name), None)

    async def read(self) -> bytes:
        """See `HttpReply.read`."""
        return (
            b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
            b'{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":0,'
            b'"completion_tokens":%d,"total_tokens":%d}}' % (_TOKENS, _TOKENS)
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpReply.chunks`."""
        yield await self.read()

    def aclose(self) -> None:
        """See `HttpReply.aclose`."""


class _SlowProvider:
    """Answers after half a second, however many ask."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def send(self, request: HttpRequest) -> HttpReply:
        """See `Transport.send`."""
        del request
        await self._clock.sleep(0.5)
        return _Reply()

    async def aclose(self) -> None:
        """See `Transport.aclose`."""


async def _spent_by_us(requests: int) -> float:
    """Dollars that a router with a hard budget lets that many requests spend which start together."""
    clock = VirtualClock()
    async with ApiKeyRouter(
        config={"log_level": "CRITICAL"}, transport=_SlowProvider(clock), clock=clock, environ={}
    ) as router:
        await router.register_provider("openai", OpenAIAdapter())
        await router.register_key("sk-" + "x" * 24, "openai")
        price = {"provider": "openai", "model": "m", "unit": "per_1m", "input": "0", "output": _PER_MILLION_USD}
        await router.prices.set_price(price)
        await router.cost_controller.create_budget(
            scope=BudgetScope.Global, limit=Decimal(str(_LIMIT_USD)), period=TimeWindow.Daily
        )
        body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":%d}' % _TOKENS

        async def ask() -> float:
            call = router.new_call(Operation.Chat, body, peek(body))
            try:
                reply = await router.serve(call, router.objective(None))
            except RouterError:
                return 0.0
            return (reply.record.cost_nano_usd or 0) / 1e9

        return sum(await asyncio.gather(*(ask() for _ in range(requests))))


async def _spent_by_comparing(requests: int) -> float:
    """The same where each request compares what was spent with the limit, is sent, and then adds what it cost."""
    clock = VirtualClock()
    provider = _SlowProvider(clock)
    spent_usd = 0.0

    async def ask() -> None:
        nonlocal spent_usd
        if spent_usd >= _LIMIT_USD:
            return
        await provider.send(HttpRequest("POST", "http://127.0.0.1/", []))
        spent_usd += _REQUEST_USD

    await asyncio.gather(*(ask() for _ in range(requests)))
    return spent_usd


def budgets() -> Plot:
    """Spent of the limit, by how many requests of a tenth of it start together."""
    ours = [(float(count), 100.0 * run_virtual(_spent_by_us(count)) / _LIMIT_USD) for count in _AT_ONCE]
    others = [(float(count), 100.0 * run_virtual(_spent_by_comparing(count)) / _LIMIT_USD) for count in _AT_ONCE]
    return Plot(
        "Spent of a budget for ten requests",
        "requests that start at the same moment",
        "spent, in per cent of the limit",
        (0, 64, 8),
        (0, 700, 100),
        [
            Line("compare, send, add the cost", others, COLOURS[1], "6 4"),
            Line("hold, send, settle (ours)", ours, COLOURS[0]),
        ],
        legend_low=False,
        x_unit="",
        y_unit="",
    )


# -- routing: what is served, by load ----------------------------------------------------------------------------------

_LOADS = (0.5, 0.65, 0.8, 0.95, 1.1)
_REQUESTS = 4_000
_POLICIES = {
    "oracle": ("an oracle that sees everything", "2 3"),
    "ours": ("ours", ""),
    "litellm-usage": ("LiteLLM's usage-based", "8 4"),
    "cooldown": ("cool down after a refusal", "10 3 2 3"),
    "round-robin": ("round robin", "4 4"),
}


def routing() -> Plot:
    """The first requests of the code trace over four unequal accounts, a quarter of them used by others unseen. Limits
    are told to all policies but ours, which learns them."""
    traffic = trace("code", _REQUESTS)
    lines = []
    for number, (name, (label, dash)) in enumerate(_POLICIES.items()):
        points = []
        for load in _LOADS:
            world = world_of(Point("code", load, requests=_REQUESTS), traffic)
            cell = figures(run_one(name, world, traffic, seed=1))
            points.append((100.0 * load, 100.0 * cell.success_ratio))
        lines.append(Line(label, points, COLOURS[4] if name == "oracle" else COLOURS[number - 1], dash))
    return Plot(
        "Requests served within their deadline, by load",
        "tokens asked for, in per cent of what the accounts allow",
        "served",
        (50, 110, 10),
        (0, 100, 20),
        lines,
    )


PLOTS = {"quota": quota, "budgets": budgets, "routing": routing}


def main(argv: Sequence[str] | None = None) -> int:
    """Draws; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench explained", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PLOTS, help="one plot")
    parser.add_argument("--into", type=Path, default=_IMAGES, help="folder of the SVG files")
    arguments = parser.parse_args(argv)
    arguments.into.mkdir(parents=True, exist_ok=True)
    for name, plot in PLOTS.items():
        if arguments.only in (None, name):
            path = arguments.into / f"explained-{name}.svg"
            path.write_text(draw(plot()), encoding="utf-8")
            print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
