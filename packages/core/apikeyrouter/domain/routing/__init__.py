"""Which key serves a request: who may (sift), who is best (utility), whose turn it is (turns), and why (explain)."""
