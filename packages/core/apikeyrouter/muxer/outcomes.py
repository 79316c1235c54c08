"""From marks and prompts to a log that the trainer reads: outcomes of the weak and the strong model by prompt.

Main entry: `joined`. The router keeps no prompts, so they come from whoever sent them, by the request's id. A mark is
about one model only; a prompt that both kinds of model have answered has both outcomes, any other one counts for
thresholds only. Laws: nothing is guessed: no outcome is made up for a model that was not asked; the order is that of
the prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["joined"]

_HALF = 0.5


def joined(marks: Iterable[Mapping[str, Any]], prompts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of a log (see `trained.log`). `marks`: with `request_id`, `group`, `quality` of the model that answered
    (0..1) and `score`. `prompts`: by request id; those without a mark count for thresholds."""
    found: dict[str, tuple[str, list[float], list[float]]] = {text: ("", [], []) for text in prompts.values()}
    for mark in marks:
        text = prompts.get(mark["request_id"])
        if text is None:
            continue
        _, weak, strong = found[text]
        (strong if mark["quality"] > _HALF else weak).append(float(mark["score"]))
        found[text] = (mark["group"], weak, strong)
    rows: list[dict[str, Any]] = []
    for text, (group, weak, strong) in found.items():
        row: dict[str, Any] = {"prompt": text}
        if weak and strong:
            row |= {"weak": sum(weak) / len(weak), "strong": sum(strong) / len(strong)}
        if group:
            row["group"] = group
        rows.append(row)
    return rows
