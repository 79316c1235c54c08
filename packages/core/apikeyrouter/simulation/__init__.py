"""A provider of our own: OpenAI's wire format over real HTTP, with limits, failures and faults, replayable from a seed.

Start it with `apikeyrouter sim` or `python -m apikeyrouter_proxy.sim_server`; the proxy embeds it when it has no key.
Inside: `asgi.SimulatedProvider` is the server, `accounts` and `faults` decide without I/O, `chat`, `completions` and
`embeddings` make the replies, `control` is what tests and people turn at run time.
Laws: the same seed and the same requests in the same order give the same replies; time comes from a `Clock` and chance
from a seeded `random.Random`; a key's secret is never listed, recorded or logged, only its label.
"""
