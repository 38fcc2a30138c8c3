"""The snapshot that everything else reads, and the protocols of those who hold it."""

from __future__ import annotations

from spiffe_client.errors import SourceClosedError
from spiffe_client.workload_api import RotatingX509Source, X509Context
from tests.support.pki import bundle_set, new_authority


class Rotating:
    """A source with nothing to serve."""

    @property
    def x509_context(self) -> X509Context:
        raise SourceClosedError("closed")

    def before_publish(self, prepare: object) -> None: ...

    def after_publish(self, notify: object) -> None: ...


def a_context() -> X509Context:
    authority = new_authority("a.test")
    svid = authority.leaf("spiffe://a.test/x").svid
    return X509Context((svid,), bundle_set(authority), svid)


class TestX509Context:
    def test_is_a_source_of_itself(self) -> None:
        """A snapshot can stand wherever a source does: files need no source class."""
        context = a_context()

        assert context is context.x509_context
        assert context.bundles is context.x509_bundles

    def test_is_compared_by_identity(self) -> None:
        """Two snapshots with the same content are two generations."""
        context = a_context()

        assert context != X509Context(context.svids, context.bundles, context.svid)
        assert {context: 1}[context] == 1

    def test_shows_no_key(self) -> None:
        """The private key is not in what a log would print."""
        assert "PrivateKey" not in repr(a_context())


class TestRotatingX509Source:
    def test_told_by_its_methods(self) -> None:
        """A static context is a source and does not rotate."""
        assert isinstance(Rotating(), RotatingX509Source)
        assert not isinstance(a_context(), RotatingX509Source)
