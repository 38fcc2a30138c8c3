"""The self-test finds what it is there to find."""

from __future__ import annotations

from typing import Any

import pytest

from spiffe_client.errors import PeerUnverifiedError
from spiffe_client.tls import SelfTestResult, _check, _guard, _verifying, self_test


def outcome() -> dict[str, bool]:
    return {result.name: result.ok for result in self_test()}


class TestSelfTest:
    def test_all_is_well_on_this_python(self) -> None:
        """On every Python and platform that runs this suite."""
        good, forged, unauthorised = self_test()
        assert SelfTestResult("good", True, "connected") == good
        assert "refused: peer claims to be spiffe://here.test/server, and no authority of here.test vouches for it" == forged.detail
        assert "refused: peer spiffe://here.test/other is not allowed by custom(the self-test's server)" == unauthorised.detail

    @pytest.mark.parametrize(
        ("places", "caught"),
        [
            # Two checks stand in a forger's way, and each alone is enough.
            ([(_check, "verify_anchor"), (_check.Proofs, "require")], "forged"),
            ([(_check.PeerCheck, "_ask")], "unauthorised"),
        ],
    )
    def test_notices_a_check_that_is_gone(
        self, places: list[tuple[Any, str]], caught: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A platform on which a check does not bite fails that line and no other."""
        for place, name in places:
            monkeypatch.setattr(place, name, lambda *_: None)
        assert {"good": True, "forged": True, "unauthorised": True, caught: False} == outcome()

    def test_notices_a_python_that_does_not_tell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no chain is reported, everybody is refused: safe, and of no use."""
        monkeypatch.setattr(_check, "verified_chain", lambda _: ())
        good, forged, unauthorised = self_test()
        assert (False, True, False) == (good.ok, forged.ok, unauthorised.ok)
        assert "failed: PeerUnverifiedError" in good.detail

    def test_notices_that_data_does_not_arrive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A handshake alone proves little."""

        def gate(*_: object) -> None:
            raise PeerUnverifiedError("closed")

        monkeypatch.setattr(_guard.Guard, "before_io", gate)
        assert {"good": False, "forged": True, "unauthorised": True} == outcome()

    def test_notices_that_other_data_arrives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes out must be what went in."""
        monkeypatch.setattr(_verifying._VerifyingObject, "read", lambda *_: b"bye")
        assert {"good": False, "forged": True, "unauthorised": True} == outcome()
