"""What a decision point says of itself: where its endpoints are (AuthZEN Authorization API 1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self
from urllib.parse import urlsplit

from spiffe_client._values import dataclass
from spiffe_client.errors import PolicyError
from spiffe_client.policy._address import check_address, origin_of

__all__ = ["AuthZenMetadata", "well_known_url"]

_WELL_KNOWN: Final = "/.well-known/authzen-configuration"


def well_known_url(pdp: str) -> str:
    """Return where a decision point's metadata is: the well-known path goes before its own.

    Raises:
        PolicyError: It is no URL that may be asked.
    """
    parts = urlsplit(check_address(pdp, "decision point"))
    return f"{parts.scheme}://{parts.netloc}{_WELL_KNOWN}{parts.path.removesuffix('/')}"


@dataclass(frozen=True, slots=True)
class AuthZenMetadata:
    """A decision point's endpoints.

    Attributes:
        policy_decision_point: Its identifier, exactly as it was configured.
        access_evaluation_endpoint: Where one question is asked.
        access_evaluations_endpoint: Where several are; None where they cannot be.
    """

    policy_decision_point: str
    access_evaluation_endpoint: str
    access_evaluations_endpoint: str | None = None

    @classmethod
    def of(cls, pdp: str) -> Self:
        """Return the endpoints at their usual places, for a decision point without metadata.

        Raises:
            PolicyError: It is no URL that may be asked.
        """
        base = f"{check_address(pdp, 'decision point').removesuffix('/')}/access/v1"
        return cls(pdp, f"{base}/evaluation", f"{base}/evaluations")

    @classmethod
    def read(cls, document: Mapping[str, object], pdp: str) -> Self:
        """Read a metadata document.

        Args:
            document: As it was parsed.
            pdp: Whose it must be, exactly; its endpoints are at its origin.

        Raises:
            PolicyError: It is somebody else's, malformed, or sends questions elsewhere.
        """
        named = document.get("policy_decision_point")
        if named != pdp:
            raise PolicyError(
                f"the metadata of {pdp} says it is of {named!r:.200}: another decision point's answers would "
                f"be taken for this one's"
            )
        evaluations = document.get("access_evaluations_endpoint")
        return cls(
            pdp,
            _endpoint(document.get("access_evaluation_endpoint"), "access_evaluation_endpoint", pdp),
            None if evaluations is None else _endpoint(evaluations, "access_evaluations_endpoint", pdp),
        )


def _endpoint(url: object, name: str, pdp: str) -> str:
    endpoint = check_address(url, name)
    if origin_of(endpoint) != origin_of(pdp):
        raise PolicyError(f"{name} of {pdp} is at {origin_of(endpoint)}, which is somebody else's origin")
    return endpoint
