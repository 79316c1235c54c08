"""Helpers shared by the tests: servers in processes, snippets out of documents."""
