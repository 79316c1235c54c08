"""YAML as plain values (text, numbers, true/false, null, lists, objects by name), with the place of each.

Main entry: `read_yaml`. PyYAML parses; what a plain word means follows YAML 1.2's core schema (https://yaml.org/spec/
1.2.2/#103-core-schema, read 2026-11-21), so `no`, `on` and `2026-12-01` are text, as they look.
Laws: every fault of the form is told with line and column; a name given twice, an unknown tag and a document that
unfolds into more than 100,000 values are refused; nothing in a file can run anything.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter_proxy.config.faults import Fault, Faults, Path, Place

__all__ = ["BYTES_MAX", "read_yaml"]

BYTES_MAX = 8 * 1024 * 1024


def read_yaml(text: str, file: str, faults: Faults, at: Path = ()) -> Any:
    """The document's value, None when it is empty or cannot be read. Places go into `faults`, below `at`."""
    if len(text) > BYTES_MAX:
        large = f"the file is larger than {BYTES_MAX // 1024 // 1024} MiB"
        faults.found.append(Fault("", large, Place(file, 1, 1)))
        return None
    from apikeyrouter_proxy.config.nodes import values_of  # PyYAML: only where there is something to read

    return values_of(text, file, faults, at)
