"""From files to one `Configuration`, or every fault at once.

Main entries: `load_file`, `written_text`, and `Configuration` itself. Files that others `include` are one document in
the end; each value keeps its place. A file of LiteLLM's is recognised by its shape and translated in memory.
Laws: nothing is taken from a document with a fault; objects with a fault do not hide faults of others; a name is
defined once, in whichever file.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from apikeyrouter_proxy.config.faults import Fault, Faults, Path, Place, nearest
from apikeyrouter_proxy.config.objects import Money, Part
from apikeyrouter_proxy.config.references import References
from apikeyrouter_proxy.config.stamps import Stamps
from apikeyrouter_proxy.config.tree import BYTES_MAX, read_yaml
from apikeyrouter_proxy.config.types import ConfigFile

__all__ = [
    "Configuration",
    "Written",
    "load_file",
    "read_files",
    "typed",
    "typed_text",
    "written_text",
]

_INCLUDES_MAX = 100
_SCALARS = ("version", "name", "objective", "include")
_APART = ("limit", "period", "enforcement_mode", "rolling", "time_zone")
"""Members of a budget that say nothing about its other ones."""
_EXPECTED = {
    "missing": "is required",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "dict_type": "expected an object of them by name",
    "list_type": "expected a list, or text with commas",
    "string_type": "expected text",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
}


@dataclass(slots=True)
class Written:
    """A document as it was written. `tree`: references not followed. `files`: all that it came from, the main one
    first. `told`: what a translation left out. `stamps`: of the files when read. `foreign`: see `References`."""

    tree: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    stamps: Stamps = field(default_factory=Stamps)
    foreign: str = ""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration whose form is right. `file`: its content, references followed. `tree`: as it was written.
    `files`: the main one first; for text the name that it was given. `places`, `names`: of values and of the names
    before them. `told`: what a translation from another product's file left out. `stamps`: of every file that was read,
    those that references lead to included."""

    file: ConfigFile
    tree: Mapping[str, Any] = field(repr=False)
    files: tuple[str, ...] = ()
    places: Mapping[Path, Place] = field(default_factory=dict, repr=False)
    names: Mapping[Path, Place] = field(default_factory=dict, repr=False)
    told: tuple[str, ...] = ()
    stamps: Stamps = field(default_factory=Stamps)

    @property
    def path(self) -> str:
        """The main file."""
        return self.files[0] if self.files else ""

    @property
    def digest(self) -> str:
        """Tells two contents apart: secrets included, so it is no secret itself and says nothing about them."""
        content = json.dumps(self.file.model_dump(), sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def place_of(self, *path: str | int) -> Place | None:
        """Where a member is named."""
        return self.names.get(path) or self.places.get(path)


def load_file(path: str | FilePath, environ: Mapping[str, str], faults: Faults) -> Configuration | None:
    """The configuration of a file; None where something is wrong, which `faults` then tell."""
    return typed(read_files(FilePath(path), faults), References(environ, faults), faults)


def written_text(text: str, faults: Faults, name: str = "text") -> Written:
    """The document of a text that came from elsewhere: it includes nothing."""
    written = _with_kind(read_yaml(text, name, faults), name, faults)
    if written.tree.pop("include", None) is not None:
        faults.add(("include",), "files are not read for texts that come over the API", "check the file itself")
    return written


def typed_text(text: str, environ: Mapping[str, str], faults: Faults, name: str) -> Configuration | None:
    """The configuration of a text that the operator gave, as a file."""
    return typed(_with_kind(read_yaml(text, name, faults), name, faults), References(environ, faults), faults)


# -- files ----------------------------------------------------------------------------------------------------------


def read_files(path: FilePath, faults: Faults) -> Written:
    """The document of a file and of those that it includes."""
    stamps = Stamps()
    written = _read_one(path, faults, stamps)
    written.stamps = stamps
    queue = [(path, one) for one in _includes(path, written.tree, faults, stamps)]
    seen = {path.resolve()}
    while queue:
        _, one = queue.pop(0)
        if one.resolve() in seen:
            continue
        seen.add(one.resolve())
        if len(seen) > _INCLUDES_MAX:
            faults.add(("include",), f"more than {_INCLUDES_MAX} files")
            break
        inner = Faults()
        more = _read_one(one, inner, stamps)
        queue += [(one, each) for each in _includes(one, more.tree, inner, stamps)]
        faults.found += inner.found
        written.files += more.files
        written.told += more.told
        _join(written.tree, more.tree, faults, inner)
    return written


def _read_one(path: FilePath, faults: Faults, stamps: Stamps) -> Written:
    stamps.note(path)
    try:
        raw = path.read_bytes()[: BYTES_MAX + 1]
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "it is not text in UTF-8"
        faults.found.append(Fault("", f"cannot be read: {reason}", Place(str(path), 1, 1), "check the path"))
        return Written(files=[str(path)])
    return _with_kind(read_yaml(text, str(path), faults), str(path), faults)


def _with_kind(tree: Any, file: str, faults: Faults) -> Written:
    if tree is None:
        return Written(files=[file])
    if not isinstance(tree, dict):
        faults.add((), "expected an object with members such as server, providers and keys")
        return Written(files=[file])
    from apikeyrouter_proxy.config.from_litellm import is_litellm, translate

    if is_litellm(tree):
        translated = translate(tree, faults)
        return Written(translated.tree, [file], translated.told, foreign="os.environ/{}")
    return Written(tree, [file])


def _includes(path: FilePath, tree: dict[str, Any], faults: Faults, stamps: Stamps) -> Iterator[FilePath]:
    given = tree.get("include")
    listed = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    for number, pattern in enumerate(listed):
        at: Path = ("include", number) if isinstance(given, list) else ("include",)
        full = str(path.parent / FilePath(str(pattern)).expanduser())
        found = sorted(glob.glob(full))  # noqa: PTH207 - an absolute pattern is allowed as well
        stamps.patterns[full] = tuple(found)
        if not found:
            faults.add(at, f"there is no file {full!r}", "paths are relative to the file that includes them")
        yield from map(FilePath, found)


def _join(tree: dict[str, Any], more: dict[str, Any], faults: Faults, inner: Faults) -> None:
    """Lays the members of an included file into the document; what is defined twice is a fault."""

    def take(path: Path) -> None:
        for known, own in ((inner.places, faults.places), (inner.names, faults.names)):
            own.update({place: spot for place, spot in known.items() if place[: len(path)] == path})

    def twice(path: Path) -> None:
        first = faults.place_of(path, at_name=True)
        inner.found.clear()
        inner.add(path, f"is defined already, in {first}", "keep one", at_name=True)
        faults.found += inner.found

    for section, value in more.items():
        if section in ("include", "version"):
            continue
        if section not in tree or tree[section] is None:
            tree[section] = value
            take((section,))
        elif isinstance(value, dict) and isinstance(tree[section], dict):
            for name, one in value.items():
                if name in tree[section]:
                    twice((section, name))
                else:
                    tree[section][name] = one
                    take((section, name))
        else:
            twice((section,))


# -- types ----------------------------------------------------------------------------------------------------------


def typed(written: Written, references: References, faults: Faults) -> Configuration | None:
    """The document as types say; None only when not even parts of it could be read. Faults are noted: the caller must
    not use what it gets when there are any."""
    references.foreign = written.foreign
    sound = {name: value for name, value in written.tree.items() if value is not None}
    followed = references.resolve(_without_nothing(sound))
    tree: dict[str, Any] = followed if isinstance(followed, dict) else {}
    for _ in range(100):
        try:
            file = ConfigFile.model_validate(tree)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False, include_input=False, include_context=False)
            for error in errors:
                _note(error, faults)
                _cut(tree, tuple(error["loc"]), error["type"])
            continue
        places, names = dict(faults.places), dict(faults.names)
        stamps = written.stamps.joined(references.stamps)
        return Configuration(file, written.tree, tuple(written.files), places, names, tuple(written.told), stamps)
    return None


def _without_nothing(value: Any) -> Any:
    """A copy without members that are null, as `keys:` with nothing below it is."""
    if isinstance(value, dict):
        return {name: _without_nothing(one) for name, one in value.items() if one is not None}
    return [_without_nothing(one) for one in value] if isinstance(value, list) else value


def _note(error: Any, faults: Faults) -> None:
    path: Path = tuple(error["loc"])
    kind, message = error["type"], error["msg"]
    if kind == "extra_forbidden":
        known = part_at(path[:-1])
        names = known.model_fields if known is not None else ()
        faults.add(path, "there is no such member", nearest(path[-1], names), at_name=True)
    elif kind == "missing":
        faults.add(path[:-1], f"{path[-1]!r} is required", at_name=True)
    else:
        told = _EXPECTED.get(kind) or message.removeprefix("Value error, ").replace("Input should be", "expected")
        faults.add(path, told)


def _cut(tree: Any, path: Path, kind: str) -> None:
    """Takes out the object that has a fault, so that the others are looked at; of a budget only the member that has
    it, so that its others are looked at, too."""
    owner = part_at(path[:-1])
    apart = owner is not None and issubclass(owner, Money) and (kind == "extra_forbidden" or path[-1] in _APART)
    depth = len(path) if apart else min(1 if path[0] in _SCALARS else 2, len(path))
    for part in path[: depth - 1]:
        tree = tree.get(part, {}) if isinstance(tree, dict) else {}
    if isinstance(tree, dict):
        tree.pop(path[depth - 1], None)
        if apart and path[-1] == "limit":
            tree["limit"] = 1  # it has to have one


def part_at(path: Path) -> type[Part] | None:
    """The type of the object at this path."""
    kind: Any = ConfigFile
    for part in path:
        kind = _bare(kind)
        if isinstance(kind, type) and issubclass(kind, Part):
            known = kind.model_fields.get(str(part))
            kind = known.annotation if known is not None else None
        else:
            kind = get_args(kind)[-1] if get_origin(kind) in (dict, list) else None
    kind = _bare(kind)
    return kind if isinstance(kind, type) and issubclass(kind, Part) else None


def _bare(kind: Any) -> Any:
    """Without None and annotations."""
    while True:
        origin = get_origin(kind)
        if origin is Annotated:
            kind = get_args(kind)[0]
        elif origin in (Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not type(None))
        else:
            return kind
