"""Whether a certificate chain proves the SPIFFE ID in its leaf (X509-SVID §5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spiffe_client.bundle import BundleSet, Certificate, X509Bundle
from spiffe_client.errors import X509SvidError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid._extensions import read_certificate
from spiffe_client.svid._leaf import LEAF_RULES, Leaf
from spiffe_client.svid._path import PATH_RULES, Budget, Path
from spiffe_client.svid._rules import Check, Outcome, Rule, judge
from spiffe_client.svid._search import find_paths

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["examine_x509_svid", "verify_x509_svid"]


def verify_x509_svid(
    chain: Sequence[Certificate | x509.Certificate], bundles: BundleSet[X509Bundle], *, at: datetime
) -> SpiffeId:
    """Verify a chain against the bundle of the trust domain in its own SPIFFE ID, and no other.

    Args:
        chain: The leaf first; intermediates in any order. At most 16 certificates, as `X509Svid` has
            them or as `cryptography` does.
        bundles: The trust domains that are trusted.
        at: The time to verify for, aware.

    Returns:
        Whose chain it is: proven.

    Raises:
        X509SvidError: The leaf breaks a rule, or no path leads to an authority of its trust domain.
        BundleNotFoundError: There is no bundle for its trust domain.
        ValueError: `at` has no time zone.
    """
    certificates = _certificates(chain, at)
    leaf = Leaf(certificates[0])
    for outcome in _outcomes(leaf, certificates, bundles, at, explain=False):
        if outcome.error is not None:
            raise outcome.error
    return leaf.id


def examine_x509_svid(
    chain: Sequence[Certificate | x509.Certificate], bundles: BundleSet[X509Bundle], *, at: datetime
) -> list[Check]:
    """List each check that `verify_x509_svid` makes, and how it came out; for people to read.

    Checks that make no sense because another failed are left out. The chain is good if every
    check is. Where there are several paths, the one that gets farthest is shown.

    Args:
        chain: As for `verify_x509_svid`.
        bundles: As for `verify_x509_svid`.
        at: As for `verify_x509_svid`.

    Raises:
        X509SvidError: The chain is empty.
        ValueError: `at` has no time zone.
    """
    certificates = _certificates(chain, at)
    outcomes = _outcomes(Leaf(certificates[0]), certificates, bundles, at, explain=True)
    return [outcome.check for outcome in outcomes]


def _certificates(chain: Sequence[Certificate | x509.Certificate], at: datetime) -> list[Certificate]:
    if at.tzinfo is None:
        raise ValueError("at= must have a time zone")
    if not chain:
        raise X509SvidError("the chain is empty")
    return [read_certificate(certificate) for certificate in chain]


def _outcomes(
    leaf: Leaf, chain: Sequence[Certificate], bundles: BundleSet[X509Bundle], at: datetime, *, explain: bool
) -> Iterator[Outcome]:
    identified = False
    for outcome in judge(LEAF_RULES, leaf):
        identified = identified or (outcome.rule.name == "spiffe_id" and outcome.error is None)
        yield outcome
    if not identified:
        return
    domain = leaf.id.trust_domain
    outcome = Outcome(_BUNDLE, (bundles, leaf))
    yield outcome
    if outcome.error is None:
        yield from _path_outcomes(chain, bundles[domain], at, explain=explain)


def _has_authorities(presented: tuple[BundleSet[X509Bundle], Leaf]) -> None:
    bundles, leaf = presented
    if not bundles[leaf.id.trust_domain].certificates:
        raise X509SvidError(f"the bundle of {leaf.id.trust_domain} is empty: nothing from it is trusted")


_BUNDLE = Rule(
    "bundle", "X509-SVID §5.1", "there is a bundle for the trust domain of the ID", _has_authorities
)


def _path_outcomes(
    chain: Sequence[Certificate], bundle: X509Bundle, at: datetime, *, explain: bool
) -> list[Outcome]:
    """Judge each path until one is good; return the outcomes of that one, or of the best.

    Without `explain` a path is left at its first broken rule: what is refused should cost little.
    """
    best: list[Outcome] = []
    budget = Budget()

    def issued(bundle: X509Bundle) -> None:
        nonlocal best
        for certificates in find_paths(chain, bundle):
            outcomes = _judged(Path(certificates, at, bundle.trust_domain, budget), explain=explain)
            best = max(best, outcomes, key=_kept) if best else outcomes
            if all(outcome.error is None for outcome in outcomes):
                return
        if not best:
            raise X509SvidError(
                f"no authority in the bundle of {bundle.trust_domain} issued it, "
                f"nor did an intermediate that was sent along and leads to one"
            )

    rule = Rule(
        "signed",
        "RFC 5280 §6.1.3(a)(1)",
        "signatures lead from the leaf to an authority of its bundle",
        issued,
    )
    return [Outcome(rule, bundle), *best]


def _judged(path: Path, *, explain: bool) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for outcome in judge(PATH_RULES, path):
        outcomes.append(outcome)
        if outcome.error is not None and not explain:
            break
    return outcomes


def _kept(outcomes: list[Outcome]) -> int:
    return sum(outcome.error is None for outcome in outcomes)
