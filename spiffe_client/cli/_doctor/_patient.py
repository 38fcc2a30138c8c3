"""What the steps of `doctor` find out one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api import Endpoint

__all__ = ["Ailment", "Examination", "Found", "Patient"]


@dataclass(slots=True)
class Patient:
    """The way to an identity, as far as it is known.

    Attributes:
        address: What the command line says, if it says anything.
        timeout: Seconds that an answer may take.
        advice: What to do where nothing says the address.
        endpoint: Once the address is understood.
        answer: The Workload API's answer, undecoded: once it gave one.
        svids: Once they are read; their dates and chains are not judged by that.
        bundles: The bundles of the SVIDs' own trust domains.
    """

    address: str | None
    timeout: float
    advice: str
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


@dataclass(frozen=True, slots=True)
class Examination:
    """One step.

    Attributes:
        name: Stable, lower case with underscores.
        look: Returns what it found, or raises an `Ailment` or a `SpiffeError`.
        vital: Whether the steps behind it make no sense if it fails.
        about: What else to say if it fails.
        needs_identity: Whether it makes no sense without an identity, where that comes before.
    """

    name: str
    look: Callable[[Patient], Awaitable[Found]]
    vital: bool = True
    about: Callable[[], Found] | None = None
    needs_identity: bool = False
