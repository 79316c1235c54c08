"""Benchmarks that can be run by anyone: figures of ours beside peers and plain baselines, in one run.

Entry: `python -m bench http|startup|decision|faults` (see bench/README.md).
Laws: every target answers the same mock upstream with the same bodies; replies are checked before they are timed;
replies that are not 2xx are counted and printed; only ratios within one run mean something, since the machine is
shared.
"""
