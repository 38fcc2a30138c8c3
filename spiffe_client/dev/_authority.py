"""The certificate authority of a development trust domain."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta

from cryptography import x509

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.bundle import JwtAuthority, JwtBundle, SpiffeBundle, X509Bundle
from spiffe_client.bundle.experimental import WitBundle
from spiffe_client.dev._certificates import X509Authority, issue_leaf, make_authority, new_key
from spiffe_client.dev._jws import ALGORITHM, JwsAuthority, private_jwk
from spiffe_client.dev._keyring import Keyring
from spiffe_client.errors import InvalidIdError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid import X509Svid

__all__ = ["CertificateAuthority"]


class CertificateAuthority:
    """Issues X509-SVIDs and JWT-SVIDs for one trust domain: for development and tests only.

    Keys are P-256, live in this process and are written nowhere.

    Args:
        trust_domain: Whose identities it issues.
        intermediate: Whether SVIDs are signed by an intermediate below the root, as in production,
            or by the root itself.
        ttl: Lifetime of root and intermediate, in seconds. No SVID outlives them.
        refresh_hint: How often peers should fetch the bundle document again, in seconds.
        clock: What says now.
    """

    def __init__(
        self,
        trust_domain: TrustDomain | str,
        *,
        intermediate: bool = True,
        ttl: float = 365 * 86400.0,
        refresh_hint: int = 60,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.trust_domain: TrustDomain = TrustDomain.parse(trust_domain)
        self._clock = clock
        self._refresh_hint = refresh_hint
        self._sequence = 1

        def make() -> X509Authority:
            return make_authority(
                self.trust_domain, intermediate=intermediate, at=clock.now(), ttl=timedelta(seconds=ttl)
            )

        self._x509 = Keyring(make)
        self._jwt = Keyring(JwsAuthority)
        self._wit = JwsAuthority()
        self._subscribers: list[Callable[[], None]] = []

    @property
    def issuer(self) -> x509.Certificate:
        """The CA certificate that X509-SVIDs are signed by now."""
        return self._x509.active.issuer

    @property
    def x509_bundle(self) -> X509Bundle:
        """The roots that verify X509-SVIDs of this trust domain now."""
        return X509Bundle(self.trust_domain, tuple(a.root for a in self._x509.published))

    @property
    def jwt_bundle(self) -> JwtBundle:
        """The keys that verify JWT-SVIDs of this trust domain now."""
        return JwtBundle(self.trust_domain, tuple(a.public for a in self._jwt.published))

    @property
    def wit_bundle(self) -> WitBundle:
        """The keys that verify WIT-SVIDs of this trust domain now. Experimental."""
        return WitBundle(self.trust_domain, (self._wit.public,))

    @property
    def spiffe_bundle(self) -> SpiffeBundle:
        """Both, as the document that trust domains exchange (Trust Domain and Bundle §4).

        Its sequence number grows with every change of what is published.
        """
        return SpiffeBundle(
            self.trust_domain,
            x509_authorities=self.x509_bundle.authorities,
            jwt_authorities=self.jwt_bundle.authorities,
            sequence=self._sequence,
            refresh_hint=self._refresh_hint,
        )

    def issue_x509_svid(
        self, spiffe_id: SpiffeId | str, *, ttl: float = 3600.0, hint: str = "", dns_names: Sequence[str] = ()
    ) -> X509Svid:
        """Issue an X509-SVID with a new key.

        Args:
            spiffe_id: A workload of this trust domain.
            ttl: Seconds it is valid from now on; certificates count whole seconds.
            hint: Passed on to the workload, to tell several SVIDs apart (Workload API §5.2.1).
            dns_names: DNS SANs beside the SPIFFE ID.

        Raises:
            InvalidIdError: It is no workload's ID, or not of this trust domain.
        """
        return self._sign(self._own(spiffe_id), ttl=ttl, hint=hint, dns_names=dns_names)

    def forge_x509_svid(
        self, spiffe_id: SpiffeId | str, *, ttl: float = 3600.0, dns_names: Sequence[str] = ()
    ) -> X509Svid:
        """Sign an identity of *any* trust domain, as a compromised authority would.

        It is what demos and tests present to be refused: everything about it is in order, except
        that this authority has no say over that trust domain.
        """
        return self._sign(SpiffeId.parse(spiffe_id), ttl=ttl, hint="", dns_names=dns_names)

    def issue_jwt_svid(
        self, spiffe_id: SpiffeId | str, audience: str | Sequence[str], *, ttl: float = 300.0
    ) -> str:
        """Issue a JWT-SVID (JWT-SVID §2-3).

        Args:
            spiffe_id: A workload of this trust domain: the `sub`.
            audience: Who it is meant for, one or several.
            ttl: Seconds until `exp`; tokens count whole seconds.

        Returns:
            The token: a secret until it expires.

        Raises:
            InvalidIdError: It is no workload's ID, or not of this trust domain.
        """
        now = self._clock.now().timestamp()
        claims = {
            "sub": str(self._own(spiffe_id)),
            "aud": [audience] if isinstance(audience, str) else list(audience),
            "iat": int(now),
            "exp": math.ceil(now + ttl),
        }
        return self._jwt.active.sign(claims, typ="JWT")

    def issue_wit_svid(self, spiffe_id: SpiffeId | str, *, ttl: float = 300.0) -> tuple[str, str]:
        """Issue a WIT-SVID with a new key (WIT-SVID §2-4, incubating). Experimental.

        Args:
            spiffe_id: A workload of this trust domain: the `sub`.
            ttl: Seconds until `exp`; tokens count whole seconds.

        Returns:
            The token, and its private key as a JWK: both secrets.

        Raises:
            InvalidIdError: It is no workload's ID, or not of this trust domain.
        """
        key = new_key()
        now = self._clock.now().timestamp()
        claims = {
            "sub": str(self._own(spiffe_id)),
            "iat": int(now),
            "exp": math.ceil(now + ttl),
            "jti": secrets.token_hex(16),
            "cnf": {"jwk": JwtAuthority(None, key.public_key(), ALGORITHM).to_jwk()},
        }
        return self._wit.sign(claims, typ="wit+jwt"), private_jwk(key)

    def prepare_x509_authority(self) -> None:
        """Publish the next root in the bundle; SVIDs are still signed below the current one."""
        self._x509.prepare()
        self._published()

    def rotate_x509_authority(self) -> None:
        """Sign new SVIDs below a new root (the prepared one if any); the old one stays trusted."""
        self._x509.activate()
        self._published()

    def prepare_jwt_authority(self) -> None:
        """Publish the next JWT key in the bundle; JWT-SVIDs are still signed with the current one."""
        self._jwt.prepare()
        self._published()

    def rotate_jwt_authority(self) -> None:
        """Sign new JWT-SVIDs with a new key (the prepared one if any); the old one stays trusted."""
        self._jwt.activate()
        self._published()

    def retire_old_authorities(self) -> None:
        """Trust nothing any more that former authorities signed."""
        self._x509.retire_old()
        self._jwt.retire_old()
        self._published()

    def subscribe(self, notify: Callable[[], None]) -> Callable[[], None]:
        """Have `notify` called after every change of what is published.

        Returns:
            What ends the subscription when called.
        """
        self._subscribers.append(notify)
        return lambda: self._subscribers.remove(notify)

    def _published(self) -> None:
        self._sequence += 1
        for notify in tuple(self._subscribers):
            notify()

    def _own(self, value: SpiffeId | str) -> SpiffeId:
        spiffe_id = SpiffeId.parse(value)
        if spiffe_id.trust_domain != self.trust_domain or not spiffe_id.path:
            raise InvalidIdError(
                f"the authority of {self.trust_domain} cannot issue {spiffe_id}: "
                f"it must be a workload's ID, spiffe://{self.trust_domain}/…"
            )
        return spiffe_id

    def _sign(self, spiffe_id: SpiffeId, *, ttl: float, hint: str, dns_names: Sequence[str]) -> X509Svid:
        authority = self._x509.active
        key = new_key()
        leaf = issue_leaf(
            authority,
            spiffe_id,
            key,
            at=self._clock.now(),
            ttl=timedelta(seconds=ttl),
            dns_names=dns_names,
        )
        return X509Svid((leaf, *authority.chain), key, hint)
