"""What is said about certificates and keys: never the key itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from spiffe_client.cli._report import timestamp

__all__ = ["certificate_facts", "key_kind", "serial", "sha256", "span", "until"]


def serial(certificate: x509.Certificate) -> str:
    """Return the serial number in hex: JSON numbers are too short for it."""
    return f"{certificate.serial_number:x}"


def sha256(certificate: x509.Certificate) -> str:
    """Return the certificate's SHA-256 in hex, as `openssl x509 -fingerprint -sha256` has it."""
    return certificate.fingerprint(SHA256()).hex()


def key_kind(key: object) -> str:
    """Return what kind of public or private key it is, for example `EC secp256r1`."""
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removeprefix("_").removesuffix("PrivateKey").removesuffix("PublicKey")


def certificate_facts(certificate: x509.Certificate) -> dict[str, object]:
    """Return what tells an authority's certificate from others."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "serial_number": serial(certificate),
        "not_before": timestamp(certificate.not_valid_before_utc),
        "not_after": timestamp(certificate.not_valid_after_utc),
        "sha256": sha256(certificate),
    }


def span(seconds: float) -> str:
    """Return a length of time as people say it: `59 min`, `2 d 3 h`; never negative."""
    left = max(0, int(seconds))
    if left < 120:
        return f"{left} s"
    minutes = left // 60
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def until(moment: datetime, now: datetime) -> str:
    """Return a moment, and how far away it is."""
    left = moment - now
    distance = (
        f"in {span(left.total_seconds())}" if left > timedelta(0) else f"{span(-left.total_seconds())} ago"
    )
    return f"{timestamp(moment)} ({distance})"
