"""A world in virtual time that judges routers: providers with limits and faults, traffic, baselines, an oracle, ours.

The parts, in the order of their dependence: `spec` (what a world is), `limiters`, `pool`, `provider` (who is let in:
the independent judge), `traffic`, `run` (what happened, and figures), `policies`, `litellm`, `engine`, `oracle` (the
others), `loop`, `wire`, `checks`, `ours` (the production router in virtual time), `chaos` (random worlds), `arena` (all
of them side by side). The HTTP provider for people and integration tests is `apikeyrouter.simulation` itself.
Main entry: `arena.compete`.
"""
