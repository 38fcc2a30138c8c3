"""The names that OAuth 2 and its extensions gave to things, as this side spells them.

Written out once more on purpose: the client has its own list, so a slip in one is found by the other.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ACCESS_TOKEN",
    "AGENT_CALL",
    "AGENT_TICKET",
    "CLIENT_CREDENTIALS",
    "ID_JAG",
    "ID_TOKEN",
    "JWT",
    "JWT_BEARER",
    "JWT_BEARER_ASSERTION",
    "JWT_SPIFFE_ASSERTION",
    "PROFILE_ID_JAG",
    "SELF_SIGNED",
    "TOKEN_EXCHANGE",
    "TXN_TOKEN",
    "UNSIGNED_JSON",
]

# Grants (RFC 6749 §4.4, RFC 7523 §2.1, RFC 8693 §2.1).
CLIENT_CREDENTIALS: Final = "client_credentials"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
PROFILE_ID_JAG: Final = "urn:ietf:params:oauth:grant-profile:id-jag"

# Token types (RFC 8693 §3; the last four are of drafts).
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
ID_JAG: Final = "urn:ietf:params:oauth:token-type:id-jag"
SELF_SIGNED: Final = "urn:ietf:params:oauth:token-type:self_signed"
TXN_TOKEN: Final = "urn:ietf:params:oauth:token-type:txn_token"
UNSIGNED_JSON: Final = "urn:ietf:params:oauth:token-type:unsigned_json"

# Client assertions (RFC 7523 §2.2, draft-ietf-oauth-spiffe-client-auth §3).
JWT_BEARER_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"

# Types of authorization details (RFC 9396 §2) of our own agents.
AGENT_CALL: Final = "agent_call"
AGENT_TICKET: Final = "agent_ticket"
