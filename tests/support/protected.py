"""Web sites of the web PKI that keep what they were sent, and a stand-in for a token broker's client."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import jwt
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client._redact import Secret
from spiffe_client.tokens import AccessToken, Binding, TokenRequest
from spiffe_client.tokens._dpop import DpopKey
from spiffe_client.tokens._nonces import Nonces
from spiffe_client.tokens._urns import ACCESS_TOKEN
from tests.support.manual_clock import ManualClock
from tests.support.pki import new_authority
from tests.support.web_servers import serve_hypercorn, serve_uvicorn

__all__ = ["Answer", "FakeBroker", "Seen", "Site", "access_token", "claims_of", "serve_site", "trust_web"]

WEB = new_authority("web.pki", uri=None)
_LEAF = WEB.leaf(dns=["localhost"], ips=["127.0.0.1"])


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    http: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def authorization(self) -> str | None:
        return next(iter(self.all("authorization")), None)

    @property
    def proof(self) -> str | None:
        return next(iter(self.all("dpop")), None)


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


class Site:
    """A server whose answers a test decides; `origin` is set once it runs."""

    def __init__(self) -> None:
        self.origin = ""
        self.seen: list[Seen] = []
        self.answer: Callable[[Seen], Answer] = lambda seen: Answer()

    def reset(self) -> None:
        self.seen.clear()
        self.answer = lambda seen: Answer()

    async def __call__(self, scope, receive, send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = [(k.decode().lower(), v.decode()) for k, v in scope["headers"]]
        seen = Seen(scope["method"], scope["path"], scope["http_version"], headers, body)
        self.seen.append(seen)
        answer = self.answer(seen)
        sent = [(k.encode(), v.encode()) for k, v in answer.headers.items()]
        sent.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": answer.body})


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(_LEAF.key_pem + _LEAF.chain_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


@lru_cache
def trust_web() -> ssl.SSLContext:
    """What a client of these sites is given as `verify`."""
    return ssl.create_default_context(cadata=WEB.certificate.public_bytes(Encoding.DER))


@contextlib.contextmanager
def serve_site(*, tls: bool = True, http2: bool = False) -> Iterator[Site]:
    """Serve on a free port of 127.0.0.1."""
    site = Site()
    serve = serve_hypercorn if http2 else serve_uvicorn
    with serve(site, _context() if tls else None) as port:
        site.origin = f"{'https' if tls else 'http'}://localhost:{port}"
        yield site


def access_token(request: TokenRequest, text: str, *, key: DpopKey | None = None) -> AccessToken:
    """A token as a token broker would have issued it."""
    return AccessToken(
        token=Secret(text),
        token_type="Bearer" if key is None else "DPoP",
        issuer="https://tokens.prod.example",
        request=request,
        scope=request.scope,
        authorization_details="",
        issued_token_type=ACCESS_TOKEN,
        expires_at=datetime.now(UTC) + timedelta(minutes=5),
        binding=Binding() if key is None else Binding("dpop", key.jkt),
    )


class FakeBroker:
    """Hands out `token-1`, `token-2` … and says what was asked of it."""

    def __init__(self, *, dpop: bool = False, always: str | None = None) -> None:
        self.dpop = DpopKey() if dpop else None
        self.nonces = Nonces()
        self.clock = ManualClock(datetime.now(UTC))  # what is remembered for a second is, however long a test takes
        self.held: AccessToken | None = None
        self.fetched = 0
        self.purged: list[AccessToken] = []
        self.always = always
        self.error: Exception | None = None

    def peek(self, request: TokenRequest) -> AccessToken | None:
        return self.held

    async def fetch(self, request: TokenRequest) -> AccessToken:
        return self._mint(request)

    def fetch_blocking(self, request: TokenRequest) -> AccessToken:
        return self._mint(request)

    def purge(self, token: AccessToken) -> int:
        self.purged.append(token)
        if self.held is token:
            self.held = None
        return 1

    def on_withdrawal(self, notify: Callable[[Callable[[AccessToken], bool]], object]) -> None:
        self.withdraw = notify

    def _mint(self, request: TokenRequest) -> AccessToken:
        if self.error is not None:
            raise self.error
        self.fetched += 1
        self.held = access_token(request, self.always or f"token-{self.fetched}", key=self.dpop)
        return self.held


def claims_of(proof: str) -> dict:
    """The claims of a proof, its signature verified with the key in its header."""
    header = jwt.get_unverified_header(proof)
    assert "dpop+jwt" == header["typ"]
    return jwt.decode(
        proof, jwt.PyJWK(header["jwk"]).key, algorithms=["ES256"], options={"verify_iat": False}
    )
