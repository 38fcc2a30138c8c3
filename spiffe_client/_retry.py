"""How long to wait before trying again: full jitter, small cap. The one file that knows tenacity."""

from __future__ import annotations

from spiffe_client._values import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full-jitter exponential backoff: uniform between 0 and min(cap, first · 2^attempt).

    Attributes:
        first: Upper bound of the first wait, in seconds.
        cap: Upper bound of every wait, in seconds; small, so that an agent that comes back is
            noticed at once.
    """

    first: float = 0.1
    cap: float = 1.0

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after the failed attempt number `attempt` (from 1)."""
        # Imported at the first failure only: a healthy start should not pay for it.
        from tenacity import RetryCallState, wait_random_exponential

        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = attempt
        return wait_random_exponential(multiplier=self.first, max=self.cap)(state)
