"""What the command line asks a token for, as a request."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from spiffe_client.cli._asking import refuse_together
from spiffe_client.cli._exit import UsageError
from spiffe_client.cli._reading import read_token
from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens import ForeignToken, OwnSvid, Subject, TokenRequest
from spiffe_client.tokens._urns import ACCESS_TOKEN, CLIENT_CREDENTIALS, ID_TOKEN, JWT, TOKEN_EXCHANGE

__all__ = ["grant_in_words", "request_for", "subject_of"]

_TYPES: Mapping[str, str] = {"access_token": ACCESS_TOKEN, "jwt": JWT, "id_token": ID_TOKEN}


async def subject_of(arguments: argparse.Namespace) -> Subject | None:
    """Return whose token is exchanged; None asks for the client itself.

    Raises:
        UsageError: The words contradict each other, or are no file name.
        TokenRequestError: There is no token in the file.
        OSError: It cannot be read.
    """
    refuse_together(arguments, "subject_token_file", "client_credentials")
    if arguments.client_credentials:
        return None
    if arguments.subject_token_file is None:
        return OwnSvid()
    kind = _TYPES.get(arguments.subject_token_type, arguments.subject_token_type)
    command = f"spiffe-client {arguments.command}"
    return ForeignToken(await read_token(arguments.subject_token_file, command=command), kind)


def grant_in_words(request: TokenRequest) -> str:
    """Say how the token is asked for, and whose token is exchanged for it."""
    if request.subject is None:
        return "client credentials, for the client itself"
    if isinstance(request.subject, OwnSvid):
        return "token exchange of this process's JWT-SVID"
    return "token exchange of the token that was handed in"


def request_for(arguments: argparse.Namespace, subject: Subject | None) -> TokenRequest:
    """Return the request that the words make.

    Args:
        arguments: Of the command line.
        subject: Whose token is exchanged; None asks for the client itself.

    Raises:
        UsageError: Something of it is malformed.
    """
    command = f"spiffe-client {arguments.command}"
    try:
        return TokenRequest.of(
            *arguments.scope,
            audience=arguments.audience,
            resource=arguments.resource,
            authorization_details=_details(arguments.details),
            purpose=arguments.purpose,
            subject=subject,
            grant=CLIENT_CREDENTIALS if subject is None else TOKEN_EXCHANGE,
        )
    except TokenRequestError as error:
        raise UsageError(str(error), command=command) from error


def _details(text: str | None) -> list[dict[str, object]]:
    if text is None:
        return []
    try:
        details = json.loads(text)
    except (ValueError, RecursionError):
        details = None
    if not isinstance(details, list):
        raise TokenRequestError('--details is no JSON array of objects, such as [{"type":"payment"}]')
    return details
