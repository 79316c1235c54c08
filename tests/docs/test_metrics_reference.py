"""The reference of metrics is what the proxy declares. `python -m tests.docs.test_metrics_reference` writes it anew."""

from __future__ import annotations

from pathlib import Path

from apikeyrouter_proxy.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
INTRODUCTION = """# Metrics

`GET /metrics` is in Prometheus' text format; [deploy](../how-to/deploy.md) has a configuration, alerts and dashboards.
Whoever is on this machine may read it, others need an admin key (or `APIKEYROUTER_METRICS_PUBLIC`). With several
workers one scrape tells of all: counters and histograms are sums, those of ended workers included.

Labels are bounded: a model that would be one too many is `other`, labels of keys are the names that you gave. Nothing
secret is in them. The same requests as traces: [traces](../how-to/traces.md).

| metric | type | labels | tells |
|---|---|---|---|
"""


def rendered() -> str:
    """The page."""
    rows = []
    for family in Metrics().families():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = getattr(family, "_labelnames", ()) or ()
        told = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{name}` | {family.type} | {told} | {family.documentation.removesuffix('.')} |")
    return INTRODUCTION + "\n".join(rows) + "\n"


def test_the_reference_of_metrics_is_what_the_proxy_declares() -> None:
    assert PAGE.read_text() == rendered(), "write it anew: python -m tests.docs.test_metrics_reference"


if __name__ == "__main__":
    PAGE.write_text(rendered())
