"""Which generation of contexts a handshake takes: always that of the source's current snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from spiffe_client._clock import Clock
from spiffe_client.errors import SourceError, StaleError, StoppedError
from spiffe_client.tls._generation import Generation, Inner, Key, Recipe
from spiffe_client.workload_api import X509Context, X509ContextSource

__all__ = ["Generations"]


class Generations:
    """The current generation, and at most one that was prepared and is not current yet.

    Args:
        source: Says which snapshot is current.
        recipe: How to build.
        clock: To never present a certificate that has expired.
    """

    def __init__(self, source: X509ContextSource, recipe: Recipe, clock: Clock) -> None:
        self._source = source
        self._recipe = recipe
        self._clock = clock
        self._current: Generation | None = None
        self._prepared: Generation | None = None
        self._lock = threading.Lock()

    def current(self, key: Key) -> Inner:
        """Return the context for a handshake that begins now.

        Raises:
            SourceError: There is no identity that may be used.
        """
        generation = self._of_now()
        if generation.expires_at <= self._clock.now():
            raise StaleError(
                f"the SVID of {generation.context.svid.id} expired at {generation.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                reason="expired",
            )
        return generation.inner(key)

    def prepare(self, context: X509Context, keys: Iterable[Key]) -> None:
        """Build what will be needed once this snapshot is current; may run in any thread.

        Raises:
            IdentityUnavailableError: The SVID cannot be loaded: the snapshot must not become current.
        """
        generation = self._prepared
        if generation is None or generation.context is not context:  # several users share one
            generation = Generation(context, self._recipe)
        for key in keys:
            generation.inner(key)
        self._prepared = generation
        try:
            _ = self._source.x509_context
        except StoppedError:
            self._prepared = None  # stopped while it was built: its key must not stay in memory
        except SourceError:
            return  # the first one is built before there is one to read

    def release(self) -> None:
        """Let go of what is not current any more, key and all."""
        try:
            self._of_now()
        except SourceError:
            self._prepared = None

    def _of_now(self) -> Generation:
        try:
            context = self._source.x509_context
        except SourceError:
            self._current = None  # withdrawn: its key must not stay in memory
            raise
        generation = self._current
        if generation is None or generation.context is not context:
            generation = self._advance()
        return generation

    def _advance(self) -> Generation:
        with self._lock:
            # Asked again: another thread may have gone on to a newer one, and never go back.
            context = self._source.x509_context
            generation = self._current
            if generation is None or generation.context is not context:
                generation = self._prepared
                if generation is None or generation.context is not context:
                    generation = Generation(context, self._recipe)
                else:
                    self._prepared = None
                self._current = generation
            return generation
