"""Credentials that are no plain keys: they are exchanged for access tokens, which expire.

What is exchanged (a client secret, a refresh token, a service account's key, a helper command) is a *spec*
(`specs.py`); how it is exchanged is in `grants.py`; `keeper.CredentialKeeper` keeps the key's secret fresh. To the rest
of the router such a key is a key like others, whose secret is rotated now and then.
"""
