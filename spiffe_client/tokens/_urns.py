"""Names that OAuth 2 and its extensions gave to grants, token types and assertion types."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ACCESS_TOKEN",
    "CLIENT_CREDENTIALS",
    "ID_JAG",
    "ID_TOKEN",
    "JWT",
    "JWT_BEARER",
    "JWT_BEARER_ASSERTION",
    "JWT_SPIFFE_ASSERTION",
    "REFRESH_TOKEN",
    "SAML2",
    "SELF_SIGNED",
    "TOKEN_EXCHANGE",
    "TXN_TOKEN",
    "UNSIGNED_JSON",
]

# Grants (RFC 6749 §4.4, RFC 7523 §2.1, RFC 8693 §2.1).
CLIENT_CREDENTIALS: Final = "client_credentials"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"

# Token types (RFC 8693 §3; the last four are drafts').
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
REFRESH_TOKEN: Final = "urn:ietf:params:oauth:token-type:refresh_token"
SAML2: Final = "urn:ietf:params:oauth:token-type:saml2"
ID_JAG: Final = "urn:ietf:params:oauth:token-type:id-jag"
SELF_SIGNED: Final = "urn:ietf:params:oauth:token-type:self_signed"
TXN_TOKEN: Final = "urn:ietf:params:oauth:token-type:txn_token"
UNSIGNED_JSON: Final = "urn:ietf:params:oauth:token-type:unsigned_json"

# Client assertions (RFC 7523 §2.2, draft-ietf-oauth-spiffe-client-auth).
JWT_BEARER_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
