"""Estimates against charges: how good the numbers were that requests were held and ranked by.

`Reconciler.record` takes what was expected, q95, bound and charge of one settled request; `reconciliations` tells the
figures per provider and model. A charge above its bound means that the price list or the provider is wrong.

Laws: O(1) per request; at most 1,024 pairs of provider and model, the first to come are the first forgotten.
"""

from __future__ import annotations

from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.cost.ratios import InputRatios
from apikeyrouter.domain.models.cost_estimate import CostReconciliation

__all__ = ["Reconciler"]

_PAIRS_MAX = 1024


class _Tally:
    __slots__ = ("above_bound", "above_q95", "absolute", "actual", "error", "estimated", "priced", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.priced = 0  # requests that cost something, over which errors are averaged
        self.estimated = 0
        self.actual = 0
        self.error = 0.0
        self.absolute = 0.0
        self.above_q95 = 0
        self.above_bound = 0


class Reconciler:
    """Running figures since the process started."""

    __slots__ = ("_tallies",)

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def record(self, provider_id: str, model: str, estimated: int, q95: int, bound: int, actual: int) -> None:
        """One settled request; all in nano-USD. Leave out charges that are presumed rather than known."""
        key = (provider_id, model)
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= _PAIRS_MAX:
                del self._tallies[next(iter(self._tallies))]
            tally = self._tallies[key] = _Tally()
        tally.requests += 1
        tally.estimated += estimated
        tally.actual += actual
        if actual > 0:
            error = (actual - estimated) / actual
            tally.priced += 1
            tally.error += error
            tally.absolute += abs(error)
        if actual > q95:
            tally.above_q95 += 1
            if actual > bound:
                tally.above_bound += 1

    def reconciliations(self, ratios: InputRatios | None = None) -> list[CostReconciliation]:
        """The figures of every provider and model with at least one request, in order of first use."""
        return [
            CostReconciliation(
                provider_id=provider_id,
                model=model,
                requests=tally.requests,
                estimated=to_decimal_usd(tally.estimated),
                actual=to_decimal_usd(tally.actual),
                mean_error=tally.error / tally.priced if tally.priced else 0.0,
                mean_absolute_error=tally.absolute / tally.priced if tally.priced else 0.0,
                input_tokens_per_byte=ratios.tokens_per_byte(provider_id, model) if ratios is not None else None,
                above_q95=tally.above_q95 / tally.requests,
                above_bound=tally.above_bound,
            )
            for (provider_id, model), tally in self._tallies.items()
        ]
