"""What the steps of `doctor` find out one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api import Endpoint

__all__ = ["Ailment", "Found", "Patient"]


@dataclass(slots=True)
class Patient:
    """The way to an identity, as far as it is known.

    Attributes:
        address: What the command line says, if it says anything.
        timeout: Seconds that an answer may take.
        endpoint: Once the address is understood.
        answer: The Workload API's answer, undecoded: once it gave one.
        svids: Once they are read; their dates and chains are not judged by that.
        bundles: The bundles of the SVIDs' own trust domains.
    """

    address: str | None
    timeout: float
    endpoint: Endpoint = field(init=False)
    answer: bytes = field(init=False, repr=False)
    svids: tuple[X509Svid, ...] = ()
    bundles: BundleSet[X509Bundle] = field(default_factory=BundleSet)


@dataclass(frozen=True, slots=True)
class Found:
    """What a step found that is as it must be.

    Attributes:
        detail: In words.
        facts: The same as values with stable names.
    """

    detail: str
    facts: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


class Ailment(Exception):  # noqa: N818 - not an error of this program but what it is there to find
    """What is wrong, where no error of ours says it.

    Attributes:
        code: Stable, snake_case.
        advice: What to do.
        vital: Whether the steps behind it make no sense, even if they would after its step.
    """

    def __init__(self, message: str, *, code: str, advice: str, vital: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice
        self.vital = vital
