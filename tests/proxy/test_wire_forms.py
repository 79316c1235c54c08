"""Multipart forms: read where they lie, passed on as they are, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter_proxy.wire.errors import WireError
from apikeyrouter_proxy.wire.forms import Form, is_form, read_form, with_model

BOUNDARY = "----form7MA4YWxk"
KIND = f"multipart/form-data; boundary={BOUNDARY}".encode()


def form_of(*parts: tuple[str, bytes, str | None], boundary: str = BOUNDARY) -> bytes:
    out = b""
    for name, value, file in parts:
        named = f'form-data; name="{name}"' + (f'; filename="{file}"' if file else "")
        out += f"--{boundary}\r\nContent-Disposition: {named}\r\n\r\n".encode() + value + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


def test_small_fields_are_read_and_files_are_not() -> None:
    body = form_of(("file", b"RIFF\r\n\r\n--x", "a.wav"), ("model", b"whisper-1", None), ("stream", b"true", None))
    form = read_form(body, KIND)
    assert dict(form.values) == {"model": "whisper-1", "stream": "true"}
    assert form.streams


def test_another_model_changes_nothing_else() -> None:
    parts = [("file", bytes(range(256)), "a.wav"), ("model", b"openai/whisper-1", None), ("prompt", b"Hi", None)]
    body = form_of(*parts)
    parts[1] = ("model", b"whisper-1", None)
    assert with_model(body, read_form(body, KIND), "whisper-1") == form_of(*parts)


def test_a_file_called_model_is_not_the_model() -> None:
    assert read_form(form_of(("model", b"x", "model.bin")), KIND).values == {}


def test_an_empty_value_is_empty() -> None:
    assert read_form(form_of(("model", b"", None)), KIND).values == {"model": ""}


def test_a_quoted_boundary_and_other_parameters_are_understood() -> None:
    body = form_of(("model", b"m", None), boundary="a b")
    assert read_form(body, b'multipart/form-data; charset=utf-8; Boundary="a b"').values == {"model": "m"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", KIND),
        (b"model=whisper-1", KIND),
        (form_of(("model", b"m", None)), b"multipart/form-data"),
        (form_of(("model", b"m", None))[:-6], KIND),
        (form_of(("model", b"m", None)).replace(b"\r\n\r\n", b"\r\n"), KIND),
        (form_of(*[("a", b"", None)] * 400), KIND),
        (form_of(("model", b"cheap", None), ("model", b"dear", None)), KIND),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: bytes) -> None:
    with pytest.raises(WireError) as caught:
        read_form(body, kind)
    assert (caught.value.status, caught.value.fact.code) == (400, "invalid_form")


def test_a_form_is_known_by_its_content_type() -> None:
    assert is_form(b"Multipart/Form-Data; boundary=x")
    assert not is_form(b"application/json")


@given(st.binary(max_size=300), st.integers(0, 200), st.integers(0, 100))
def test_whatever_the_bytes_a_form_is_read_or_refused(junk: bytes, at: int, cut: int) -> None:
    body = form_of(("file", b"abc", "f"), ("model", b"m", None))
    body = body[:at] + junk + body[at : len(body) - cut]
    try:
        assert isinstance(read_form(body, KIND), Form)
    except WireError as error:
        assert error.status == 400
