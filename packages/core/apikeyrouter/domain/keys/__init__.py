"""Keys: their secrets, their state machine, who may serve now, and what outcomes teach them."""
