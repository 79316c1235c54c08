"""How a key is named everywhere but in the Authorization header.

Main entry: `key_label`, a pure function, so that faults can be set for a key before it was ever used. Keys that begin
with `sim-` are names made up for the simulation and label themselves; any other key might be real, so only its kind and
a digest are shown.
"""

from __future__ import annotations

import hashlib

__all__ = ["NO_KEY_LABEL", "key_label"]

NO_KEY_LABEL = "(none)"
_MARK = "~"


def key_label(key_or_label: str) -> str:
    """The label of a key; a label is its own label."""
    if not key_or_label or key_or_label == NO_KEY_LABEL:
        return NO_KEY_LABEL
    if key_or_label.startswith("sim-") or (len(key_or_label) == 12 and key_or_label[3] == _MARK):
        return key_or_label
    return f"{'key' if not key_or_label.startswith('sk-') else 'sk-'}{_MARK}{_digest(key_or_label)}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]
