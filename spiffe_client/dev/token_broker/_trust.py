"""Whose tokens are believed, and the belief tested."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from spiffe_client._clock import Clock
from spiffe_client.bundle import SpiffeBundle, WitBundle
from spiffe_client.dev.token_broker._jwt import Jwt, Key, NotAcceptableError, check_times, for_others, verify
from spiffe_client.errors import InvalidIdError
from spiffe_client.ids import SpiffeId

__all__ = ["Trust", "check_audience"]


@dataclass(frozen=True, slots=True)
class Trust:
    """The trust domain's bundles, and the keys of other issuers.

    Attributes:
        bundles: Gives the own trust domain's bundle and the federated ones, as they are now.
        wit_bundle: Gives the keys of WIT-SVIDs. Experimental.
        issuers: For each other issuer, gives its keys as they are now.
        clock: What says now.
    """

    bundles: Callable[[], Sequence[SpiffeBundle]]
    wit_bundle: Callable[[], WitBundle]
    issuers: dict[str, Callable[[], Iterable[Key]]]
    clock: Clock

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock.now().timestamp()

    def jwt_svid(self, jwt: Jwt, audience: str, *, sole: bool) -> SpiffeId:
        """Verify a JWT-SVID with the bundle of its own trust domain (JWT-SVID §3-4).

        Args:
            jwt: The token.
            audience: Who it must be for.
            sole: Whether it must be for nobody else (draft-ietf-oauth-spiffe-client-auth §3.1).

        Returns:
            Whose it is.

        Raises:
            NotAcceptableError: It does not verify, has expired, or is for somebody else.
        """
        spiffe_id = _workload(jwt)
        if "typ" in jwt.header and not jwt.type_is("jwt", "jose"):
            raise NotAcceptableError("its type is not that of a JWT-SVID")
        for bundle in self.bundles():
            if bundle.trust_domain == spiffe_id.trust_domain:
                verify(jwt, map(Key.of, bundle.jwt_authorities))
                break
        else:
            raise NotAcceptableError(f"there is no bundle for {spiffe_id.trust_domain}")
        check_times(jwt, self.now())
        check_audience(jwt, audience, sole=sole)
        return spiffe_id

    def wit_svid(self, jwt: Jwt) -> SpiffeId:
        """Verify a WIT-SVID (WIT-SVID §2-4, incubating), but not that its key is held.

        Raises:
            NotAcceptableError: It does not verify, or has expired.
        """
        spiffe_id = _workload(jwt)
        bundle = self.wit_bundle()
        if not jwt.type_is("wit+jwt") or bundle.trust_domain != spiffe_id.trust_domain:
            raise NotAcceptableError("it is no WIT-SVID of this trust domain")
        verify(jwt, map(Key.of, bundle.authorities))
        check_times(jwt, self.now())
        return spiffe_id

    def foreign(self, jwt: Jwt) -> str:
        """Verify a token of another issuer: signature and times; `aud` is the caller's to check.

        Returns:
            The issuer.

        Raises:
            NotAcceptableError: The issuer is unknown, or the token does not verify or has expired.
        """
        issuer = jwt.text("iss")
        keys = self.issuers.get(issuer)
        if keys is None:
            raise NotAcceptableError("its issuer is not trusted here")
        verify(jwt, keys())
        check_times(jwt, self.now())
        return issuer


def check_audience(jwt: Jwt, audience: str, *, sole: bool) -> None:
    """Check for whom a token is (RFC 7519 §4.1.3).

    Raises:
        NotAcceptableError: It is for somebody else, or, with `sole`, for others too.
    """
    if audience not in jwt.audience:
        raise for_others(jwt, [audience])
    if sole and jwt.audience != (audience,):
        raise NotAcceptableError("its audience must be this issuer alone")


def _workload(jwt: Jwt) -> SpiffeId:
    try:
        spiffe_id = SpiffeId.parse(jwt.text("sub"))
    except InvalidIdError as error:
        raise NotAcceptableError("its `sub` is no SPIFFE ID") from error
    if not spiffe_id.path:
        raise NotAcceptableError("its `sub` names a trust domain, not a workload")
    return spiffe_id
