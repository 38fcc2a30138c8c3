"""The token that is exchanged, as it is at this moment."""

from __future__ import annotations

from collections.abc import Collection

from spiffe_client._redact import Secret
from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._form import Presented
from spiffe_client.tokens._identity import Identity
from spiffe_client.tokens._parties import ForeignToken, OwnSvid, Subject
from spiffe_client.tokens._secret_purpose import read_for
from spiffe_client.tokens._tokens import AccessToken, Binding

__all__ = ["check_holder", "present"]


async def present(subject: Subject, *, issuer: str, identity: Identity | None) -> Presented:
    """Return the token and its type; what is kept elsewhere is read anew.

    Args:
        subject: Whose.
        issuer: The token broker: for whom an own JWT-SVID is.
        identity: Whose JWT-SVID an own one is.

    Raises:
        TokenRequestError: There is no identity.
        SecretSourceError: A foreign token cannot be read.
        SpiffeError: The JWT-SVID cannot be had.
    """
    if isinstance(subject, OwnSvid):
        if identity is None:
            raise TokenRequestError(
                "the own JWT-SVID is to be exchanged and there is no identity: pass identity=, or subject="
            )
        svid = await identity.jwt_svid(subject.audience or issuer)
        return svid.token, subject.token_type
    if isinstance(subject, ForeignToken):
        held = subject.token
        return (
            held if isinstance(held, Secret) else await read_for(held, "the token to be exchanged")
        ), subject.token_type
    return subject.token, subject.issued_token_type


def check_holder(subject: Subject | None, held: Collection[Binding]) -> None:
    """See that a token of ours which is bound is bound to what we hold.

    Only its holder can exchange a bound token; asking all the same would show it for nothing.

    Args:
        subject: What is to be exchanged.
        held: The key and the certificate of this client, where it has them.

    Raises:
        TokenRequestError: It is bound to something else.
    """
    if isinstance(subject, AccessToken) and subject.binding not in (Binding(), *held):
        raise TokenRequestError(
            f"the token {subject.fingerprint} is bound to another key or certificate ({subject.binding.method}): "
            f"only its holder can exchange it"
        )
