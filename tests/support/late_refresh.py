"""The first token of a client is refreshed at a moment that is drawn: for tests that count tokens, late."""

from __future__ import annotations

from spiffe_client.tokens._cache import TokenCache

__all__ = ["refresh_late"]


def refresh_late() -> None:
    """Have all clients in this process draw the latest moment, well behind the end of any test.

    Else it is any from the second second on: now and then a test that takes longer than one meets it.
    """
    TokenCache.__init__.__kwdefaults__["draw"] = lambda: 1.0
