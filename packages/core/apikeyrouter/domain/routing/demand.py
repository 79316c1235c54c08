"""What a call will probably use, and what it may use at the most: the numbers behind every hold and every cost.

`demand_of` sizes a call from its peeked facts; everything that costs more than a microsecond is worked out when it is
first asked for.

Laws: expected <= q95 for one call and price; bounds are exceeded by no honest provider unless `unbounded` names what
cannot be bounded.
"""

from __future__ import annotations

import msgspec

from apikeyrouter.domain.cost.estimate import output_is_bounded, output_tokens_bound, upper_bound_nano_usd
from apikeyrouter.domain.cost.fit import largest_output_tokens
from apikeyrouter.domain.cost.input_bound import InputBound, tight_input_bound
from apikeyrouter.domain.cost.lengths import OutputLengths, template_of
from apikeyrouter.domain.cost.prices import cost_nano_usd
from apikeyrouter.domain.cost.ratios import InputRatios
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import Call, Operation

__all__ = ["Demand", "demand_of"]

IMAGE_TOKENS_EXPECTED = 765
"""A picture of 1,024 x 1,024 at high detail on gpt-4o (OpenAI, "Images and vision")."""

AUDIO_BYTES_PER_TOKEN = 1_000
"""Of base64: mp3 at 128 kbit/s is 21,000 a second, which is 10 (OpenAI) to 32 tokens (Gemini)."""

_DEFAULT_RATIOS = InputRatios()


class Demand:
    """Tokens and money of one call. `*_expected`: a running estimate; `output_expected` for all choices together.

    `output_limit`: the caller's cap per choice, None when there is none. `choices`: how many replies it may be billed
    for; 0 for requests that generate nothing. `text_bytes`: the body without media in base64. `tenant`, `template`:
    whose and which kind of request it is, for the statistics of lengths.
    """

    __slots__ = (
        "_bound", "_lengths", "_ratios", "_template", "body", "choices", "input_expected", "media_expected",
        "model", "operation", "output_expected", "output_limit", "peek", "streams", "tenant", "text_bytes",
    )  # fmt: skip

    def __init__(
        self, call: Call, lengths: OutputLengths, ratios: InputRatios, tenant: str, template: str | None
    ) -> None:
        body = self.body = call.body
        peek = self.peek = call.peek
        self.model = call.model
        self.operation = call.operation
        self.streams = bool(peek.stream)
        self.tenant = tenant
        self._lengths = lengths
        self._ratios = ratios
        self._bound: InputBound | None = None
        self.text_bytes = len(body)
        self.media_expected = 0
        if b"base64," in body or b'_url"' in body or b'"input_audio"' in body:
            self.text_bytes, self.media_expected = _media(body)
        self.input_expected = ratios.expected(call.provider_id or "", call.model, self.text_bytes) + self.media_expected
        self._template = template
        if call.operation is Operation.Embeddings:
            self.choices = self.output_expected = 0
            self.output_limit: int | None = 0
            return
        self.choices = max(1, peek.n or 1)
        if call.operation is Operation.Completions:
            self.choices = max(self.choices, peek.best_of or 1) * _prompts(peek.prompt)
        limit = self.output_limit = peek.output_limit_tokens
        self.output_expected = self.choices * lengths.expected(call.model, limit, tenant=tenant, template=self.template)

    @property
    def template(self) -> str:
        """The kind of prompt (see `template_of`), unless one was given."""
        if self._template is None:
            self._template = template_of(self.peek.messages, self.peek.tools)
        return self._template

    @property
    def hold_tokens(self) -> int:
        """What a quota hold reserves: the expectation, since holding the bound would starve the pool."""
        return self.input_expected + self.output_expected

    # -- input ------------------------------------------------------------------------------------------------------

    @property
    def bound(self) -> InputBound:
        """The most input tokens, by content (parses the body when first asked) or by a tokenizer (see `improve`)."""
        bound = self._bound
        if bound is None:
            bound = self._bound = tight_input_bound(self.body, self.model)
        return bound

    @property
    def input_bound(self) -> int:
        """The most input tokens."""
        return self.bound.tokens

    @property
    def unbounded(self) -> tuple[str, ...]:
        """What keeps the input from being bounded ("file", "tool web_search"); empty where the bounds hold. Under a
        hard budget refuse such a call, or let the operator allow it."""
        return self.bound.unbounded

    def improve(self, bound: InputBound) -> None:
        """Takes a bound that was found by other means, such as a tokenizer, if it is lower."""
        if bound.tokens < self.bound.tokens and not bound.unbounded and not self.bound.unbounded:
            self._bound = bound

    # -- money ------------------------------------------------------------------------------------------------------

    def most_nano_usd(self, price: ModelPrice) -> int:
        """The most that the call can cost at this price: what a hard budget holds."""
        output = self.choices * self.output_bound(price) + self.extra_output
        return upper_bound_nano_usd(price, self.bound.tokens, output)

    def output_bound(self, price: ModelPrice) -> int:
        """The most output tokens of one choice: the caller's cap, else what the model can write at the most."""
        return output_tokens_bound(self.output_limit, 1, self.model, price.context_window) if self.choices else 0

    @property
    def extra_output(self) -> int:
        """Output that is billed on top of the cap: rejected tokens of a predicted output count as output (OpenAI,
        "Predicted Outputs")."""
        return len(memoryview(self.peek.prediction)) if self.peek.prediction else 0

    def output_is_bounded(self, price: ModelPrice) -> bool:
        """Whether `most_nano_usd` rests on facts about the output; if not, cap it before sending."""
        return not self.choices or output_is_bounded(self.output_limit, self.model, price.context_window)

    def expected_nano_usd(self, price: ModelPrice) -> int:
        """The likely cost."""
        return cost_nano_usd(price, Usage(self.input_expected, self.output_expected))

    def q95_nano_usd(self, price: ModelPrice, provider_id: str = "") -> int:
        """A cost that about one request in twenty exceeds: what a soft budget holds."""
        tokens_in = self._ratios.upper(provider_id, self.model, self.text_bytes) + 2 * self.media_expected
        tokens_out = self.choices
        if tokens_out:
            each = self._lengths.quantile(
                0.95, self.model, self.output_limit, tenant=self.tenant, template=self.template
            )
            tokens_out *= each
        usage = Usage(max(tokens_in, self.input_expected), max(tokens_out, self.output_expected))
        return cost_nano_usd(price, usage)

    def largest_output(self, price: ModelPrice, free_nano_usd: int) -> int:
        """The cap per choice that still fits into `free_nano_usd`, 0 when none does."""
        return largest_output_tokens(
            price, self.bound.tokens, self.choices, free_nano_usd, extra_output=self.extra_output
        )

    # -- copies and learning ----------------------------------------------------------------------------------------

    def with_output_limit(self, limit_tokens: int) -> Demand:
        """The same call with its output capped at `limit_tokens` per choice (see `with_max_tokens` for its bytes)."""
        clamped = object.__new__(Demand)
        for name in Demand.__slots__:
            setattr(clamped, name, getattr(self, name))
        clamped.output_limit = limit_tokens if self.output_limit is None else min(limit_tokens, self.output_limit)
        clamped.output_expected = min(self.output_expected, clamped.output_limit * self.choices)
        return clamped

    def learn(self, provider_id: str, input_tokens: int, output_tokens: int) -> None:
        """Takes in what the provider counted for this call. Calls with pictures or sound teach no ratio."""
        if not self.media_expected:
            self._ratios.record(provider_id, self.model, self.text_bytes, input_tokens)
        if self.choices:
            each = output_tokens // self.choices
            self._lengths.record(self.model, each, self.output_limit, tenant=self.tenant, template=self.template)


def demand_of(
    call: Call,
    lengths: OutputLengths,
    ratios: InputRatios | None = None,
    *,
    tenant: str = "",
    template: str | None = None,
) -> Demand:
    """Sizes a call from its peeked facts; no tokenizer, no parsing. `template`: default is read from the prompt."""
    return Demand(call, lengths, _DEFAULT_RATIOS if ratios is None else ratios, tenant, template)


def _prompts(raw: msgspec.Raw) -> int:
    """How many prompts the completions endpoint was given: each is answered."""
    text = bytes(memoryview(raw)[:1])
    if text != b"[":
        return 1
    prompts = msgspec.json.decode(raw, type=list[msgspec.Raw])
    if prompts and bytes(memoryview(prompts[0])[:1]) in (b'"', b"["):
        return len(prompts)
    return 1


def _media(body: bytes) -> tuple[int, int]:
    """(bytes without base64, likely tokens of the media) of a body that seems to hold some."""
    removed = 0
    at = body.find(b";base64,")
    while at >= 0:
        end = body.find(b'"', at)
        removed += max(0, end - at)
        at = body.find(b";base64,", end) if end > 0 else -1
    tokens = body.count(b'"image_url":') * IMAGE_TOKENS_EXPECTED
    if b'"input_audio"' in body:
        start = body.find(b'"data"')
        while start >= 0:
            opened = body.find(b'"', start + 6)
            end = body.find(b'"', opened + 1)
            if opened < 0 or end < 0:
                break
            removed += end - opened
            tokens += (end - opened) // AUDIO_BYTES_PER_TOKEN
            start = body.find(b'"data"', end)
    return len(body) - removed, tokens
