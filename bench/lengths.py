"""How well learned quantiles of output length hold: `python -m bench.lengths`.

Plays the Azure LLM inference trace 2023 (28,183 requests; see the data folder's README) in order of time: each reply's
quantile is asked before its length is told. Prints coverage (a good q95 is exceeded by 5 in 100), and what a
reservation of that size holds per token used.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from apikeyrouter.domain.cost.lengths import SAMPLES_MIN, OutputLengths
from bench.recordings import data_folder

__all__ = ["coverage", "trace"]


def trace(folder: Path, name: str) -> list[int]:
    """The output lengths of one trace ("conv" or "code"), in order of arrival."""
    with (folder / "azure-llm-2023" / f"{name}.csv").open(encoding="utf-8") as lines:
        return [int(row["GeneratedTokens"]) for row in csv.DictReader(lines)]


def coverage(lengths_tokens: list[int], p: float) -> tuple[float, float]:
    """(share of replies within their quantile, reserved tokens per used token), after the first replies."""
    lengths = OutputLengths()
    within = asked = reserved = used = 0
    for number, tokens in enumerate(lengths_tokens):
        if number >= max(SAMPLES_MIN, p / (1 - p)):
            bound = lengths.quantile(p, "m", tenant="t", template="x")
            asked += 1
            within += tokens <= bound
            reserved += bound
            used += tokens
        lengths.record("m", tokens, tenant="t", template="x")
    return within / asked, reserved / used


def main() -> int:
    folder = data_folder()
    if not (folder / "azure-llm-2023").is_dir():
        print("data not found, skipped")
        return 0
    print(f"{'trace':8}{'p':>6}{'covered':>10}{'reserved/used':>15}")
    for name in ("conv", "code"):
        lengths_tokens = trace(folder, name)
        for p in (0.5, 0.9, 0.95, 0.99):
            covered, times = coverage(lengths_tokens, p)
            print(f"{name:8}{p:6}{covered:10.2%}{times:15.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
