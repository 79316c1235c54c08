"""Cohere's chat of version 2 (`/v2/chat`), spoken to Cohere only (see `one_way`), and its embeddings.

`codec.CohereCodec` speaks it. Sources: https://docs.cohere.com/reference/chat, /reference/chat-stream, /reference/embed
and /v2/docs/streaming; what replies and streams look like was checked against recorded exchanges.
"""
