"""Settings: one frozen object, built once; argument before environment before default."""
