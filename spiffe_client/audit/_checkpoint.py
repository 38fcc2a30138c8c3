"""Checkpoints: the workload's signature under all that a trail says so far."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from spiffe_client._jose import Jws, SigningKey, sign_bytes, signed_by
from spiffe_client._json import decode_base64url
from spiffe_client.audit._record import Fact, Record, moment_of
from spiffe_client.errors import AuditError, SourceClosedError, SpiffeError

if TYPE_CHECKING:
    from spiffe_client.bundle import BundleSet, Certificate, X509Bundle
    from spiffe_client.ids import SpiffeId

__all__ = ["Notary", "Signer", "SigningSvid", "verify_checkpoint"]

_log = logging.getLogger("spiffe_client")

_MOST_CERTIFICATES = 16
_CURVES: Final[Mapping[str, str]] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class SigningSvid(Protocol):
    """What signs: an `X509Svid`."""

    @property
    def id(self) -> SpiffeId:
        """Whose it is."""
        ...

    @property
    def ders(self) -> tuple[bytes, ...]:
        """Its certificates, DER, the leaf first."""
        ...

    @property
    def private_key(self) -> SigningKey:
        """The leaf's key."""
        ...

    @property
    def not_after(self) -> datetime:
        """When the leaf expires."""
        ...


#: Returns the X509-SVID of now; it may raise while there is none.
Signer: TypeAlias = Callable[[], SigningSvid]


def _statement(trail: str, seq: int, prev: str, at: str, *, final: bool) -> bytes:
    # What is signed names its purpose, so that no signature for something else can be one of these.
    ending = "final" if final else "open"
    return f"spiffe-client audit checkpoint v1\n{trail}\n{seq}\n{prev}\n{at}\n{ending}\n".encode()


class Notary:
    """Makes checkpoints with the SVID of the moment.

    Args:
        signer: Returns it; None makes checkpoints without a signature.

    Attributes:
        signs: Whether there is a signer.
    """

    def __init__(self, signer: Signer | None) -> None:
        self.signs = signer is not None
        self._signer = signer
        self._last: SigningSvid | None = None
        self._pinned = ""

    def pin(self, workload: str) -> None:
        """Sign as this workload only: a trail is one workload's. Empty is as whoever signs first."""
        self._pinned = workload

    def svid(self, at: datetime) -> SigningSvid | None:
        """Return what can sign now, None if nothing can.

        A source that was closed before its trail, as nested `with` blocks do, leaves what it had last
        to close the trail with. One that was withdrawn or stopped leaves nothing.
        """
        if self._signer is None:
            return None
        try:
            self._last = self._signer()
        except SourceClosedError:
            pass
        except Exception:  # noqa: BLE001 - border to user code: without an identity there is no signature
            self._last = None
        if self._last is not None and self._last.not_after <= at:
            self._last = None
        return self._last

    def meet(self, at: datetime) -> None:
        """Look who signs while nobody is known: a source may be gone again before the first checkpoint is due."""
        if self._last is None:
            self.svid(at)

    def facts(
        self, trail: str, seq: int, prev: str, at: str, svid: SigningSvid | None, *, final: bool
    ) -> dict[str, Fact]:
        """Return what a checkpoint says.

        Args:
            trail: The trail's id.
            seq: The checkpoint's own number, which is how many records are before it.
            prev: The hash of the last of them.
            at: The checkpoint's time, as it will be written.
            svid: What signs.
            final: Whether the trail is closed with it.
        """
        facts: dict[str, Fact] = {"records": seq, "final": final}
        if svid is None:
            return facts
        workload = str(svid.id)
        if self._pinned not in ("", workload):
            _log.error("the audit trail is of %s, and is not signed as %s", self._pinned, workload)
            return facts
        data = _statement(trail, seq, prev, at, final=final)
        try:
            alg, signature = sign_bytes(data, svid.private_key)
        except Exception as error:  # noqa: BLE001 - keys may be kept elsewhere, and fail in their own way
            _log.error("the audit trail cannot be signed: %s", type(error).__name__)
            return facts
        self._pinned = workload
        signed = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
        chain = " ".join(base64.b64encode(der).decode() for der in svid.ders)
        return {**facts, "workload": workload, "alg": alg, "signature": signed, "certificates": chain}


def verify_checkpoint(
    record: Record, *, trail: str, line: int, bundles: BundleSet[X509Bundle] | None
) -> SpiffeId | None:
    """Verify a checkpoint's signature; return whose it is, None if it has none.

    Args:
        record: The checkpoint, whose place in the chain is verified already.
        trail: The id in the trail's header.
        line: Where it is, for the error.
        bundles: What its certificates must lead to, at the time it says; None takes them at their word.

    Raises:
        AuditError: It is malformed or signed by another key, or its certificates do not verify.
    """
    facts = record.facts
    if facts.get("records") != record.seq or not isinstance(facts.get("final"), bool):
        raise AuditError(
            f"line {line}: the checkpoint is for {facts.get('records')} records, and {record.seq} are before it",
            line=line,
        )
    if facts.keys() == {"records", "final"}:
        return None
    chain = _certificates(facts.get("certificates"), line)
    final = facts["final"] is True
    statement = _statement(trail, record.seq, record.prev, record.at, final=final)
    _verify_signature(facts, chain[0], statement, line)
    return _verify_identity(record, chain, line, bundles)


def _certificates(text: Fact, line: int) -> tuple[Certificate, ...]:
    from spiffe_client.bundle import parse_certificates_der

    parts = text.split(" ") if isinstance(text, str) else []
    try:
        ders = b"".join(base64.b64decode(part, validate=True) for part in parts)
        return parse_certificates_der(ders, error=AuditError, most=_MOST_CERTIFICATES)
    except (AuditError, binascii.Error) as error:
        raise AuditError(f"line {line}: the checkpoint's certificates cannot be read", line=line) from error


def _algorithm(key: object) -> str:
    """The one `alg` that a key signs checkpoints with; empty if it signs none."""
    if isinstance(key, EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, "")
    if isinstance(key, RSAPublicKey):
        return "RS256" if 2048 <= key.key_size <= 8192 and key.public_numbers().e < 1 << 32 else ""
    return "EdDSA" if isinstance(key, Ed25519PublicKey) else ""


def _verify_signature(facts: Mapping[str, Fact], leaf: Certificate, statement: bytes, line: int) -> None:
    try:
        key = leaf.public_key()
    except SpiffeError as error:
        raise AuditError(f"line {line}: the checkpoint's key cannot be read", line=line) from error
    alg, signature = _algorithm(key), decode_base64url(facts.get("signature"))
    if not alg or facts.get("alg") != alg or not signature:
        raise AuditError(f"line {line}: the checkpoint has no signature that its key can make", line=line)
    if not signed_by(key, alg, Jws({}, {}, statement, signature)):  # type: ignore[arg-type]  # EdDSA, too
        raise AuditError(
            f"line {line}: the checkpoint's signature is not of its key over this trail", line=line
        )


def _verify_identity(
    record: Record, chain: tuple[Certificate, ...], line: int, bundles: BundleSet[X509Bundle] | None
) -> SpiffeId:
    from spiffe_client.svid import check_leaf, verify_x509_svid

    at = moment_of(record.at)
    if at is None:
        raise AuditError(f"line {line}: {record.at} is no moment", line=line)
    try:
        signer = check_leaf(chain[0]) if bundles is None else verify_x509_svid(chain, bundles, at=at)
    except SpiffeError as error:
        raise AuditError(
            f"line {line}: whoever signed the checkpoint is not proven: {error}", line=line
        ) from error
    if record.facts.get("workload") != str(signer):
        raise AuditError(
            f"line {line}: the checkpoint names another workload than its certificate", line=line
        )
    return signer
