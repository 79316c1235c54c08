"""The ledger: accounts with limits, and holds that are taken before anything is sent."""
