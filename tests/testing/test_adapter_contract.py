"""What has no framework passes the suite for adapters: the gate, and tools guarded one by one."""

from __future__ import annotations

from typing import ClassVar

import pytest
from tests.support.loops import GateLoop, GuardLoop

from spiffe_client.testing import AdapterContract


class TestGate(GateLoop, AdapterContract):
    """`ToolGate`, in a loop of our own."""


class TestGuard(GuardLoop, AdapterContract):
    """`guard`, in the same."""

    has_call_ids: ClassVar[bool] = False
    has_gate: ClassVar[bool] = False
    pauses: ClassVar[bool] = False


class Lame(AdapterContract):
    """Says nothing about threads."""

    ways = frozenset({"async"})

    async def run(self, play: object) -> None:
        raise NotImplementedError


class TestSubclasses:
    def test_what_they_have_to_say(self) -> None:
        """An adapter without `run` is none; what a framework cannot do is skipped, not passed."""
        with pytest.raises(TypeError, match="abstract"):
            AdapterContract()
        with pytest.raises(pytest.skip.Exception, match="no way 'blocking'"):
            Lame().skip_unless("blocking")
        with pytest.raises(NotImplementedError, match="Lame does not say"):
            Lame().run_blocking(None)
