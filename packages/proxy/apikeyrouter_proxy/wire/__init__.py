"""Client wire formats: what comes in over HTTP and what goes out."""
