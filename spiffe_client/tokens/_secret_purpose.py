"""A secret that cannot be read, and what it is wanted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spiffe_client._frames import async_border
from spiffe_client.errors import SecretSourceError

if TYPE_CHECKING:
    from spiffe_client._redact import Secret
    from spiffe_client.tokens._secret_source import SecretSource

__all__ = ["read_for"]


@async_border
async def read_for(source: SecretSource, what: str) -> Secret[str]:
    """Read a secret as it is now.

    Args:
        source: Where it is kept.
        what: What it is, such as `the client secret of batch`.

    Raises:
        SecretSourceError: It cannot be read; the message says what it is.
    """
    try:
        return await source.read()
    except SecretSourceError as error:
        reason, cause, retryable = str(error), error.__cause__, error.retryable
    # Here, where nothing is being handled: the frames of somebody else's source may hold the secret.
    failure = SecretSourceError(f"{what}: {reason}")
    failure.__cause__ = cause
    failure.retryable = retryable
    raise failure
