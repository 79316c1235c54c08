"""Requests for Bedrock are valid by Amazon's own service model; noise in streams breaks nothing; SSE and frames cut
anywhere read the same."""

from __future__ import annotations

import json

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.converse.frames import Frames
from apikeyrouter.wire.facts import AnswerShape, Failed, ReasoningWish
from apikeyrouter.wire.losses import Losses, UntranslatableError
from tests.support.converse_side import exception
from tests.support.wire_sides import side_of
from tests.support.wire_values import answers, asks, events_of

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NATIVE = (Wire.Converse, Wire.Cohere)
MODELS = (
    "us.anthropic.claude-3-7-sonnet-20250219-v1:0", "anthropic.claude-sonnet-4-6", "us.amazon.nova-2-lite-v1:0",
    "meta.llama3-2-1b-instruct-v1:0", "openai.gpt-oss-20b-1:0",
    "arn:aws:bedrock:us-east-1:1:application-inference-profile/x",
)  # fmt: skip


@pytest.fixture(scope="module")
def converse() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))


@pytest.mark.parametrize("model", MODELS)
@few
@given(data=st.data())
def test_what_is_sent_is_valid_by_amazons_service_model(
    converse: ServiceModel, model: str, data: st.DataObject
) -> None:
    ask = data.draw(asks(model))
    ask.reasoning = data.draw(st.sampled_from([None, ReasoningWish("low"), ReasoningWish(budget_tokens=1024)]))
    ask.shape = data.draw(st.sampled_from([None, AnswerShape("schema", "x", {"type": "object", "properties": {}})]))
    ask.service_tier = data.draw(st.sampled_from([None, "flex", "priority"]))
    ask.metadata = data.draw(st.sampled_from([None, {"a": "b"}]))
    ask.n, ask.user = 1, "u"
    losses = Losses("bedrock", may_drop=True)
    body = json.loads(codec_of(Wire.Converse).write_request(ask, losses))
    losses.check()
    shape = converse.operation_model("Converse").input_shape
    report = ParamValidator().validate({"modelId": model, **body}, shape)
    assert not report.has_errors(), report.generate_report()
    unknown = body.keys() - shape.members.keys()
    assert not unknown


@pytest.mark.parametrize("wire", NATIVE)
@few
@given(data=st.data())
def test_noise_in_a_stream_never_raises_and_nothing_follows_an_error(wire: Wire, data: st.DataObject) -> None:
    encoder = side_of(wire).encoder("", want_usage=True)
    sent = bytearray(b"".join(map(encoder.encode, events_of(data.draw(answers(wire))))) + encoder.finish())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(sent) - 1))
        sent[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    decoder = codec_of(wire).decoder()
    cut = data.draw(st.integers(1, 200))
    events = [one for at in range(0, len(sent), cut) for one in decoder.feed(bytes(sent[at : at + cut]))]
    events += decoder.finish()
    assert not [one for one in events[:-1] if isinstance(one, Failed)]


@few
@given(data=st.binary(max_size=400), cut=st.integers(1, 50))
@example(data=exception("x", "y") * 3, cut=1)
def test_any_bytes_are_frames_or_a_fault_however_they_are_cut(data: bytes, cut: int) -> None:
    whole, pieces = Frames(), Frames()
    at_once = whole.feed(data)
    found = [one for at in range(0, len(data), cut) for one in pieces.feed(data[at : at + cut])]
    assert found == at_once
    assert pieces.fault == whole.fault
    assert pieces.unfinished == whole.unfinished


@pytest.mark.parametrize("wire", NATIVE)
@few
@given(body=st.one_of(st.binary(max_size=80), st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["output", "message", "content", "usage", "text", "tool_calls", "function", "toolUse"]), inner),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_body_is_a_reply_or_a_value_error(wire: Wire, body: bytes) -> None:
    codec = codec_of(wire)
    for look in (codec.read_answer, codec.usage_of):
        try:
            look(body)
        except ValueError as fault:
            assert not isinstance(fault, UntranslatableError)
