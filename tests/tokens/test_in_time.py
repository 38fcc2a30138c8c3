"""Who waits for an identity's JWT-SVID is told so before the deadline tells of the token broker."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest
from tests.support.fake_identity import FakeIdentity

from spiffe_client.errors import SourceError, StaleError, UnavailableError
from spiffe_client.tokens import Metadata, TokenRequest, WebPki, _in_time
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._endpoint import TokenEndpoint
from spiffe_client.tokens._in_time import InTime
from spiffe_client.tokens._spiffe_authentication import JwtSpiffe

pytestmark = pytest.mark.anyio

ISSUER = "https://tokens.prod.example"


@pytest.fixture(autouse=True)
def spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are left then, also on a machine that is late by a part of one."""
    assert (0.25, 0.1) == (_in_time._SPARE, _in_time._SHARE)
    monkeypatch.setattr(_in_time, "_SPARE", 5)
    monkeypatch.setattr(_in_time, "_SHARE", 0.95)


class Away(FakeIdentity):
    """One whose agent never answers."""

    async def jwt_svid(self, audience: str, /):
        await anyio.sleep_forever()


def endpoint(identity: FakeIdentity) -> TokenEndpoint:
    metadata = Metadata(ISSUER, "http://127.0.0.1:1/token", revocation_endpoint="http://127.0.0.1:1/revoke")
    return TokenEndpoint(metadata, Channel(WebPki()), authentication=JwtSpiffe(), identity=identity)


async def refused(identity: FakeIdentity) -> UnavailableError:
    with pytest.raises(UnavailableError) as e:
        await endpoint(identity).mint(TokenRequest.of("a"), timeout=5)
    return e.value


async def test_an_agent_that_is_silent() -> None:
    """Nothing is known but that; the token broker, which is not asked, is not blamed."""
    error = await refused(Away())
    assert (
        f"no token from {ISSUER}: this workload has no JWT-SVID to show within 5 s (the Workload API did "
        "not answer: is the agent running?)"
    ) == str(error)
    assert ("timed_out", True, None) == (error.cause_kind, error.retryable, error.__cause__)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (UnavailableError("nobody is there", cause_kind="refused"), "refused"),
        (StaleError("it expired", reason="expired"), "timed_out"),
    ],
)
async def test_an_identity_that_says_what_is_wrong(last, kind) -> None:
    """It is the cause, and in the message."""
    identity = Away()
    identity.health = SimpleNamespace(last_error=last)
    error = await refused(identity)
    assert (last, kind) == (error.__cause__, error.cause_kind)
    assert f"({last})" in str(error)


async def test_other_endpoints() -> None:
    """Client authentication at the others waits no longer either."""
    with pytest.raises(UnavailableError, match="no JWT-SVID to show"):
        await endpoint(Away()).call("revocation_endpoint", [("token", "a")], timeout=5)


async def test_one_at_hand_is_had_without_time() -> None:
    """What needs no waiting is not late."""
    issued = FakeIdentity()
    assert issued.id == (await InTime(issued, issuer=ISSUER, seconds=0.0).jwt_svid(ISSUER)).id


async def test_the_rest_is_the_identity_itself() -> None:
    """Ways of authentication that are not ours see an `Identity`."""
    followed: list[object] = []

    class Followed(FakeIdentity):
        @property
        def x509_context(self):
            raise SourceError("none now")

        def before_publish(self, prepare) -> None:
            followed.append(prepare)

        def after_publish(self, notify) -> None:
            followed.append(notify)

    identity = InTime(Followed(), issuer=ISSUER, seconds=1.0)
    with pytest.raises(SourceError, match="none now"):
        _ = identity.x509_context
    identity.before_publish(str)
    identity.after_publish(repr)
    assert ("spiffe://shop.test/web", [str, repr]) == (str(identity.id), followed)
