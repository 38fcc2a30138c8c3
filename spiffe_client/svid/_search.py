"""Finding the certification paths from a leaf to an authority of its own trust domain.

Each authority of the bundle is an anchor, root or not. What a peer sends besides its leaf are
hints: unordered, superfluous and forged ones do no harm. Issuers are found by name and signature;
where several fit, each is tried, so that an expired twin of a root hides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spiffe_client.bundle import Certificate, X509Bundle
from spiffe_client.errors import X509SvidError
from spiffe_client.svid._signature import signed_by

__all__ = ["MAX_CHAIN", "MAX_SIGNATURES", "find_paths"]

#: The most certificates of a peer that are looked at.
MAX_CHAIN = 16
#: The most signatures verified for one leaf: forged look-alikes must not buy unlimited work.
MAX_SIGNATURES = 100


def find_paths(chain: Sequence[Certificate], bundle: X509Bundle) -> Iterator[tuple[Certificate, ...]]:
    """Yield the paths that names and signatures allow; each is yet to be judged.

    Args:
        chain: The leaf first, then hints.
        bundle: Of the leaf's trust domain.

    Yields:
        Leaf, intermediates if any, authority: each signed by the next.

    Raises:
        X509SvidError: The chain is too long, or there are too many look-alikes to try.
    """
    if len(chain) > MAX_CHAIN:
        raise X509SvidError(f"a chain of {len(chain)} certificates; at most {MAX_CHAIN} are looked at")
    return _Search(chain, bundle).paths()


class _Search:
    def __init__(self, chain: Sequence[Certificate], bundle: X509Bundle) -> None:
        self._leaf = chain[0]
        self._anchors = bundle.certificates
        self._pool = [c for c in chain[1:] if c.der not in bundle.ders]
        self._signatures = 0

    def paths(self) -> Iterator[tuple[Certificate, ...]]:
        return self._extended((self._leaf,))

    def _extended(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        for anchor in self._anchors:
            if self._issued(anchor, path[-1]):
                yield (*path, anchor)
        for intermediate in self._pool:
            if intermediate not in path and self._issued(intermediate, path[-1]):
                yield from self._extended((*path, intermediate))

    def _issued(self, issuer: Certificate, subject: Certificate) -> bool:
        if subject.issuer != issuer.subject:
            return False
        # Counted whatever comes of it: a key that cannot be read takes its time, too.
        if self._signatures == MAX_SIGNATURES:
            raise X509SvidError(f"no path among the first {MAX_SIGNATURES} signatures; too many look-alikes")
        self._signatures += 1
        return signed_by(subject, issuer)
