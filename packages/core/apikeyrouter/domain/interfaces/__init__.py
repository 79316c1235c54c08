"""The ports: what the domain asks of the outside world, as Protocols with their laws in words."""
