"""What is set up wrong says so early, and says for what it is wanted."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime

import pytest
from tests.support.fake_identity import FakeIdentity

from spiffe_client._redact import Secret
from spiffe_client.errors import DiscoveryError, SecretSourceError
from spiffe_client.tokens import (
    ClientSecret,
    ForeignToken,
    PrivateKeyJwt,
    SecretVariable,
    TokenBroker,
)
from spiffe_client.tokens._authentication import ClientFacts
from spiffe_client.tokens._subject import present

pytestmark = pytest.mark.anyio

ISSUER = "https://tokens.prod.example"
FACTS = ClientFacts(ISSUER, "batch", f"{ISSUER}/token")
UNSET = SecretVariable("NOT_SET_ANYWHERE")
CANARY = "canary-7f3a9c1e5b2d8f4a6c0e1d3b5a7f9c2e"


@pytest.mark.parametrize(
    ("issuer", "said"),
    [
        ("http://tokens.prod.example", "only https protects what is sent"),
        ("tokens.prod.example", "not a URL with https:"),
        ("", "is no absolute URL"),
    ],
)
async def test_an_issuer_that_gets_no_secrets(issuer, said) -> None:
    """It is refused when it is said, not when the first token is wanted (RFC 8414 §2)."""
    with pytest.raises(DiscoveryError, match=said):
        TokenBroker(issuer, identity=FakeIdentity())


@pytest.mark.parametrize(
    ("authentication", "what"),
    [(ClientSecret(UNSET), "the client secret of batch"), (PrivateKeyJwt(UNSET), "the private key of batch")],
)
async def test_credentials_that_are_not_there(authentication, what) -> None:
    """What is missing, whose it is, and where it was looked for."""
    with pytest.raises(SecretSourceError) as e:
        await authentication.credentials(FACTS, now=datetime.now(UTC), refresh=False)
    assert f"{what}: environment variable NOT_SET_ANYWHERE: not set" == str(e.value)


async def test_a_foreign_token_that_is_not_there() -> None:
    """It is not taken for a secret of the client."""
    with pytest.raises(
        SecretSourceError, match="^the token to be exchanged: environment variable NOT_SET_ANYWHERE"
    ):
        await present(ForeignToken(UNSET), issuer=ISSUER, identity=None)


async def test_the_frames_of_a_source_do_not_go_along() -> None:
    """They may hold the secret: neither context nor traceback leads to them."""

    class Vault:
        name = key = "vault"

        async def read(self) -> Secret[str]:
            secret = CANARY
            raise SecretSourceError("sealed") from KeyError(len(secret))

    with pytest.raises(SecretSourceError) as e:
        await present(ForeignToken(Vault()), issuer=ISSUER, identity=None)  # type: ignore[arg-type]  # its key is text
    assert "the token to be exchanged: sealed" == str(e.value)
    assert e.value.__context__ is None
    assert isinstance(e.value.__cause__, KeyError)
    told = traceback.TracebackException.from_exception(e.value, capture_locals=True)
    assert CANARY not in "".join(told.format())
