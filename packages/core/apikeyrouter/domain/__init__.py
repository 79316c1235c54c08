"""What ApiKeyRouter knows and decides, free of I/O: no socket, file, clock or random source is opened here."""
