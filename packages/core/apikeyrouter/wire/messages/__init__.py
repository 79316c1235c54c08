"""Anthropic's Messages (https://platform.claude.com/docs/en/api/messages). `codec.MessagesCodec` speaks it; `models`
says what each Claude model takes; `reader.MessagesReader` watches a stream that passes as it is."""
