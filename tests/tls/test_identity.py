"""No handshake without an identity of our own that may be used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spiffe_client.errors import IdentityUnavailableError, SourceClosedError, StaleError, find
from tests.support.pki import days, new_authority
from tests.support.tls_wire import Source, Wire, context_of, plain_client, plain_server, tls_of

ROOT = new_authority("a.test")
PEER = ROOT.leaf("spiffe://a.test/peer")
ME = context_of(ROOT.leaf("spiffe://a.test/me"), ROOT)


class At:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def both(tls: Any) -> list[tuple[Wire, Any]]:
    """Both roles against the standard library, with our end."""
    client = Wire(tls.client_context(), plain_server(PEER))
    server = Wire(plain_client(PEER), tls.server_context())
    return [(client, client.client), (server, server.server)]


class TestUnavailable:
    @pytest.mark.parametrize(
        "why",
        [
            StaleError("too old", reason="expired"),
            StaleError("taken back", reason="withdrawn"),
            SourceClosedError("closed"),
            ZeroDivisionError("a bug in a source"),
        ],
        ids=lambda e: getattr(e, "reason", type(e).__name__),
    )
    def test_fails_closed_and_says_why(self, why: Exception) -> None:
        """The cause is there for whoever unwraps the TLS stack's error."""
        tls = tls_of(Source(why))
        for wire, ours in both(tls):
            for use in (ours.do_handshake, lambda ours=ours: ours.write(b"x"), lambda ours=ours: ours.read(1)):
                with pytest.raises(IdentityUnavailableError, match=str(why)) as e:
                    use()
                assert why is find(e.value, type(why))
            assert 0 == wire.to_server.pending == wire.to_client.pending  # not one byte
        assert 6 == tls.stats.unavailable

    def test_an_expired_svid_is_never_presented(self) -> None:
        """Also where the source is a fixed context that cannot know."""
        old = context_of(ROOT.leaf("spiffe://a.test/me", not_before=days(-3), not_after=days(-2)), ROOT)
        for wire, ours in both(tls_of(old)):
            with pytest.raises(IdentityUnavailableError, match="expired at") as e:
                ours.do_handshake()
            assert "expired" == find(e.value, StaleError).reason
            assert 0 == wire.to_server.pending == wire.to_client.pending

    def test_by_the_clock_that_was_given(self) -> None:
        """From the second of its notAfter on: the peer would find it expired while it reads it."""
        end = ME.svid.not_after
        for now, good in ((end - timedelta(seconds=1), True), (end, False), (end + timedelta(days=1), False)):
            wire = Wire(tls_of(ME, clock=At(now.astimezone(UTC))).client_context(), plain_server(PEER))
            if good:
                wire.handshake()
            else:
                with pytest.raises(IdentityUnavailableError):
                    wire.handshake()

    def test_a_later_try_may_succeed(self) -> None:
        """Nothing was sent, so the same object can begin again once there is an identity."""
        source = Source(StaleError("too old", reason="expired"))
        wire = Wire(tls_of(source).client_context(), plain_server(PEER))
        with pytest.raises(IdentityUnavailableError):
            wire.handshake()
        source.value = ME
        wire.handshake().converse()

    @pytest.mark.parametrize(
        "end", [StaleError("taken back", reason="withdrawn"), ZeroDivisionError("a bug")], ids=["withdrawn", "bug"]
    )
    def test_withdrawn_during_the_handshake(self, end: Exception) -> None:
        """There is nothing left to verify the peer by: refused, and for good."""
        source = Source(ME)
        tls = tls_of(source)
        wire = Wire(tls.client_context(), plain_server(PEER))
        with pytest.raises(Exception, match="did not complete"):
            wire.client.do_handshake()
        with pytest.raises(Exception, match="did not complete"):
            wire.server.do_handshake()
        source.value = end
        with pytest.raises(IdentityUnavailableError) as e:
            wire.client.do_handshake()
        assert end is e.value.__cause__
        source.value = ME
        with pytest.raises(IdentityUnavailableError):
            wire.client.write(b"x")
        assert (0, 1) == (tls.stats.handshakes, tls.stats.unavailable)

    def test_a_root_removed_during_the_handshake(self) -> None:
        """The live bundle counts, not the one the handshake began with."""
        source = Source(ME)
        wire = Wire(tls_of(source).client_context(), plain_server(PEER))
        for step in (wire.client, wire.server):
            with pytest.raises(Exception, match="did not complete"):
                step.do_handshake()
        source.value = context_of(ROOT.leaf("spiffe://a.test/me"), new_authority("a.test"))
        with pytest.raises(Exception, match="no authority of a.test vouches"):
            wire.client.do_handshake()
