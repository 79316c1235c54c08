"""Key material leaves a `Secret` by `reveal` and in no other way (control S3)."""

from __future__ import annotations

import base64
import copy
import dataclasses
import inspect
import json
import pickle
import traceback
import urllib.parse
from typing import Any

import msgspec
import pydantic
import pytest

from apikeyrouter.domain.keys.record import KeyRecord, Ticket
from apikeyrouter.domain.keys.secret import Secret
from tests.support.keys import record

CANARY = "canary-" + "q7" * 12


@dataclasses.dataclass
class Holder:
    secret: Secret
    name: str = "holder"


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    secret: Secret


def forms_of(material: str) -> list[str]:
    """The material as it might turn up: raw, hex, base64, URL-encoded."""
    raw = material.encode()
    return [
        material,
        raw.hex(),
        base64.b64encode(raw).decode().rstrip("="),
        urllib.parse.quote(material),
    ]


def shown_by(produce: Any) -> str:
    """What `produce` returns, or the complete traceback with which it refuses."""
    try:
        return repr(produce())
    except Exception:  # noqa: BLE001 - whatever it is, its text must not show the material
        return traceback.format_exc()


def leaks(text: str) -> list[str]:
    return [form for form in forms_of(CANARY) if form in text]


LEAKS = {
    "repr": repr,
    "str": str,
    "format": lambda s: f"{s} {s!r} {s!s:>40}",
    "percent": lambda s: "%s %r" % (s, s),  # noqa: UP031 - old code formats like this
    "pickle": pickle.dumps,
    "pickle of a list": lambda s: pickle.dumps([s], protocol=2),
    "getstate": lambda s: s.__getstate__(),
    "reduce": lambda s: s.__reduce__(),
    "json": json.dumps,
    "json with default": lambda s: json.dumps({"s": s}, default=str),
    "msgspec": msgspec.json.encode,
    "msgspec builtins": msgspec.to_builtins,
    "vars": vars,
    "dict": lambda s: s.__dict__,
    "dir": dir,
    "members": inspect.getmembers,
    "asdict": lambda s: dataclasses.asdict(Holder(s)),
    "astuple": lambda s: dataclasses.astuple(Holder(s)),
    "dataclass repr": Holder,
    "pydantic repr": lambda s: Model(secret=s),
    "pydantic dump": lambda s: Model(secret=s).model_dump(),
    "pydantic json": lambda s: Model(secret=s).model_dump_json(),
    "bytes": bytes,
    "list": list,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "hash": hash,
    "set attribute": lambda s: setattr(s, "_unlock", None),
    "error argument": lambda s: ValueError("refused", s),
}


@pytest.mark.parametrize("way", LEAKS.values(), ids=LEAKS.keys())
def test_no_way_of_showing_a_secret_shows_its_material(way: Any) -> None:
    secret = Secret(CANARY)
    assert leaks(shown_by(lambda: way(secret))) == []


def test_a_traceback_with_locals_does_not_show_the_material() -> None:
    def broken(secret: Secret) -> None:
        raise ValueError("broken")

    try:
        broken(Secret(CANARY))
    except ValueError as error:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert leaks("".join(frames.format())) == []


@pytest.mark.parametrize(
    "show",
    [repr, dataclasses.asdict, lambda r: repr(Ticket(r, "gpt-4", 1, r.secret, 0.0))],
    ids=["repr", "asdict", "ticket"],
)
def test_a_record_shown_whole_does_not_show_its_secrets(show: Any) -> None:
    shown: KeyRecord = record(secret=Secret(CANARY), previous=Secret(CANARY[::-1]))
    assert CANARY not in repr(show(shown))
    assert CANARY[::-1] not in repr(show(shown))


def test_a_secret_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret(CANARY))


def test_a_secret_reveals_what_it_was_given() -> None:
    assert Secret(CANARY).reveal() == CANARY
    assert Secret(CANARY).reveal_bytes() == CANARY.encode()
    assert Secret(CANARY.encode()).reveal() == CANARY


def test_copies_are_the_secret_itself() -> None:
    secret = Secret(CANARY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"in": [secret]})["in"][0] is secret


def test_secrets_are_equal_by_material_and_have_no_hash() -> None:
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret(CANARY + "x")
    assert Secret(CANARY) != CANARY
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(CANARY))


def test_a_secret_cannot_be_changed() -> None:
    secret = Secret(CANARY)
    with pytest.raises(AttributeError):
        secret._unlock = lambda: b""
    with pytest.raises(AttributeError):
        del secret._unlock
    with pytest.raises(AttributeError):
        secret.note = "mine"  # type: ignore[attr-defined]
    assert secret.reveal() == CANARY


@pytest.mark.parametrize(("material", "hint"), [("x" * 12 + "abcd", "…abcd"), ("x" * 11 + "abcd", "…"), ("", "…")])
def test_only_a_long_secret_shows_its_last_four_characters(material: str, hint: str) -> None:
    assert Secret(material).hint == hint
