"""The values that users meet, one noun a module. pydantic models: built at the edge, never on the hot path."""
