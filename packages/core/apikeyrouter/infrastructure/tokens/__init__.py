"""Tokenizers that providers publish, as an extra: `pip install apikeyrouter-core[tokens]`."""
