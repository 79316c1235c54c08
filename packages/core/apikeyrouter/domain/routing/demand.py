"""What a call will probably use, and what it may use at the most: the numbers behind every hold and every cost.

`demand_of` sizes a call from its content (see `input_bound`) and from what similar calls used.

Laws: expected <= q95 for one call and price; bounds are exceeded by no honest provider unless `unbounded` names what
cannot be bounded.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from apikeyrouter.domain.cost.estimate import (
    costs_by_call,
    fees_nano_usd,
    output_is_bounded,
    output_tokens_bound,
    prices_of_tier,
    upper_bound_nano_usd,
)
from apikeyrouter.domain.cost.fit import largest_output_tokens
from apikeyrouter.domain.cost.input_bound import InputBound, tight_input_bound
from apikeyrouter.domain.cost.lengths import OutputLengths, template_of
from apikeyrouter.domain.cost.prices import cost_of_tokens
from apikeyrouter.domain.cost.ratios import InputRatios
from apikeyrouter.domain.cost.usage import tier_named
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import Call, Operation
from apikeyrouter.domain.quota.facts import ChargeRule

__all__ = ["Demand", "demand_of"]

_DEFAULT_RATIOS = InputRatios()

_COMPLETIONS = Operation.Completions  # a member of an enum class costs five times a global
_WITHOUT_OUTPUT = frozenset({
    Operation.Embeddings, Operation.CountTokens, Operation.GeminiCountTokens, Operation.GeminiEmbed,
    Operation.Moderations, Operation.Rerank,
})  # fmt: skip
"""Operations that answer with no generated tokens."""

_Needs = tuple[ChargeRule, tuple[int, ...], "_Needs | None"]
"""What was worked out for a rule, and for others before: the newest counts. Estimates are learned all the time, and one
request must not ask for something else at each look."""


class Demand:
    """Tokens and money of one call. `*_expected`: a running estimate; `output_expected` for all choices together.

    `output_limit`: the caller's cap per choice, None when there is none. `choices`: how many replies it may be billed
    for; 0 for requests that generate nothing. `bound`: of the input. `tenant`, `template`: whose and which kind of
    request it is, for the statistics of lengths. `session`: the caller's name for a conversation, "" without one.
    `free`: nobody bills for it. `tier`: the service tier that it asks for ("" for none). `sizes`: the same call as
    other models would serve it (`of`), by model, None while nobody asked.
    """

    __slots__ = (
        "_body", "_lengths", "_most", "_needs", "_ratios", "_rough", "bound", "choices", "free", "input_expected",
        "model", "operation", "output_expected", "output_limit", "peek", "session", "sizes", "streams", "template",
        "tenant", "tier",
    )  # fmt: skip

    def __init__(
        self, call: Call, lengths: OutputLengths, ratios: InputRatios, tenant: str, template: str | None = None
    ) -> None:
        peek = self.peek = call.peek
        self.model = call.model
        self.operation = call.operation
        self.streams = bool(peek.stream)
        self.tenant = tenant
        self.session = call.session or peek.prompt_cache_key or ""
        self.tier = tier_named(peek.service_tier) if peek.service_tier else ""
        self._lengths = lengths
        self._ratios = ratios
        self._needs: _Needs | None = None
        self._most: dict[int, tuple[ModelPrice, int]] = {}
        self._body = call.body
        self._rough = False  # `bound` is that of another model
        self.sizes: dict[str, Demand] | None = None
        free = self.free = call.free
        sized = None if free else _sized(call)
        self.bound = InputBound(0, "content") if sized is None else sized[2]
        self.template = template or ""
        self.output_limit: int | None = 0
        if sized is None or call.operation in _WITHOUT_OUTPUT:
            self.choices = 0
            self.expect(call.provider_id or "")
            return
        self.choices = 1 if peek.n is None else max(1, peek.n)
        if call.operation is _COMPLETIONS:
            self.choices = max(self.choices, peek.best_of or 1) * _prompts(peek.prompt)
        self.output_limit = peek.output_limit_tokens
        if template is None:
            self.template = sized[3]
        self.expect(call.provider_id or "")

    def expect(self, provider_id: str = "") -> None:
        """Works out what it will likely use, from what is known of the model by now."""
        bound, model = self.bound, self.model
        likely = self._ratios.expected(provider_id, model, bound.content_bytes) + bound.media_tokens
        if likely > bound.tokens:
            likely = bound.tokens
        self.input_expected = likely
        self.output_expected = 0
        if self.choices:
            each = self._lengths.expected(model, self.output_limit, tenant=self.tenant, template=self.template)
            self.output_expected = self.choices * each

    def of(self, model: str) -> Demand:
        """The same call as `model` would serve it: itself for the model that it was sized for. Sized once per model;
        the body is read again only where a hard budget needs a bound of it."""
        if model == self.model:
            return self
        if self.sizes is None:
            self.sizes = {}
        found = self.sizes.get(model)
        if found is None:
            found = self.sizes[model] = self._copy(model=model, sizes=None, _needs=None, _rough=True)
            found.expect()
        return found

    @property
    def hold_tokens(self) -> int:
        """What a quota hold reserves: the expectation, since holding the bound would starve the pool."""
        return self.input_expected + self.output_expected

    def needs(self, rule: ChargeRule) -> tuple[int, ...]:
        """What a quota pool that charges by `rule` is asked for, in the order of `domain.quota.limits.KINDS`."""
        known = self._needs
        while known is not None:
            if known[0] is rule:
                return known[1]
            known = known[2]
        # what is a little too low is refused: the input that nineteen of twenty requests stay below
        bound = self.bound
        tokens_in = self._ratios.upper("", self.model, bound.content_bytes) + bound.media_tokens
        if tokens_in > bound.tokens:
            tokens_in = bound.tokens
        output = likely = self.output_expected
        if rule.output_at_admission == "cap" and self.output_limit is not None:
            output = self.choices * self.output_limit
        needs = (1, tokens_in, output, tokens_in + output, 1, 0, tokens_in + likely, likely)
        self._needs = (rule, needs, self._needs)
        return needs

    def counted_as(self, rule: ChargeRule, places: Iterable[int], amount: int) -> None:
        """A provider that charges by `rule` said how much this very call is to it: the next try need not guess."""
        needs = list(self.needs(rule))
        for place in places:
            needs[place] = amount
        self._needs = (rule, tuple(needs), self._needs)

    # -- input ------------------------------------------------------------------------------------------------------

    @property
    def input_bound(self) -> int:
        """The most input tokens: by content, or by a tokenizer (see `improve`)."""
        return self._own_bound().tokens

    @property
    def unbounded(self) -> tuple[str, ...]:
        """What keeps the input from being bounded ("file", "tool web_search"); empty where the bounds hold. Under a
        hard budget refuse such a call, or let the operator allow it."""
        return self._own_bound().unbounded

    def open_ends(self, price: ModelPrice) -> tuple[str, ...]:
        """What keeps `most_nano_usd` from being a bound at this price; empty where it is one."""
        if price.fee_units_most is None:
            return *self.unbounded, "units that a call takes: the provider's row says no units_max"
        if price.by_tokens and self.unbounded and costs_by_call(price):
            return ()
        return self.unbounded if price.by_tokens else (*self.unbounded, "price by other things than tokens")

    def improve(self, bound: InputBound) -> None:
        """Takes a bound that was found by other means, such as a tokenizer, if it is lower."""
        if bound.tokens < self.input_bound and not bound.unbounded and not self.unbounded:
            self.bound = bound
            self._most = {}

    def _own_bound(self) -> InputBound:
        if self._rough:
            self._rough = False
            self.bound = tight_input_bound(self._body, self.model)
        return self.bound

    # -- money ------------------------------------------------------------------------------------------------------

    def most_nano_usd(self, price: ModelPrice) -> int:
        """The most that the call can cost at this price: what a hard budget holds. Keys share prices, so it is worked
        out once for each."""
        known = self._most.get(id(price))
        if known is None:
            known = self._most[id(price)] = (price, self._most_nano_usd(price))  # which keeps the price, and so its id
        return known[1]

    def _most_nano_usd(self, price: ModelPrice) -> int:
        tokens_in, limit = self.input_bound, self.output_limit
        each = self.output_bound(price) if limit is None else max(0, limit)
        output = self.choices * each + self.extra_output
        if self.tier and price.tiers:
            return max([upper_bound_nano_usd(one, tokens_in, output) for one in prices_of_tier(price, self.tier)])
        return upper_bound_nano_usd(price, tokens_in, output)

    def output_bound(self, price: ModelPrice) -> int:
        """The most output tokens of one choice: the caller's cap, else what the model can write at the most."""
        if not self.choices:
            return 0
        return output_tokens_bound(self.output_limit, 1, self.model, price.context_window, price.output_max)

    @property
    def extra_output(self) -> int:
        """Output that is billed on top of the cap: rejected tokens of a predicted output count as output (OpenAI,
        "Predicted Outputs")."""
        return len(memoryview(self.peek.prediction)) if self.peek.prediction else 0

    def output_is_bounded(self, price: ModelPrice) -> bool:
        """Whether `most_nano_usd` rests on facts about the output; if not, cap it before sending."""
        return not self.choices or output_is_bounded(
            self.output_limit, self.model, price.context_window, price.output_max
        )

    def expected_nano_usd(self, price: ModelPrice) -> int:
        """The likely cost."""
        cost = cost_of_tokens(price, self.input_expected, self.output_expected, self.tier)
        return cost if price.fee_units_most == 0 else cost + fees_nano_usd(price, 1)

    def q95_nano_usd(self, price: ModelPrice, provider_id: str = "") -> int:
        """A cost that about one request in twenty exceeds: what a soft budget holds."""
        bound = self.bound
        tokens_in = self._ratios.upper(provider_id, self.model, bound.content_bytes) + 2 * bound.media_tokens
        tokens_out = self.choices
        if tokens_out:
            each = self._lengths.quantile(
                0.95, self.model, self.output_limit, tenant=self.tenant, template=self.template
            )
            tokens_out *= each
        if tokens_in > bound.tokens:
            tokens_in = bound.tokens
        if tokens_in < self.input_expected:
            tokens_in = self.input_expected
        if tokens_out < self.output_expected:
            tokens_out = self.output_expected
        cost = cost_of_tokens(price, tokens_in, tokens_out, self.tier)
        return cost if price.fee_units_most == 0 else cost + fees_nano_usd(price, price.fee_units_most or 1)

    def largest_output(self, price: ModelPrice, free_nano_usd: int) -> int:
        """The cap per choice that still fits into `free_nano_usd`, 0 when none does."""
        tokens_in, extra = self.input_bound, self.extra_output
        return min([
            largest_output_tokens(one, tokens_in, self.choices, free_nano_usd, extra_output=extra)
            for one in prices_of_tier(price, self.tier)
        ])  # fmt: skip

    # -- copies and learning ----------------------------------------------------------------------------------------

    def with_output_limit(self, limit_tokens: int) -> Demand:
        """The same call with its output capped at `limit_tokens` per choice (see `with_max_tokens` for its bytes)."""
        limit = limit_tokens if self.output_limit is None else min(limit_tokens, self.output_limit)
        sizes = self.sizes and {model: one.with_output_limit(limit) for model, one in self.sizes.items()}
        likely = min(self.output_expected, limit * self.choices)
        return self._copy(output_limit=limit, output_expected=likely, sizes=sizes, _needs=None)

    def _copy(self, **changes: object) -> Demand:
        copy = object.__new__(Demand)
        for name in Demand.__slots__:
            setattr(copy, name, changes[name] if name in changes else getattr(self, name))
        copy._most = {}
        return copy

    def learn(self, provider_id: str, input_tokens: int, output_tokens: int) -> None:
        """Takes in what the provider counted for this call. Calls with pictures, sound or texts
        from elsewhere teach no ratio."""
        bound = self.bound
        if not self.free and not bound.media_tokens and not bound.unbounded:
            self._ratios.record(provider_id, self.model, bound.content_bytes, input_tokens)
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
    """Sizes a call: parses it once and runs no tokenizer, about 6 us for 1 KB. `template`: else from the prompt."""
    return Demand(call, lengths, _DEFAULT_RATIOS if ratios is None else ratios, tenant, template)


def _sized(call: Call) -> tuple[bytes, str, InputBound, str]:
    """`Call.sized`. A call that is sized again for the same model is not read again."""
    sized = call.sized
    if sized is None or sized[0] is not call.body or sized[1] != call.model:
        bound, peek = tight_input_bound(call.body, call.model), call.peek
        sized = call.sized = (call.body, call.model, bound, template_of(peek.messages, peek.tools))
    return sized


def _prompts(raw: msgspec.Raw) -> int:
    """How many prompts the completions endpoint was given: each is answered."""
    text = bytes(memoryview(raw)[:1])
    if text != b"[":
        return 1
    prompts = msgspec.json.decode(raw, type=list[msgspec.Raw])
    if prompts and bytes(memoryview(prompts[0])[:1]) in (b'"', b"["):
        return len(prompts)
    return 1
