"""What a call will probably use, and what it may use at the most: the numbers behind every hold and every cost."""

from __future__ import annotations

from dataclasses import dataclass

from apikeyrouter.domain.cost.estimate import (
    OutputLengths,
    input_tokens_bound,
    input_tokens_expected,
    output_tokens_bound,
)
from apikeyrouter.domain.models.call import Call, Operation

__all__ = ["Demand", "demand_of"]


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens of one call. `*_bound`: never exceeded by an honest provider. `*_expected`: a running estimate."""

    input_expected: int
    input_bound: int
    output_expected: int
    output_bound: int

    @property
    def hold_tokens(self) -> int:
        """What a quota hold reserves: the expectation, since holding the bound would starve the pool."""
        return self.input_expected + self.output_expected


def demand_of(call: Call, lengths: OutputLengths) -> Demand:
    """Sizes a call from its peeked facts; no tokenizer, no parsing."""
    size_bytes = len(call.body)
    messages = call.peek.messages
    bound = input_tokens_bound(size_bytes, len(messages) if messages is not None else 1)
    expected = input_tokens_expected(size_bytes)
    if call.operation is Operation.Embeddings:
        return Demand(expected, bound, 0, 0)
    choices = max(1, call.peek.n or 1)
    limit = call.peek.output_limit_tokens
    return Demand(
        input_expected=expected,
        input_bound=bound,
        output_expected=lengths.expected(call.model, limit) * choices,
        output_bound=output_tokens_bound(limit, choices, call.model),
    )
