"""What differs between two configurations, member by member, without their secrets.

Main entry: `changes`. Law: a secret that differs is told as changed; neither of its values is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter_proxy.config.faults import Path, dotted
from apikeyrouter_proxy.config.loading import Configuration
from apikeyrouter_proxy.config.masking import is_secret, masked

if TYPE_CHECKING:
    from apikeyrouter_proxy.settings import ProxySettings

__all__ = ["Change", "changes", "differences", "member"]

_NOTHING: Any = object()


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A difference. `what`: "added", "removed" or "changed". `before`, `after`: as text, masked."""

    where: str
    what: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        if self.what == "changed":
            return f"{self.where}: {self.before} -> {self.after}" if self.before or self.after else f"{self.where}: new"
        return f"{self.where}: {self.what}" + (f" ({self.after})" if self.after else "")


def changes(before: ProxySettings, after: ProxySettings) -> list[Change]:
    """What differs between the files of two settings."""
    one, other = (None if s.config is None else s.config.configuration for s in (before, after))
    return differences(one, other)


def differences(before: Configuration | None, after: Configuration | None) -> list[Change]:
    """What differs between two configurations, in the order of the types."""
    trees = tuple({} if one is None else one.tree for one in (before, after))
    return list(_between(_content(before), _content(after), (), trees))


def member(tree: Any, path: Path) -> Any:
    """What stands at this path; None for nothing."""
    for part in path:
        if isinstance(tree, Mapping):
            tree = tree.get(part)
        else:
            tree = tree[part] if isinstance(tree, list) and isinstance(part, int) and part < len(tree) else None
    return tree


def _text(value: Any, path: Path, tree: Any) -> str:
    """The value as text, as it was written where that is a reference."""
    written = member(tree, path)
    return masked(written if isinstance(written, str) and "$" in written else value, path)


def _content(configuration: Configuration | None) -> Mapping[str, Any]:
    return {} if configuration is None else configuration.file.model_dump(exclude_unset=True, exclude={"include"})


def _between(before: Any, after: Any, path: Path, trees: Any) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys([*before, *after]):
            yield from _between(before.get(name, _NOTHING), after.get(name, _NOTHING), (*path, name), trees)
        return
    if before is _NOTHING or after is _NOTHING:
        there = after if before is _NOTHING else before
        if isinstance(there, Mapping) and len(path) == 1:
            for name, one in there.items():
                ours = (_NOTHING, one) if before is _NOTHING else (one, _NOTHING)
                yield from _between(*ours, (*path, name), trees)
            return
        tree = trees[1 if before is _NOTHING else 0]
        shown = "" if isinstance(there, Mapping) else _text(there, path, tree)
        yield Change(dotted(path), "added" if before is _NOTHING else "removed", after=shown)
        return
    if is_secret(path):
        yield Change(dotted(path), "changed", "secret", "another secret")
        return
    yield Change(dotted(path), "changed", _text(before, path, trees[0]), _text(after, path, trees[1]))
