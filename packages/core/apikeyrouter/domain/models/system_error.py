"""`SystemError` and `ErrorCategory` at the path that the compatibility contract names. Home: `domain.errors`."""

from apikeyrouter.domain.errors import ErrorCategory, SystemError

__all__ = ["ErrorCategory", "SystemError"]
