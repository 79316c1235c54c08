"""The module names of ModelMuxer's documents, for the tests that run them; no package of ours installs this."""
