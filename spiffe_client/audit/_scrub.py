"""The last look at a record before it is written: nothing in it may look like a token or a key."""

from __future__ import annotations

import re

__all__ = ["scrubbed"]

# What begins like one is taken whole, so that no text makes this take long.
_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_.-]*+)?")
# In JSON the line feeds of PEM are escaped, so a key is on one line.
_PEM = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    rb"(?:[^\"\\]|\\.)*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?=\"))"
)
_CREDENTIALS = re.compile(rb"\b([Bb]earer|DPoP|[Bb]asic) [A-Za-z0-9._~+/-]{16,}=*")


def scrubbed(body: bytes) -> bytes:
    """Return an encoded record without what looks like a credential.

    Events hold none; this is for those that others make, in haste, of an exception's text.

    Args:
        body: JSON, UTF-8; it stays JSON.
    """
    if b"eyJ" in body:
        body = _JWT.sub(b"(a token)", body)
    if b"PRIVATE KEY-----" in body:
        body = _PEM.sub(b"(a private key)", body)
    if b"earer " in body or b"DPoP " in body or b"asic " in body:
        body = _CREDENTIALS.sub(rb"\1 (a credential)", body)
    return body
