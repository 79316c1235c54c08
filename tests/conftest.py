"""Fixtures that every folder of tests may use, and how long drawn examples may take: as long as a busy machine needs."""

from hypothesis import HealthCheck, settings

from tests.support.servers import postgres_server, postgres_url, redis_server, redis_url

__all__ = ["postgres_server", "postgres_url", "redis_server", "redis_url"]

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
