"""Formats of conversations, and the way from one into another.

A client speaks one format, a provider maybe another. Each format is a `Codec` (`codec.py`) between its bytes and the
neutral values of `facts.py`; `translate.py` joins two codecs. Where both sides speak the same format nothing here
parses anything: bytes pass as they came.
"""
