"""Rules that all messages share: mandatory fields, equal hints, bundles by trust domain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from spiffe_client._frames import without_frames
from spiffe_client.bundle import BundleSet
from spiffe_client.errors import BundleError, InvalidIdError, ProtocolError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.workload_api._fields import Message
from spiffe_client.workload_api._rpc import Refused

__all__ = ["check_mandatory", "id_of", "read_bundle_set", "read_bundles", "usable_entries"]


class _Entry(Protocol):
    @property
    def hint(self) -> str: ...


class _Bundle(Protocol):
    @property
    def trust_domain(self) -> TrustDomain: ...


_E = TypeVar("_E", bound=_Entry)
_B = TypeVar("_B", bound=_Bundle)
_T = TypeVar("_T")


def check_mandatory(where: str, message: Message, *names: str) -> None:
    """Return if none of these fields is at its default.

    Raises:
        ProtocolError: One is; the message is to be discarded (Workload API §4.5).
    """
    for name in names:
        if not getattr(message, name):
            raise ProtocolError(f"{where}: the mandatory field {name} is empty")


def id_of(where: str, text: str) -> SpiffeId:
    """Return the SPIFFE ID in a field.

    Raises:
        ProtocolError: It is none.
    """
    try:
        return SpiffeId.parse(text)
    except InvalidIdError as error:
        raise ProtocolError(f"{where}: spiffe_id: {error}") from error


def usable_entries(where: str, entries: Sequence[_E]) -> Iterator[tuple[str, _E]]:
    """Yield the entries and where each stands, without those whose hint an earlier one has.

    Of several with the same hint the first is to be selected (Workload API §5.2.1, §6.2.1).
    """
    hints: set[str] = set()
    for number, entry in enumerate(entries):
        if entry.hint not in hints:
            yield f"{where}[{number}]", entry
        if entry.hint:
            hints.add(entry.hint)


def read_bundles(
    where: str, entries: Mapping[str, _T], parse: Callable[[TrustDomain, _T], _B], refused: Refused
) -> dict[TrustDomain, _B]:
    """Read a map of bundles by the SPIFFE ID of their trust domains.

    Args:
        where: For errors.
        entries: The map.
        parse: Makes a bundle.
        refused: Told a `BundleError` for each entry that cannot be used; it costs only itself.
    """
    bundles: dict[TrustDomain, _B] = {}
    for key, entry in entries.items():
        try:
            trust_domain = _trust_domain(key, bundles)
            bundles[trust_domain] = parse(trust_domain, entry)
        except Exception as error:  # noqa: BLE001 - border: whatever a foreign bundle comes to must not cost ours
            shown = key if len(key) <= 120 else key[:120] + "…"
            problem = BundleError(f"{where}: the bundle of {shown!r} is left out: {error}")
            problem.__cause__ = without_frames(error)
            refused(problem)
    return bundles


def read_bundle_set(
    where: str, entries: Mapping[str, _T], parse: Callable[[TrustDomain, _T], _B], refused: Refused
) -> BundleSet[_B]:
    """Read the mandatory map of bundles of a message that has nothing else.

    Raises:
        ProtocolError: None of them can be used.
    """
    bundles = read_bundles(where, entries, parse, refused)
    if not bundles:
        raise ProtocolError(f"{where}: there is no bundle that can be used")
    return BundleSet(bundles.values())


def _trust_domain(key: str, others: Collection[TrustDomain]) -> TrustDomain:
    """Return the trust domain that a key names, by its SPIFFE ID or, as some servers do, its name."""
    if "://" in key and SpiffeId.parse(key).path:
        raise InvalidIdError("it names a workload, not a trust domain")
    trust_domain = TrustDomain.parse(key)
    if trust_domain in others:
        raise BundleError("its trust domain is there already, in another spelling")
    return trust_domain
