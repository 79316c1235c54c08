"""PyYAML's nodes, and the plain values that `tree` makes of them.

Main entry: `values_of`. A module of its own, because PyYAML (18 modules, 0.9 MiB) is of no use to a proxy without a
configuration file. Laws: see `tree`.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from apikeyrouter_proxy.config.faults import Faults, Path, Place

__all__ = ["values_of"]

_VALUES_MAX = 100_000
_DEPTH_MAX = 64
_TAG = "tag:yaml.org,2002:"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_QUOTED = ("'", '"', "|", ">")
_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None}
_WORDS |= dict.fromkeys(("null", "Null", "NULL"), None)
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)


def values_of(text: str, file: str, faults: Faults, at: Path) -> Any:
    """The document's value, None when it is empty or cannot be read; `faults` then tell."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        line, column = (mark.line, mark.column) if mark is not None else (0, 0)
        faults.found.append(_fault(file, line, column, f"is not YAML: {what}", _advice(text, line)))
        return None
    except yaml.YAMLError as error:  # characters that YAML does not allow
        faults.found.append(_fault(file, 0, 0, f"is not YAML: {str(error).splitlines()[0]}"))
        return None
    except RecursionError:
        faults.found.append(_fault(file, 0, 0, "is nested too deeply"))
        return None
    return None if node is None else _Builder(file, faults).build(node, at, 0)


def _fault(file: str, line: int, column: int, message: str, hint: str = "") -> Any:
    from apikeyrouter_proxy.config.faults import Fault

    return Fault("", message, Place(file, line + 1, column + 1), hint)


def _advice(text: str, line: int) -> str:
    """What such a fault often comes from."""
    lines = text.splitlines()
    told = lines[line] if line < len(lines) else ""
    if "\t" in told[: len(told) - len(told.lstrip())]:
        return "indent with spaces, YAML allows no tabs"
    if re.search(r":\s+[@`%]|:\s+\*\S*", told):
        return "put quotes around values that begin with @, `, % or *"
    if re.search(r":\s.*:\s", told):
        return "put quotes around values that hold a colon and a space"
    return "check the indentation of this line and the one before it"


class _Builder:
    def __init__(self, file: str, faults: Faults) -> None:
        self._file = file
        self._faults = faults
        self._count = 0

    def build(self, node: Any, path: Path, depth: int) -> Any:
        """The node's value; notes its place."""
        self._faults.places[path] = place = self._place(node)
        self._count += 1
        if self._count > _VALUES_MAX or depth > _DEPTH_MAX:
            if self._count <= _VALUES_MAX + 1:
                self._faults.found.append(_fault(self._file, place.line - 1, place.column - 1, "holds too much"))
                self._count = _VALUES_MAX + 1
            return None
        if not node.tag.startswith(_TAG) or (
            not isinstance(node, yaml.ScalarNode) and node.tag not in (_TAG + "map", _TAG + "seq")
        ):
            self._faults.add(path, f"has the unknown tag {node.tag}", "leave it out")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(one, (*path, number), depth + 1) for number, one in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: Any, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[Any] = []
        for name_node, value_node in node.value:
            if name_node.tag == _TAG + "merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            if not isinstance(name_node, yaml.ScalarNode):
                self._faults.places[path] = self._place(name_node)
                self._faults.add(path, "a name must be text")
                continue
            name = name_node.value
            below = (*path, name)
            if name in found:
                first = self._faults.names[below]
                self._faults.names[below] = self._place(name_node)
                self._faults.add(below, f"is given twice, first in line {first.line}", "keep one", at_name=True)
                continue
            self._faults.names[below] = self._place(name_node)
            found[name] = self.build(value_node, below, depth + 1)
        for one in merged:
            if isinstance(one, yaml.MappingNode):
                self._merge(one, found, path, depth)
            else:
                self._faults.add(path, "<< takes an object, or a list of objects")
        return found

    def _merge(self, node: Any, found: dict[str, Any], path: Path, depth: int) -> None:
        """Members of `<<: *anchor` that the object does not have itself."""
        for name_node, value_node in node.value:
            name = getattr(name_node, "value", None)
            if isinstance(name, str) and name not in found and name_node.tag != _TAG + "merge":
                self._faults.names[(*path, name)] = self._place(name_node)
                found[name] = self.build(value_node, (*path, name), depth + 1)

    @staticmethod
    def _scalar(node: Any) -> Any:
        text: str = node.value
        if node.style in _QUOTED or node.tag == _TAG + "binary":
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text) if len(text) < 400 else text
        if _OTHER_INT.fullmatch(text):
            return int(text, 0)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _place(self, node: Any) -> Place:
        mark = node.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1)
