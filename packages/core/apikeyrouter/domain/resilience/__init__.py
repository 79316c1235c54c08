"""Failure: what it means, how long to rest, when to stop trying, and when to try again."""
