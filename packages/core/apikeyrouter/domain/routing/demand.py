"""What a call will probably use, and what it may use at the most: the numbers behind every hold and every cost."""

from __future__ import annotations

from dataclasses import dataclass

from apikeyrouter.domain.cost.estimate import (
    OutputLengths,
    input_tokens_bound,
    input_tokens_expected,
    output_tokens_bound,
    upper_bound_nano_usd,
)
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import Call, Operation

__all__ = ["Demand", "demand_of"]


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens of one call. `*_expected`: a running estimate. `input_bound`: never exceeded by an honest provider.

    `output_limit`: the caller's cap per choice, None when there is none. `choices`: how many replies it asked for; 0
    for requests that generate nothing.
    """

    model: str
    input_expected: int
    input_bound: int
    output_expected: int
    output_limit: int | None
    choices: int
    operation: Operation = Operation.Chat
    streams: bool = False

    @property
    def hold_tokens(self) -> int:
        """What a quota hold reserves: the expectation, since holding the bound would starve the pool."""
        return self.input_expected + self.output_expected

    def most_nano_usd(self, price: ModelPrice) -> int:
        """The most that the call can cost at this price: what a hard budget holds."""
        if not self.choices:
            return upper_bound_nano_usd(price, self.input_bound, 0)
        output = output_tokens_bound(self.output_limit, self.choices, self.model, price.context_window)
        return upper_bound_nano_usd(price, self.input_bound, output)


def demand_of(call: Call, lengths: OutputLengths) -> Demand:
    """Sizes a call from its peeked facts; no tokenizer, no parsing."""
    body = call.body
    messages = call.peek.messages
    bound = input_tokens_bound(
        len(body),
        len(messages) if messages is not None else 1,
        tools=b'"tools"' in body,
        images=body.count(b'"image_url"'),
    )
    expected = input_tokens_expected(len(body))
    if call.operation is Operation.Embeddings:
        return Demand(call.model, expected, bound, 0, 0, 0, call.operation)
    choices = max(1, call.peek.n or 1)
    limit = call.peek.output_limit_tokens
    return Demand(
        model=call.model,
        input_expected=expected,
        input_bound=bound,
        output_expected=lengths.expected(call.model, limit) * choices,
        output_limit=limit,
        choices=choices,
        operation=call.operation,
        streams=call.streams,
    )
