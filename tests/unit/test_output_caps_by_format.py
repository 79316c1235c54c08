"""Every format's own member for the cap on output is lowered or added, and nothing else changes."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.cost.fit import with_max_tokens
from apikeyrouter.domain.models.call import Operation, peek

GEMINI = [
    ('{"contents":[]}', '{"generationConfig":{"maxOutputTokens":7},"contents":[]}'),
    ('{"generationConfig":{"topK":1.0 }}', '{"generationConfig":{"maxOutputTokens":7,"topK":1.0 }}'),
    ('{"generationConfig" : {"maxOutputTokens": 900}}', '{"generationConfig" : {"maxOutputTokens": 7}}'),
    ('{"generationConfig":{"maxOutputTokens":3}}', '{"generationConfig":{"maxOutputTokens":3}}'),
    ('{"generation_config":{"max_output_tokens":8}}', '{"generation_config":{"max_output_tokens":7}}'),
    ('{"generationConfig":null,"a":"}"}', '{"generationConfig":{"maxOutputTokens":7},"a":"}"}'),
    ('{"contents":[{"generationConfig":{"maxOutputTokens":9}}],"generationConfig":{}}',
     '{"contents":[{"generationConfig":{"maxOutputTokens":9}}],"generationConfig":{"maxOutputTokens":7}}'),
]  # fmt: skip
OTHERS = [
    (Operation.Responses, '{"input":"hi"}', '{"max_output_tokens":7,"input":"hi"}'),
    (Operation.Responses, '{"max_output_tokens":70,"input":"hi"}', '{"max_output_tokens":7,"input":"hi"}'),
    (Operation.Responses, '{"max_output_tokens":null}', '{"max_output_tokens":7}'),
    (Operation.Messages, '{"max_tokens":70,"messages":[]}', '{"max_tokens":7,"messages":[]}'),
    (Operation.Messages, '{"messages":[]}', '{"max_tokens":7,"messages":[]}'),
    (Operation.Chat, '{"messages":[]}', '{"max_completion_tokens":7,"messages":[]}'),
]


@pytest.mark.parametrize(("body", "capped"), GEMINI)
def test_a_gemini_request_is_capped_in_its_generation_config(body: str, capped: str) -> None:
    raw = body.encode()
    out = with_max_tokens(raw, peek(raw), 7, model="gemini-2.5-flash", operation=Operation.Gemini)
    assert out.decode() == capped
    if '"maxOutputTokens"' in capped:
        assert (peek(out).output_limit_tokens or 0) <= 7


@pytest.mark.parametrize(("operation", "body", "capped"), OTHERS)
def test_each_format_has_its_own_member_whatever_the_model(operation: Operation, body: str, capped: str) -> None:
    raw = body.encode()
    assert with_max_tokens(raw, peek(raw), 7, model="gpt-5", operation=operation).decode() == capped
    assert peek(capped.encode()).output_limit_tokens == 7


def test_a_gemini_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        with_max_tokens(b'{"generationConfig":[1]}', peek(b"{}"), 7, operation=Operation.Gemini)
