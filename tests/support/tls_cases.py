"""The 43 verification cases: one peer each, the bundles it is judged by, and the verdict.

Trust domains are `a.test` (the judge's own) and `b.test` (federated, and hostile where it says
so). Each case is built when asked for and once in a process: `case.build("server")` for a server
that is judged by a client, `case.build("client")` for the mirror image. Chains hold what the peer
sends, leaf first; bundles hold what the judge trusts, in an order that matters to OpenSSL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cryptography import x509

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.ids import TrustDomain
from tests.support.pki import (
    CLIENT_AUTH,
    RSA_KEY,
    SERVER_AUTH,
    Authority,
    Identity,
    days,
    name,
    new_authority,
)

__all__ = ["CASES", "Case", "Judged"]

Role = Literal["server", "client"]
Bundles = Mapping[str, tuple[Authority, ...]]

A_ID = "spiffe://a.test/peer"
B_ID = "spiffe://b.test/peer"


@dataclass(frozen=True)
class Judged:
    """A peer and what it is judged by."""

    peer: Identity
    bundles: BundleSet[X509Bundle]

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return self.peer.chain


@dataclass(frozen=True)
class Case:
    """One of the 43: its name, the verdict, and how to build it."""

    name: str
    accepted: bool
    make: Callable[[Role], tuple[Identity, Bundles]]

    def build(self, role: Role) -> Judged:
        return _build(self, role)

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=None)
def _build(case: Case, role: Role) -> Judged:
    peer, bundles = case.make(role)
    return Judged(
        peer,
        BundleSet(
            X509Bundle(TrustDomain(td), tuple(a.certificate for a in authorities))
            for td, authorities in bundles.items()
        ),
    )


CASES: list[Case] = []


def _accept(text: str) -> Callable[[Callable[[], tuple[Identity, Bundles]]], None]:
    return lambda make: CASES.append(Case(text, True, lambda _: make()))


def _refuse(text: str) -> Callable[[Callable[[], tuple[Identity, Bundles]]], None]:
    return lambda make: CASES.append(Case(text, False, lambda _: make()))


def _simple(accepted: bool, text: str, make_leaf: Callable[[Authority, Role], Identity]) -> None:
    """A root of a.test that signs the peer directly."""

    def make(role: Role) -> tuple[Identity, Bundles]:
        root = new_authority("a.test")
        return make_leaf(root, role), {"a.test": (root,)}

    CASES.append(Case(text, accepted, make))


def _through(accepted: bool, text: str, make_inter: Callable[[Authority], Authority]) -> None:
    """A root of a.test, an intermediate, and the peer below it."""

    def make(_: Role) -> tuple[Identity, Bundles]:
        root = new_authority("a.test")
        return make_inter(root).leaf(A_ID), {"a.test": (root,)}

    CASES.append(Case(text, accepted, make))


# --- accepted ---------------------------------------------------------------------------------

_simple(True, "root to leaf", lambda root, _: root.leaf(A_ID))
_through(True, "root to intermediate to leaf", lambda root: root.intermediate())


@_accept("the bundle is the intermediate, the leaf alone is sent")
def _() -> tuple[Identity, Bundles]:
    inter = new_authority("a.test").intermediate()
    return inter.leaf(A_ID).sending(), {"a.test": (inter,)}


@_accept("the bundle is the intermediate, leaf and intermediate are sent")
def _() -> tuple[Identity, Bundles]:
    inter = new_authority("a.test").intermediate()
    return inter.leaf(A_ID), {"a.test": (inter,)}


@_accept("the bundle is root and intermediate")
def _() -> tuple[Identity, Bundles]:
    root = new_authority("a.test")
    inter = root.intermediate()
    return inter.leaf(A_ID), {"a.test": (root, inter)}


_simple(True, "empty subject, SAN critical", lambda r, _: r.leaf(A_ID, subject=name(), san_critical=True))
_simple(
    True, "empty subject, SAN not critical", lambda r, _: r.leaf(A_ID, subject=name(), san_critical=False)
)
_simple(True, "no EKU", lambda r, _: r.leaf(A_ID, eku=None))
_simple(True, "no basicConstraints on the leaf", lambda r, _: r.leaf(A_ID, ca=None))
_simple(True, "RSA leaf", lambda r, _: r.leaf(A_ID, key=RSA_KEY()))
_simple(True, "DNS SAN beside the URI SAN", lambda r, _: r.leaf(A_ID, dns=("peer.a.test",)))


@_accept("a CA without a URI SAN")
def _() -> tuple[Identity, Bundles]:
    root = new_authority("a.test", uri=None)
    return root.leaf(A_ID), {"a.test": (root,)}


_through(True, "URI name constraints permit", lambda root: root.intermediate(permitted_uris=("a.test",)))


@_accept("RSA root")
def _() -> tuple[Identity, Bundles]:
    root = new_authority("a.test", key=RSA_KEY())
    return root.leaf(A_ID), {"a.test": (root,)}


@_accept("roots of A and B have the same DN, told apart by SKI")
def _() -> tuple[Identity, Bundles]:
    a, b = (new_authority(td, subject=name("The Root")) for td in ("a.test", "b.test"))
    return a.leaf(A_ID), {"b.test": (b,), "a.test": (a,)}


@_accept("roots of A and B have the same DN, neither has SKI or AKI")
def _() -> tuple[Identity, Bundles]:
    a, b = (new_authority(td, subject=name("The Root"), ski=None) for td in ("a.test", "b.test"))
    return a.leaf(A_ID, aki=False), {"b.test": (b,), "a.test": (a,)}


@_accept("two roots of A have the same DN")
def _() -> tuple[Identity, Bundles]:
    old, new = (new_authority("a.test", subject=name("The Root")) for _ in range(2))
    return new.leaf(A_ID), {"a.test": (old, new)}


@_accept("the expired twin of the root comes first in the bundle")
def _() -> tuple[Identity, Bundles]:
    root = new_authority("a.test")
    twin = new_authority(
        "a.test", key=root.key, subject=root.certificate.subject, not_before=days(-9), not_after=days(-1)
    )
    return root.leaf(A_ID), {"a.test": (twin, root)}


@_accept("B cloned the DN and SKI of A's root, B comes first")
def _() -> tuple[Identity, Bundles]:
    a = new_authority("a.test")
    return a.leaf(A_ID), {"b.test": (a.cloned_by("b.test"),), "a.test": (a,)}


@_accept("B cloned the DN and SKI of A's root, A comes first")
def _() -> tuple[Identity, Bundles]:
    a = new_authority("a.test")
    return a.leaf(A_ID), {"a.test": (a,), "b.test": (a.cloned_by("b.test"),)}


# --- refused: whose signature it is -------------------------------------------------------------


def _both() -> tuple[Authority, Authority, Bundles]:
    a, b = new_authority("a.test"), new_authority("b.test")
    return a, b, {"a.test": (a,), "b.test": (b,)}


@_refuse("B signs an ID of A")
def _() -> tuple[Identity, Bundles]:
    _, b, bundles = _both()
    return b.leaf(A_ID), bundles


@_refuse("B signs an ID of A and sends A's root along")
def _() -> tuple[Identity, Bundles]:
    a, b, bundles = _both()
    return b.leaf(A_ID).sending(a.certificate), bundles


@_refuse("an intermediate of B poses under the DN of A's root")
def _() -> tuple[Identity, Bundles]:
    a, b, bundles = _both()
    return b.intermediate(subject=a.certificate.subject).leaf(A_ID), bundles


@_refuse("B's clone of A's root signs an ID of A")
def _() -> tuple[Identity, Bundles]:
    a = new_authority("a.test")
    clone = a.cloned_by("b.test")
    return clone.leaf(A_ID), {"a.test": (a,), "b.test": (clone,)}


@_refuse("unknown root")
def _() -> tuple[Identity, Bundles]:
    *_, bundles = _both()
    return new_authority("a.test").leaf(A_ID), bundles


@_refuse("unknown trust domain")
def _() -> tuple[Identity, Bundles]:
    a, _, bundles = _both()
    return a.leaf("spiffe://c.test/peer"), bundles


# --- refused: the leaf --------------------------------------------------------------------------

_simple(False, "leaf is a CA", lambda r, _: r.leaf(A_ID, ca=True))
_simple(
    False, "leaf has keyCertSign", lambda r, _: r.leaf(A_ID, usage={"digital_signature", "key_cert_sign"})
)
_simple(False, "leaf has no digitalSignature", lambda r, _: r.leaf(A_ID, usage={"key_encipherment"}))
_simple(False, "leaf has no keyUsage", lambda r, _: r.leaf(A_ID, usage=None))
_simple(False, "two URI SANs", lambda r, _: r.leaf(A_ID, "spiffe://a.test/other"))
_simple(False, "no URI SAN", lambda r, _: r.leaf(dns=("peer.a.test",)))
_simple(False, "ID without a path", lambda r, _: r.leaf("spiffe://a.test"))
_simple(False, "https URI", lambda r, _: r.leaf("https://a.test/peer"))
_simple(
    False,
    "EKU of the other role only",
    lambda r, role: r.leaf(A_ID, eku=(CLIENT_AUTH if role == "server" else SERVER_AUTH,)),
)
_simple(False, "expired leaf", lambda r, _: r.leaf(A_ID, not_before=days(-9), not_after=days(-1)))
_simple(False, "leaf not yet valid", lambda r, _: r.leaf(A_ID, not_before=days(1), not_after=days(9)))

# --- refused: the path --------------------------------------------------------------------------


@_refuse("the only root has expired")
def _() -> tuple[Identity, Bundles]:
    root = new_authority("a.test", not_before=days(-9), not_after=days(-1))
    return root.leaf(A_ID), {"a.test": (root,)}


_through(False, "issuer has CA false", lambda root: root.intermediate(ca=False))
_through(False, "issuer has no keyCertSign", lambda root: root.intermediate(usage={"crl_sign"}))
_through(False, "issuer has no basicConstraints", lambda root: root.intermediate(ca=None))
_through(False, "pathlen 0 is violated", lambda root: root.intermediate(pathlen=0).intermediate(subject=name("below")))
_through(
    False, "URI name constraints are violated", lambda root: root.intermediate(permitted_uris=("other.test",))
)
