"""Which path is answered by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from starlette.applications import Starlette

from spiffe_client.dev.token_broker._app import Application
from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._grants import answer_token_request
from spiffe_client.dev.token_broker._introspection import answer_introspection
from spiffe_client.dev.token_broker._messages import Call, Reply
from spiffe_client.dev.token_broker._metadata import Endpoints, Offer, metadata
from spiffe_client.dev.token_broker._polling import Polling
from spiffe_client.dev.token_broker._revocation import answer_revocation

__all__ = ["build"]


def build(
    server: AuthorizationServer,
    endpoints: Endpoints,
    offer: Offer,
    application: Application,
    polling: Polling,
) -> Starlette:
    """Make the ASGI application of a token broker.

    Args:
        server: What answers.
        endpoints: Where.
        offer: What is offered.
        application: What routes requests.
        polling: What answers receivers of security events.
    """

    def locked(
        answer: Callable[[AuthorizationServer, Call], Reply],
    ) -> Callable[[Call], Reply]:
        def answer_locked(call: Call) -> Reply:
            with server.lock:
                return answer(server, _without(call, offer))

        return answer_locked

    for path in endpoints.metadata_paths(offer.well_known):
        application.document(path, lambda: metadata(endpoints, offer, server.rules), name="metadata")
    application.document(f"{endpoints.path}/jwks", server.store.jwks, name="jwks")
    application.post(f"{endpoints.path}/token", locked(answer_token_request), name="token")
    if "introspection" not in offer.without:
        path = f"{endpoints.path}/introspection"
        application.post(path, locked(answer_introspection), name="introspection")
    if "revocation" not in offer.without:
        application.post(f"{endpoints.path}/revocation", locked(answer_revocation), name="revocation")
    if "ssf" not in offer.without:
        found = endpoints.well_known("/.well-known/ssf-configuration")
        application.document(found, polling.configuration, name="ssf")
        path = f"{endpoints.path}/ssf"
        application.route(f"{path}/poll", polling.poll, name="poll")
        application.route(f"{path}/verify", polling.verify, name="verify")
        methods = ("GET", "POST", "DELETE")
        application.route(f"{path}/streams", polling.stream, name="streams", methods=methods)
    return application.build()


def _without(call: Call, offer: Offer) -> Call:
    """Return what a server sees that does not know what is left out."""
    if "dpop" in offer.without:
        call = replace(call, headers=tuple(h for h in call.headers if h[0] != "dpop"))
    return replace(call, certificate=None) if "mtls" in offer.without else call
