"""What to do next about an error, by its code, in words that the command at hand has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["ASK_THE_SYSTEM", "advice_on", "in_options"]

#: Where the operating system says no, and not about a file.
ASK_THE_SYSTEM: Final = "the operating system has refused; if it does so again, its log may say why"

_LOOK_CLOSER = "`spiffe-client doctor` looks closer"
_ASK_THERE = "ask whoever runs the token broker; its log says more"
_NOTHING_ELSE = "give a file, or standard input, with the token and nothing else in it"
_RULES_THERE = "whoever runs the token broker knows what this client may have"
_NEXT: Final[Mapping[str, str]] = {
    "access_denied": "ask whoever runs the agent why this process is refused; its log says more",
    "audit": "is it an audit trail, as JsonlSink writes them? then keep it as it is, and find out who could write to it",
    "bundle_invalid": "get the bundle anew from who publishes it; `spiffe-client verify --help` lists the forms it may have",
    "bundle_not_found": "federate with this trust domain; `spiffe-client bundles` lists those that are known",
    "contract_invalid": "mend what the message names; docs/contracts.md explains every key",
    "discovery": "say the issuer exactly as the token broker names itself; `spiffe-client doctor --token-broker …` looks closer",
    "endpoint_invalid": "say another address with --socket (or SPIFFE_ENDPOINT_SOCKET)",
    "identity_unavailable": _LOOK_CLOSER,
    "invalid_audience": "name whom the token is for",
    "invalid_authorization_details": "mend the authorization details, or have them permitted there",
    "invalid_client": "are its ID, its secret or key, and --auth those registered there?",
    "invalid_grant": "is the token that is exchanged expired, revoked, or for somebody else?",
    "invalid_id": "a SPIFFE ID looks like spiffe://trust-domain/path",
    "invalid_request": "mend what the message names; if nothing is wrong with it, the agent's log says more",
    "invalid_scope": _RULES_THERE,
    "invalid_target": _RULES_THERE,
    "jwt_svid_invalid": "nobody will accept it: the agent's log may say why it is issued like this",
    "no_identity_issued": "register this process with the issuer (its user, path or pod), then ask again",
    "oauth": _ASK_THERE,
    "protocol_error": "is this the Workload API's socket, and not that of something else?",
    "registration_invalid": "`spiffe-client dev --help` shows an example",
    "secret_source": "mend what the message names: a file, a variable or a command",
    "stale": _LOOK_CLOSER,
    "svid_invalid": "give a certificate chain (PEM or DER, leaf first) or a JWT-SVID",
    "tls_configuration": "a file of authorities holds certificates in PEM: mend it, or name another",
    "token_broker_unavailable": "is it running, and is that its name? `spiffe-client doctor --token-broker …` looks closer",
    "token_protocol": "is that a token broker? is a proxy in between? `spiffe-client doctor --token-broker …` looks closer",
    "token_request_invalid": "mend what the message names",
    "token_unacceptable": _ASK_THERE,
    "unavailable": "is the agent running? its log says more",
    "unexpected_status": "the agent's log says more",
    "unimplemented": "this agent does not offer it; update the agent or use another command",
    "unsupported_by_broker": "ask for what it offers; `spiffe-client doctor --token-broker …` lists that",
    "x509_svid_invalid": f"nobody will accept it; {_LOOK_CLOSER}",
}
_NEXT_WHEN_UNAVAILABLE: Final[Mapping[str, str]] = {
    "missing": "start the agent, or point --socket to where its socket is",
    "forbidden": "run as a user who may reach the socket, or have its folders opened to this one",
    "not_a_socket": "point --socket to the agent's socket; this is something else",
    "busy": "the agent does not accept connections: look at its load and its log",
    "refused": "start the agent, or point --socket to where it listens",
    "unreachable": "is that its address? this machine knows no way there",
    "broken_off": f"is the agent running? {_LOOK_CLOSER}",
    "answered": "the agent is there and cannot answer now: its log says why",
    "timed_out": "the agent is there and too slow: look at its load and log, or give it more with --timeout",
}
_ASK_AGAIN = "ask again; if it stays so, the agent's log says why"
#: Where one command knows better, or has other options; the star is for codes of which nothing is known.
_NEXT_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "bundles": {
        "bundle_not_found": "federate with this trust domain; without --trust-domain those that are known are listed",
    },
    "dev": {"endpoint_invalid": ASK_THE_SYSTEM},
    "demo": {"endpoint_invalid": ASK_THE_SYSTEM},
    # They read files, and ask nobody.
    "audit": {"endpoint_invalid": ASK_THE_SYSTEM},
    "contract": {"endpoint_invalid": ASK_THE_SYSTEM},
    "inventory": {
        "contract_invalid": "name a folder that holds contracts, and that this user may read",
        "endpoint_invalid": ASK_THE_SYSTEM,
    },
    "introspect": {"token_request_invalid": _NOTHING_ELSE},
    "revoke": {"token_request_invalid": _NOTHING_ELSE},
    # It is who looks closer.
    "doctor": {
        "*": "mend what the message names; the log of who answered says more",
        "discovery": "say --token-broker exactly as the token broker names itself",
        "identity_unavailable": _ASK_AGAIN,
        "stale": _ASK_AGAIN,
        "token_broker_unavailable": "is it running, and is that its name? is it slow: give it more with --timeout",
        "token_protocol": "is that a token broker? is a proxy in between? its log says more",
        "broken_off": "is that the agent? the Workload API is gRPC without TLS, and something else may listen "
        "there; if it is, its log says why it broke off",
        "unsupported_by_broker": "ask for what it offers, as listed above, or have it switched on there",
        "x509_svid_invalid": "nobody will accept it: the agent's log may say why it is issued like this",
    },
}
#: How library errors name what has an option here: arguments, as in code.
_IN_CODE: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r'\bissuer="([^"]*)"'), r"--token-broker \1"),
    (re.compile(r'\bbinding="(\w+)"'), r"--binding \1"),
    (re.compile(r"\bpass the address in code\b"), "pass --socket"),
)


def advice_on(code: str, command: str, *, unavailable: str = "") -> str:
    """Return what to do next about an error.

    Args:
        code: The error's.
        command: Which one met it; empty for none in particular.
        unavailable: Why the Workload API is unavailable, where that is known.
    """
    here = _NEXT_OF.get(command, {})
    places = ((here, unavailable), (here, code), (_NEXT_WHEN_UNAVAILABLE, unavailable), (_NEXT, code))
    found = (known[key] for known, key in places if key in known)
    return next(found, here.get("*", _LOOK_CLOSER))


def in_options(text: str) -> str:
    """Return a library's message with the options of the command line in place of arguments in code."""
    for pattern, option in _IN_CODE:
        text = pattern.sub(option, text)
    return text
