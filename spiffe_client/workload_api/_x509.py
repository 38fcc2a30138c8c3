"""What X.509 messages mean: contexts and bundles that are checked before anybody sees them."""

from __future__ import annotations

from datetime import datetime

from spiffe_client._frames import border
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.errors import BundleError, ProtocolError, X509SvidError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api._context import X509Context
from spiffe_client.workload_api._messages import X509BundlesResponse, X509SvidEntry, X509SvidResponse
from spiffe_client.workload_api._reading import (
    check_mandatory,
    id_of,
    read_bundle_set,
    read_bundles,
    usable_entries,
)
from spiffe_client.workload_api._rpc import Refused

__all__ = ["read_x509_bundles", "read_x509_context"]


@border
def read_x509_context(data: bytes, *, at: datetime, refused: Refused) -> X509Context:
    """Read an X509SVIDResponse.

    Args:
        data: The message.
        at: When the SVIDs have to be valid.
        refused: Told a `BundleError` for each federated bundle that is left out.

    Raises:
        ProtocolError: It is malformed, or a mandatory field is empty or makes no sense.
        X509SvidError: One of its SVIDs is not what it must be; none is used then.
    """
    response = X509SvidResponse.decode(data)
    check_mandatory("X509SVIDResponse", response, "svids")
    for number, entry in enumerate(response.svids):
        where = f"X509SVIDResponse.svids[{number}]"
        check_mandatory(where, entry, "spiffe_id", "x509_svid", "x509_svid_key", "bundle")
    own: dict[TrustDomain, X509Bundle] = {}
    svids = []
    for where, entry in usable_entries("X509SVIDResponse.svids", response.svids):
        svid, bundle = _read_svid(where, entry, at)
        if own.setdefault(bundle.trust_domain, bundle) != bundle:
            raise ProtocolError(f"{where}: another bundle of {bundle.trust_domain} than the entries before")
        svids.append(svid)
    bundles = {**_federated(response, own, refused), **own}
    return X509Context(tuple(svids), BundleSet(bundles.values()), svids[0], response.crl)


def read_x509_bundles(data: bytes, *, refused: Refused) -> BundleSet[X509Bundle]:
    """Read an X509BundlesResponse.

    Args:
        data: The message.
        refused: Told a `BundleError` for each bundle that is left out.

    Raises:
        ProtocolError: It is malformed or has no usable bundle.
    """
    response = X509BundlesResponse.decode(data)
    return read_bundle_set("X509BundlesResponse.bundles", response.bundles, X509Bundle.parse_der, refused)


def _read_svid(where: str, entry: X509SvidEntry, at: datetime) -> tuple[X509Svid, X509Bundle]:
    """Return an SVID that its own bundle vouches for at this moment, and the bundle."""
    spiffe_id = id_of(where, entry.spiffe_id)
    try:
        bundle = X509Bundle.parse_der(spiffe_id.trust_domain, entry.bundle)
    except BundleError as error:
        # Not a BundleError: it costs the whole message, not one trust domain.
        raise ProtocolError(f"{where}: bundle: {error}") from error
    try:
        svid = X509Svid.parse_der(entry.x509_svid, entry.x509_svid_key, hint=entry.hint)
        _check(svid, spiffe_id, bundle, at)
    except X509SvidError as error:
        raise X509SvidError(f"{where} ({spiffe_id}): {error}") from error
    return svid, bundle


def _check(svid: X509Svid, spiffe_id: SpiffeId, bundle: X509Bundle, at: datetime) -> None:
    if svid.id != spiffe_id:
        raise X509SvidError(f"the certificate is of {svid.id}")
    svid.verify(BundleSet([bundle]), at=at)


def _federated(
    response: X509SvidResponse, own: dict[TrustDomain, X509Bundle], refused: Refused
) -> dict[TrustDomain, X509Bundle]:
    where = "X509SVIDResponse.federated_bundles"
    federated = read_bundles(where, response.federated_bundles, X509Bundle.parse_der, refused)
    for trust_domain in own.keys() & federated.keys():
        # Who may federate must not be able to replace the own roots.
        if federated.pop(trust_domain) != own[trust_domain]:
            refused(
                BundleError(f"{where}: another bundle of the own trust domain {trust_domain} is left out")
            )
    return federated
