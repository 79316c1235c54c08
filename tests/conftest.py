"""Fixtures that every folder of tests may use, and no deadline for drawn examples: busy machines need their time."""

from hypothesis import HealthCheck, settings

from tests.support.servers import postgres_server, postgres_url, redis_server, redis_url

__all__ = ["postgres_server", "postgres_url", "redis_server", "redis_url"]

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
