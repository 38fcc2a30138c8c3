"""The 43 cases of chain verification get the verdict that a TLS handshake gives."""

from __future__ import annotations

import pytest

from spiffe_client.errors import BundleNotFoundError, X509SvidError
from spiffe_client.svid import examine_x509_svid, verify_x509_svid
from tests.support.pki import days
from tests.support.tls_cases import CASES, Case

NOW = days(0)


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("case", CASES, ids=str)
class TestVerdict:
    def test_verification_gives_it(self, case: Case, role: str) -> None:
        """X509-SVID §5: accepted returns the ID in the leaf, refused is a typed error."""
        judged = case.build(role)
        if case.accepted:
            assert "spiffe://a.test/peer" == str(verify_x509_svid(judged.chain, judged.bundles, at=NOW))
        else:
            with pytest.raises((X509SvidError, BundleNotFoundError)):
                verify_x509_svid(judged.chain, judged.bundles, at=NOW)

    def test_examination_agrees(self, case: Case, role: str) -> None:
        """The list of checks that people see comes to the same verdict."""
        judged = case.build(role)
        checks = examine_x509_svid(judged.chain, judged.bundles, at=NOW)
        assert case.accepted == all(check.ok for check in checks)
