"""What translation between formats of conversations costs, and whether any bytes break it.

Entry: `exchange_us`, `stream_us`; `main(argv)` prints a table for each pair of client and provider formats
(`python -m bench translation`); `--fuzz N` runs N mutated bodies and cut streams instead (`translation_fuzz.py`),
`--recordings` reads and rewrites the recorded replies of real providers (needs the shared data).
Laws: it calls what adapters call; an exchange is one request there and its reply back, 2 KB in the client's format; a
stream is fed one event at a time, as a provider that flushes each event sends it.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from apikeyrouter import wire as wire_package
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import CONVERSATIONS, Wire
from apikeyrouter.wire import facts
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import Answer, Ask, Event, PartDelta, PartEnded, PartStarted, Role, Text, ToolCall, Turn
from apikeyrouter.wire.losses import Losses
from bench import processes, report
from tests.support.wire_sides import side_of

EXCHANGE_GOAL_US = 150
EVENT_GOAL_US = 25
MODELS = {
    Wire.Chat: "gpt-4o",
    Wire.Responses: "gpt-4o",
    Wire.Messages: "claude-3-5-sonnet-latest",
    Wire.Gemini: "gemini-2.5-pro",
    Wire.Converse: "anthropic.claude-3-5-sonnet-20241022-v2:0",
    Wire.Cohere: "command-a-03-2025",
}
_PACKAGES = {
    Wire.Chat: "chat",
    Wire.Responses: "responses",
    Wire.Messages: "messages",
    Wire.Gemini: "gemini",
    Wire.Converse: "converse",
    Wire.Cohere: "cohere",
}
_HOME = Path(str(wire_package.__file__)).parent
PROVIDERS = [wire for wire in Wire if (_HOME / _PACKAGES[wire] / "codec.py").exists()]
CLIENTS = [wire for wire in PROVIDERS if wire in CONVERSATIONS.values()]


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds; lower is better. `exchange_bytes`: request and reply in the client's format."""

    client: str
    provider: str
    exchange_bytes: int
    exchange_us: float
    event_us: float


def ask(model: str) -> Ask:
    """A conversation with instructions, two tools, a call and its result."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    turns = [
        Turn(
            Role.System, [Text("You are a careful assistant that answers briefly and calls tools when it must. " * 3)]
        ),
        Turn(Role.User, [Text("What will the weather be like in Lisbon for the next three days? " * 2)]),
        Turn(Role.Assistant, [ToolCall("call_1a2b3c4d5e", "forecast", '{"city":"Lisbon","days":3}')]),
        Turn(Role.Tool, [facts.ToolResult("call_1a2b3c4d5e", [Text("sunny, sunny, rain")], "forecast")]),
        Turn(Role.User, [Text("And in Porto, please?")]),
    ]
    tools = [facts.Tool(name, f"Tells the {name} of a city.", schema) for name in ("forecast", "history")]
    return Ask(model, turns, tools=tools, tool_choice=facts.ToolChoice("auto"), max_tokens=500, temperature=0.5)


def answer(model: str) -> Answer:
    """Text and a call."""
    parts: list[facts.Part] = [Text("Let me look at the forecast for Porto as well. " * 5)]
    parts.append(ToolCall("call_9z", "forecast", '{"city":"Porto"}'))
    return Answer("reply_1", model, [facts.Choice(parts, facts.Stop.Tools)], Usage(310, 90, 100), 1_790_000_000)


def events(model: str, texts: int = 150, pieces: int = 50) -> list[Event]:
    """A streamed reply of that many pieces of text and of arguments."""
    found: list[Event] = [facts.Started("reply_1", model, Usage(310, 0), 1_790_000_000), PartStarted(0, Text(""))]
    found += [PartDelta(0, f" word{number}") for number in range(texts)]
    found += [PartEnded(0), PartStarted(1, ToolCall("call_9z", "forecast", "")), PartDelta(1, '{"city":"')]
    found += [PartDelta(1, "Porto") for _ in range(pieces)]
    found += [PartDelta(1, '"}'), PartEnded(1), facts.Finished(facts.Stop.Tools), facts.UsageTold(Usage(310, 90, 100))]
    return found


def exchange_us(client: Wire, provider: Wire, rounds: int) -> tuple[int, float]:
    """(bytes in the client's format, microseconds for the request there and the reply back)."""
    ours, theirs = codec_of(client), codec_of(provider)
    body = ours.write_request(ask(MODELS[client]), Losses("bench", may_drop=True))
    came = side_of(provider).write_answer(answer(MODELS[provider]), "asked")

    def once() -> None:
        losses = Losses("bench", may_drop=False)
        read = ours.read_request(body, losses, model=MODELS[provider], stream=False)
        theirs.write_request(read, losses)
        losses.check()
        ours.write_answer(theirs.read_answer(came), "asked")

    size = len(body) + len(ours.write_answer(theirs.read_answer(came), "asked"))
    return size, _best_us(once, rounds)


def stream_us(client: Wire, provider: Wire, rounds: int) -> float:
    """Microseconds for each event that the provider sends."""
    ours, theirs = codec_of(client), codec_of(provider)
    first = side_of(provider).encoder("asked", want_usage=True)
    sent = [piece for piece in map(first.encode, events(MODELS[provider])) if piece] + [first.finish()]

    def once() -> None:
        decoder, encoder = theirs.decoder(), ours.encoder("asked", want_usage=True)
        for piece in sent:
            for event in decoder.feed(piece):
                encoder.encode(event)
        decoder.finish()
        encoder.finish()

    return _best_us(once, rounds) / len(sent)


def _best_us(once: Callable[[], None], rounds: int) -> float:
    """The median of some batches: neighbours on the machine only ever add."""
    took: list[float] = []
    gc.collect()
    gc.freeze()
    for _ in range(9):
        began_ns = time.perf_counter_ns()
        for _ in range(rounds):
            once()
        took.append((time.perf_counter_ns() - began_ns) / rounds / 1e3)
    gc.unfreeze()
    return sorted(took[1:])[3]


def measure(rounds: int) -> list[Cost]:
    """All pairs of different formats."""
    rows = []
    for client, provider in itertools.product(CLIENTS, PROVIDERS):
        if client is not provider:
            size, whole = exchange_us(client, provider, rounds)
            each = stream_us(client, provider, max(1, rounds // 20))
            rows.append(Cost(client.value, provider.value, size, whole, each))
    return rows


def main(argv: list[str]) -> int:
    """Command line: `--quick` measures shorter, `--fuzz N` and `--recordings` check instead."""
    parser = argparse.ArgumentParser(prog="python -m bench translation", description="What translation costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--fuzz", type=int, default=0, metavar="N", help="N mutated bodies and cut streams")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzing")
    parser.add_argument("--recordings", action="store_true", help="read and write what real providers sent")
    arguments = parser.parse_args(argv)
    if arguments.fuzz or arguments.recordings:
        from bench import translation_checks, translation_recordings

        if arguments.fuzz:
            return translation_checks.fuzz(arguments.fuzz, arguments.seed)
        return translation_recordings.recordings()
    processes.raise_priority()
    rows = measure(50 if arguments.quick else 500)
    cells = [
        [f"{row.client} -> {row.provider}", f"{row.exchange_bytes:,}", f"{row.exchange_us:.1f}", f"{row.event_us:.2f}"]
        for row in rows
    ]
    print(report.columns(["client -> provider", "bytes", "us an exchange", "us an event"], cells))
    goals = [
        report.Goal(
            "dearest exchange", max(row.exchange_us for row in rows), EXCHANGE_GOAL_US, at_most=True, unit="us"
        ),
        report.Goal("dearest stream event", max(row.event_us for row in rows), EVENT_GOAL_US, at_most=True, unit="us"),
    ]
    print()
    print(report.figures_table(goals))
    print(f"\nfigures: {report.save('translation', {'rows': [asdict(row) for row in rows]})}")
    return 0 if all(goal.met is not False for goal in goals) else 1
