"""Whether any bytes break a translation.

Entries: `fuzzed`, which tests run too; `fuzz` prints what it found and returns an exit code (`python -m bench
translation --fuzz 1000000`).
Laws of fuzzing: requests may raise MalformedError or be refused by name, replies ValueError, nothing else; decoders and
encoders nothing at all; a stream that was only cut reads as it does whole; no case takes more CPU than `SLOW_S`.
"""

from __future__ import annotations

import contextlib
import copy
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import MalformedError, StreamDecoder, codec_of
from apikeyrouter.wire.converse.frames import Frames
from apikeyrouter.wire.facts import Event, Failed, Finished
from apikeyrouter.wire.losses import Losses, UntranslatableError
from bench.translation import CLIENTS, MODELS, PROVIDERS, answer, ask, events
from bench.translation_recordings import exchanges, wire_of
from tests.support.converse_side import frame
from tests.support.wire_sides import side_of

SLOW_S = 2
_TOKENS = (
    b"",
    b"null",
    b'"',
    b"{}",
    b"[]",
    b"[[",
    b"1e999",
    b"\xff",
    b"\\ud800",
    b"true",
    b",",
    b":",
    b"-1",
    b"\n\n",
    b"\r",
)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 1.5, "", "x", "\x00", "é\U0001f642", [], {}, [None], {"type": None}, [[]], ["x"],
    {"type": "text"}, {"text": 5}, [{"type": "text", "text": "x"}], "data:,", "data:image/png;base64,AA", "{",
    '{"a":1}',
)  # fmt: skip


@dataclass(slots=True)
class Found:
    """What went wrong, by kind and place in the code, each with one sample."""

    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, bytes] = field(default_factory=dict)

    def add(self, what: str, sample: bytes) -> None:
        """One more."""
        self.counts[what] += 1
        if what not in self.samples or len(sample) < len(self.samples[what]):
            self.samples[what] = sample


class _HangError(BaseException):
    """A case took too long."""


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise _HangError


def fuzz(count: int, seed: int) -> int:
    """Prints `fuzzed`; 1 when anything broke."""
    began_s = time.perf_counter()
    found = fuzzed(count, seed)
    print(f"{count:,} cases in {time.perf_counter() - began_s:.0f} s, over {', '.join(PROVIDERS)}")
    print(f"{sum(found.counts.values()):,} broke something, in {len(found.counts)} ways")
    for what, times in found.counts.most_common(40):
        print(f"{times:7,}  {what}\n         {found.samples[what][:400]!r}")
    return 1 if found.counts else 0


def fuzzed(count: int, seed: int, wires: Sequence[Wire] = tuple(PROVIDERS)) -> Found:
    """Runs `count` cases, spread over the formats."""
    chance = random.Random(seed)
    corpus = {wire: _Corpus(wire) for wire in wires}
    cases: tuple[Callable[[_Corpus, random.Random], bytes], ...] = (_request, _reply, _cut_stream, _bad_stream)
    found = Found()
    signal.signal(signal.SIGVTALRM, _alarm)
    for number in range(count):
        case = cases[number % len(cases)]
        corpus_of = corpus[wires[number // len(cases) % len(wires)]]
        corpus_of.last = b""
        signal.setitimer(signal.ITIMER_VIRTUAL, SLOW_S)
        try:
            case(corpus_of, chance)
        except _HangError:
            found.add(f"{corpus_of.wire.value} {case.__name__}: took longer than {SLOW_S} s", corpus_of.last)
        except Exception as fault:  # noqa: BLE001 - whatever is raised here is what is looked for
            place = traceback.extract_tb(fault.__traceback__)[-1]
            at = f"{place.filename.rpartition('apikeyrouter/')[2]}:{place.lineno}"
            found.add(
                f"{corpus_of.wire.value} {case.__name__}: {type(fault).__name__} at {at}: {str(fault)[:80]}",
                corpus_of.last,
            )
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    return found


class _Corpus:
    """Good bytes of one format to start from: made by its codec, and recorded ones if there are any."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.codec = codec_of(wire)
        self.last = b""
        model = MODELS[wire]
        self.client = self.codec if wire in CLIENTS else codec_of(Wire.Chat)
        self.requests = [self.client.write_request(ask(model), Losses("fuzz", may_drop=True))]
        side = side_of(wire)
        self.replies = [side.write_answer(answer(model), "asked")]
        encoder = side.encoder("asked", want_usage=True)
        self.streams = [b"".join(map(encoder.encode, events(model, 5, 5))) + encoder.finish()]
        for exchange in exchanges():
            if wire_of(exchange) is wire:
                self._add(exchange)

    def _add(self, exchange: dict[str, Any]) -> None:
        request, reply, stream = exchange["request"], exchange.get("response_json"), exchange.get("response_text")
        if isinstance(request, dict) and len(self.requests) < 60 and self.client is self.codec:
            body = msgspec.json.encode(request)
            if len(body) < 20_000:
                self.requests.append(body)
        if isinstance(reply, dict) and len(self.replies) < 60:
            self.replies.append(msgspec.json.encode(reply))
        elif isinstance(stream, str) and 0 < len(stream) < 8_000 and len(self.streams) < 40:
            self.streams.append(stream.encode())


def _request(corpus: _Corpus, chance: random.Random) -> bytes:
    corpus.last = body = _mutated(chance.choice(corpus.requests), chance)
    losses = Losses("fuzz", may_drop=chance.random() < 0.5)
    try:
        read = corpus.client.read_request(body, losses, model="m", stream=True)
        other = chance.choice(PROVIDERS) if corpus.client is corpus.codec else corpus.wire
        read.model = MODELS[other]
        codec_of(other).write_request(read, losses)
        losses.check()
    except (MalformedError, UntranslatableError):
        pass
    return body


def _reply(corpus: _Corpus, chance: random.Random) -> bytes:
    corpus.last = body = _mutated(chance.choice(corpus.replies), chance)
    try:
        read = corpus.codec.read_answer(body)
    except ValueError:
        return body
    codec_of(chance.choice(CLIENTS)).write_answer(read, "asked")
    with contextlib.suppress(ValueError):
        corpus.codec.usage_of(body)
    return body


def _cut_stream(corpus: _Corpus, chance: random.Random) -> bytes:
    corpus.last = data = chance.choice(corpus.streams)
    whole, cut = corpus.codec.decoder(), corpus.codec.decoder()
    at_once = [*whole.feed(data), *whole.finish()]
    if _fed(cut, data, chance) != at_once or cut.done != whole.done:
        raise AssertionError("what was read depends on the cuts")
    return data


def _bad_stream(corpus: _Corpus, chance: random.Random) -> bytes:
    data = chance.choice(corpus.streams)
    if chance.random() < 0.5 and corpus.wire is Wire.Converse:
        data = _mutated_frames(data, chance)
    elif chance.random() < 0.5:
        lines = data.split(b"\n")
        places = [n for n, line in enumerate(lines) if line.startswith(b"data: {")]
        for place in chance.sample(places, min(len(places), 2)):
            lines[place] = b"data: " + _mutated(lines[place][6:], chance)
        data = b"\n".join(lines)
    else:
        data = _mutated_bytes(data, chance)
    corpus.last = data
    client = codec_of(chance.choice(CLIENTS))
    encoder, again = client.encoder("asked", want_usage=True), client.decoder()
    told = _fed(corpus.codec.decoder(), data, chance)
    written = b"".join(map(encoder.encode, told)) + encoder.finish()
    read = [*again.feed(written), *again.finish()]
    ended = any(isinstance(event, Finished) for event in told) and not any(isinstance(event, Failed) for event in told)
    if ended and (not again.done or any(isinstance(event, Failed) for event in read)):
        raise AssertionError(f"what was written for {client.wire.value} cannot be read")
    return data


def _mutated_frames(data: bytes, chance: random.Random) -> bytes:
    """A binary stream with some payloads changed, and right lengths and checksums."""
    found = []
    for one in Frames().feed(data):
        names = {name.lstrip(":").replace("-", "_"): text for name, text in one.headers.items()}
        found.append(frame(_mutated(one.payload, chance) if chance.random() < 0.2 else one.payload, **names))
    return b"".join(found)


def _fed(decoder: StreamDecoder, data: bytes, chance: random.Random) -> list[Event]:
    found: list[Event] = []
    at = 0
    most = chance.choice((1, 7, 60, 500, 5_000)) if len(data) < 3_000 else chance.choice((60, 500, 5_000))
    while at < len(data):
        size = chance.randint(1, most)
        found += decoder.feed(data[at : at + size])
        at += size
    found += decoder.finish()
    return found


def _mutated(body: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        return _mutated_bytes(body, chance)
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return _mutated_bytes(body, chance)
    for _ in range(chance.randint(1, 3)):
        decoded = _mutated_node(decoded, chance)
    try:
        return msgspec.json.encode(decoded)
    except RecursionError:  # the same, made deeper than this encoder goes
        return body[:-1] + b',"deep":' + b"[" * 5_000 + b"]" * 5_000 + b"}"


def _mutated_bytes(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        changed[at : at + chance.choice((0, 1, 1, 5, 40))] = chance.choice(_TOKENS)
    return bytes(changed)


def _mutated_node(node: Any, chance: random.Random) -> Any:
    """The tree with one node, anywhere, left out, doubled or replaced."""
    if not isinstance(node, dict | list) or not node or chance.random() < 0.1:
        return _value(chance)
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = chance.choice(keys)
    dice = chance.random()
    if dice < 0.15:
        del node[key]
    elif dice < 0.25 and isinstance(node, list):
        node.insert(key, node[key])
    elif dice < 0.35:
        node[key] = _value(chance)
    else:
        node[key] = _mutated_node(node[key], chance)
    return node


def _value(chance: random.Random) -> Any:
    if chance.random() < 0.01:
        deep: Any = "x"
        for number in range(chance.choice((50, 400, 900, 990))):
            deep = [deep] if number % 2 else {"a": deep}
        return deep
    return copy.deepcopy(chance.choice(_VALUES))
