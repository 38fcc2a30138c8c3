"""One look at a bundle endpoint, over real TLS."""

from __future__ import annotations

import gc
import gzip
import socket
import ssl

import anyio
import pytest

from spiffe_client.bundle import SpiffeBundle
from spiffe_client.errors import (
    BundleError,
    FederationError,
    PeerNotAllowedError,
    PeerUnverifiedError,
    TlsConfigurationError,
)
from spiffe_client.http.federation import SpiffeEndpoint, fetch_bundle
from spiffe_client.http.federation._server import server_verifying_context
from spiffe_client.ids import SpiffeId, TrustDomain
from tests.support.pki import days, new_authority
from tests.support.web_servers import serve_uvicorn

pytestmark = pytest.mark.anyio

B = TrustDomain("b.test")
SERVER = SpiffeId.parse("spiffe://b.test/bundle-server")


class TestWeb:
    async def test_good(self, world) -> None:
        """FD §5.2.1.4: the server proves its host name, the body is the bundle."""
        with world.serving() as server:
            bundle = await fetch_bundle(world.web(), ssl_context=world.web_pki)
        assert world.ca.spiffe_bundle == bundle
        assert ["/bundle"] == server.paths

    async def test_no_credentials_of_ours(self, world, monkeypatch, tmp_path) -> None:
        """FD §5.2.1.3: no HTTP authentication; a .netrc and proxies of the environment do not count."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine localhost login me password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        with world.serving() as server:
            await fetch_bundle(world.web(), ssl_context=world.web_pki)
        assert "authorization" not in server.requests[0]
        assert "identity" == server.requests[0]["accept-encoding"]

    async def test_public_authorities_by_default(self, world, monkeypatch, tmp_path) -> None:
        """FD §5.2.1.4: whom nobody public vouches for is refused; the environment adds no one."""
        root = world.ca.x509_bundle.to_pem()
        path = tmp_path / "roots.pem"
        path.write_bytes(root)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with world.serving() as server, pytest.raises(FederationError, match="certificate verify failed"):
            await fetch_bundle(world.web())
        assert [] == server.paths

    async def test_wrong_host_name(self, world) -> None:
        """FD §5.2.1.4: the name must be in the certificate."""
        svid = world.ca.issue_x509_svid(SERVER, dns_names=["elsewhere.test"])
        with world.serving(svid) as server, pytest.raises(FederationError, match="Hostname mismatch"):
            await fetch_bundle(world.web(), ssl_context=world.web_pki)
        assert [] == server.paths

    @pytest.mark.parametrize("what", ["check_hostname", "verify_mode"])
    async def test_lax_context(self, world, what) -> None:
        """A context that lets anybody serve a bundle is refused before anything is sent."""
        context = world.web_pki
        context.check_hostname = False
        if what == "verify_mode":
            context.verify_mode = ssl.VerifyMode.CERT_OPTIONAL
            context.check_hostname = True
        with pytest.raises(TlsConfigurationError, match="must verify"):
            await fetch_bundle(world.web(), ssl_context=context)


class TestSpiffe:
    async def test_good(self, world) -> None:
        """FD §5.2.2.4: a valid X509-SVID of exactly this ID; host names do not matter."""
        with world.serving(world.ca.issue_x509_svid(SERVER)):
            assert world.ca.spiffe_bundle == await fetch_bundle(world.spiffe())

    async def test_wrong_server_id(self, world) -> None:
        """FD §5.2.2.4: a workload of the same trust domain is not the endpoint's server."""
        svid = world.ca.issue_x509_svid("spiffe://b.test/web", dns_names=["localhost"])
        with world.serving(svid) as server, pytest.raises(PeerNotAllowedError) as e:
            await fetch_bundle(world.spiffe())
        assert SpiffeId.parse("spiffe://b.test/web") == e.value.peer
        assert [] == server.paths

    async def test_server_of_another_trust_domain(self, world) -> None:
        """FD §5.2.2.4: other authorities than those of the server's trust domain count for nothing."""
        svid = world.stranger.issue_x509_svid("spiffe://stranger.test/bundle-server", dns_names=["localhost"])
        with world.serving(svid) as server, pytest.raises(PeerUnverifiedError, match="does not verify"):
            await fetch_bundle(world.spiffe())
        assert [] == server.paths

    async def test_forged_server_id(self, world) -> None:
        """FD §7: another authority signs the right ID, and is refused."""
        with world.serving(world.stranger.forge_x509_svid(SERVER)) as server:
            with pytest.raises(PeerUnverifiedError) as e:
                await fetch_bundle(world.spiffe())
        assert "certificate_invalid" == e.value.why
        assert [] == server.paths

    async def test_ordinary_web_certificate(self, world) -> None:
        """FD §5.2.2.3: the certificate must be an X509-SVID, whoever signed it."""
        authority = new_authority("b.test")
        trusted = SpiffeBundle(B, (authority.certificate,), ())
        with world.serving(authority.leaf(dns=["localhost"])) as server:
            with pytest.raises(PeerUnverifiedError, match="no X509-SVID") as e:
                await fetch_bundle(world.spiffe(bundle=trusted))
        assert "not_an_svid" == e.value.why
        assert [] == server.paths

    async def test_expired_server(self, world) -> None:
        """FD §5.2.2.4: an X509-SVID that is not valid now proves nothing."""
        authority = new_authority("b.test")
        trusted = SpiffeBundle(B, (authority.certificate,), ())
        with world.serving(authority.leaf(str(SERVER), not_after=days(-0.5))) as server:
            with pytest.raises(PeerUnverifiedError, match="expired"):
                await fetch_bundle(world.spiffe(bundle=trusted))
        assert [] == server.paths

    async def test_intermediate_in_the_bundle(self, world) -> None:
        """X509-SVID §5.1: an intermediate in the bundle is an anchor of its own."""
        root = new_authority("b.test")
        issuer = root.intermediate()
        with world.serving(issuer.leaf(str(SERVER))):
            bundle = await fetch_bundle(world.spiffe(bundle=SpiffeBundle(B, (issuer.certificate,), ())))
        assert world.ca.x509_bundle == bundle.x509_bundle

    async def test_not_self_serving(self, world) -> None:
        """FD §5.2.2.4: the server's trust domain has its own bundle, the document is of another."""
        other = TrustDomain("other.test")
        with world.serving() as server:
            bundle = await fetch_bundle(SpiffeEndpoint(other, server.url(), SERVER, world.ca.spiffe_bundle))
        assert other == bundle.trust_domain

    async def test_held_bundle_verifies_the_server(self, world) -> None:
        """FD §5.2.2.4: the latest bundle, not the one configured once; what it dropped is refused."""
        endpoint_with_old = world.ca.spiffe_bundle
        old_svid = world.ca.issue_x509_svid(SERVER)
        world.ca.rotate_x509_authority()
        world.ca.retire_old_authorities()
        held = world.ca.spiffe_bundle
        with world.serving():
            assert held == await fetch_bundle(world.spiffe(bundle=endpoint_with_old), held=held)
        with world.serving(old_svid), pytest.raises(PeerUnverifiedError):
            await fetch_bundle(world.spiffe(bundle=endpoint_with_old), held=held)

    async def test_no_authority_left(self, world) -> None:
        """TB §4.1.3: a bundle that revoked everything verifies no server either."""
        nothing = SpiffeBundle(B, (), ())
        with pytest.raises(PeerUnverifiedError, match="holds no authority") as e:
            await fetch_bundle(SpiffeEndpoint(B, "https://localhost:9/", SERVER, nothing))
        assert "no_bundle" == e.value.why

    async def test_web_context_has_no_say(self, world) -> None:
        """FD §5.2.2: web PKI proves no SPIFFE ID."""
        endpoint = SpiffeEndpoint(B, "https://localhost:9/", SERVER, world.ca.spiffe_bundle)
        with pytest.raises(TlsConfigurationError, match="for web endpoints"):
            await fetch_bundle(endpoint, ssl_context=world.web_pki)

    async def test_refusal_beside_another_error(self, world) -> None:
        """A refusal that is being handled is not taken for this failure's reason."""
        with world.serving():
            endpoint = world.spiffe()
        try:
            raise PeerUnverifiedError("of something else")
        except PeerUnverifiedError:
            with pytest.raises(FederationError, match="failed"):
                await fetch_bundle(endpoint)

    def test_nothing_flows_before_the_server_is_judged(self, world) -> None:
        """OpenSSL would handshake inside of a read or write: that is no way around the check."""
        context = server_verifying_context(SERVER, world.ca.x509_bundle)
        connection = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
        with pytest.raises(PeerUnverifiedError, match="not been verified"):
            connection.write(b"GET /")
        with pytest.raises(PeerUnverifiedError, match="not been verified"):
            connection.read()

    def test_unreadable_authority_costs_only_itself(self, world) -> None:
        """One that OpenSSL cannot read does not keep the others from being used."""
        bundle = world.ca.x509_bundle
        object.__setattr__(bundle, "ders", frozenset({*bundle.ders, b"\x30\x00"}))
        assert 1 == server_verifying_context(SERVER, bundle).cert_store_stats()["x509"]


class TestRedirects:
    """FD §5.2.1.4, §5.2.2.4."""

    async def test_followed_and_forgotten(self, world) -> None:
        """To a valid URL, relative or not; the next look begins at the configured one."""
        with world.serving() as server:
            server.redirects = {"/bundle": "/b", "/b": server.url("/c"), "/c": "/d"}
            for _ in range(2):
                assert world.ca.spiffe_bundle == await fetch_bundle(world.spiffe())
        assert ["/bundle", "/b", "/c", "/d"] * 2 == server.paths

    async def test_web(self, world) -> None:
        """The same with host names."""
        with world.serving() as server:
            server.redirects = {"/bundle": server.url("/b")}
            assert world.ca.spiffe_bundle == await fetch_bundle(world.web(), ssl_context=world.web_pki)

    async def test_too_many(self, world) -> None:
        """A circle ends."""
        with world.serving() as server:
            server.redirects = {"/bundle": "/bundle"}
            with pytest.raises(FederationError, match="more than 3 times"):
                await fetch_bundle(world.spiffe())
        assert 4 == len(server.paths)

    @pytest.mark.parametrize(
        "target",
        ["http://localhost/b", "https://me:pw@localhost/b", "https://localhost/b#x", "https://x:y:z/", "ftp://h/"],
    )
    async def test_invalid_target(self, world, target) -> None:
        """To where no endpoint could be configured, nobody goes."""
        with world.serving() as server:
            server.redirects = {"/bundle": target}
            with pytest.raises(FederationError, match="no bundle may be fetched from|Invalid URL in location"):
                await fetch_bundle(world.spiffe())
        assert ["/bundle"] == server.paths

    async def test_to_another_server_id(self, world) -> None:
        """FD §5.2.2.3: the new target must be the same SPIFFE ID."""
        context = world.present(world.ca.issue_x509_svid("spiffe://b.test/cdn"))
        seen: list[str] = []

        async def app(scope, receive, send) -> None:
            seen.append(scope["path"])

        with world.serving() as server, serve_uvicorn(app, context) as port:
            server.redirects = {"/bundle": f"https://localhost:{port}/b"}
            with pytest.raises(PeerNotAllowedError):
                await fetch_bundle(world.spiffe())
        assert [] == seen

    async def test_same_server_id_elsewhere(self, world) -> None:
        """FD §5.2.2.3: another host with the same SPIFFE ID is the same server."""
        context = world.present(world.ca.issue_x509_svid(SERVER))
        with world.serving() as server, serve_uvicorn(server, context) as port:
            server.redirects = {"/bundle": f"https://127.0.0.1:{port}/b"}
            assert world.ca.spiffe_bundle == await fetch_bundle(world.spiffe())


class TestAnswers:
    async def test_empty_keys(self, world, document) -> None:
        """TB §4.1.3: no keys means that everything is revoked, and is a valid answer."""
        with world.serving() as server:
            server.document = document(world.ca, keys=[])
            bundle = await fetch_bundle(world.spiffe())
        assert () == bundle.x509_authorities == bundle.jwt_authorities

    @pytest.mark.parametrize("body", [b"", b"not JSON", b"<html></html>", b"[]", b"{}", b'{"keys": {}}'])
    async def test_no_bundle_document(self, world, body) -> None:
        """FD §5.2.1.4: the body is a bundle, or there is none."""
        with world.serving() as server:
            server.document = body
            with pytest.raises(BundleError):
                await fetch_bundle(world.spiffe())

    async def test_content_type_is_no_proof(self, world) -> None:
        """FD §5.2.1.3: servers SHOULD say application/json; one that does not is understood."""
        with world.serving() as server:
            server.headers = {"content-type": "text/plain"}
            assert world.ca.spiffe_bundle == await fetch_bundle(world.spiffe())

    @pytest.mark.parametrize("status", [204, 304, 301, 401, 404, 500])
    async def test_other_status(self, world, status) -> None:
        """FD §5.2.1.4: only 200 has a bundle; 301 without a target is none either."""
        with world.serving() as server:
            server.status, server.document = status, b""
            with pytest.raises(FederationError, match=f"HTTP status {status}"):
                await fetch_bundle(world.spiffe())

    async def test_lower_sequence(self, world, older) -> None:
        """FD §4.2: an older document than the one held may be a replay of revoked keys."""
        with world.serving() as server:
            server.document = older.to_json()
            with pytest.raises(BundleError, match="went back from sequence 2 to 1"):
                await fetch_bundle(world.web(), held=world.ca.spiffe_bundle, ssl_context=world.web_pki)

    async def test_lower_than_the_configured_one(self, world, older) -> None:
        """FD §5.2.2.2: for a self-serving endpoint the configured bundle is the one held."""
        with world.serving() as server:
            server.document = older.to_json()
            with pytest.raises(BundleError, match="went back"):
                await fetch_bundle(world.spiffe())

    async def test_held_of_another_trust_domain(self, world) -> None:
        """FD §4.2: bundles of different trust domains never take each other's place."""
        with world.serving():
            with pytest.raises(BundleError, match="cannot take the place"):
                await fetch_bundle(world.web(), held=world.stranger.spiffe_bundle, ssl_context=world.web_pki)

    async def test_too_large(self, world) -> None:
        """A body without end is not read to its end, whatever length it claims."""
        with world.serving() as server:
            server.chunks = [b" " * 65536] * 40
            with pytest.raises(FederationError, match="more than 1048576 bytes"):
                await fetch_bundle(world.spiffe())

    async def test_compression_bomb(self, world) -> None:
        """An encoding that was not asked for is not unpacked."""
        with world.serving() as server:
            server.headers = {"content-encoding": "gzip"}
            server.document = gzip.compress(world.ca.spiffe_bundle.to_json())
            with pytest.raises(FederationError, match="content encoding"):
                await fetch_bundle(world.spiffe())

    async def test_slow(self, world) -> None:
        """One deadline for everything, redirects included."""
        with world.serving() as server:
            server.redirects = {"/bundle": "/silent"}
            server.silent_at = {"/silent"}
            with pytest.raises(FederationError, match=r"within 2 s"):
                await fetch_bundle(world.spiffe(), timeout=2)  # in which the first place has to answer
        assert "/bundle" in server.paths

    async def test_cancelled(self, world) -> None:
        """The caller's own deadline is the caller's."""
        with world.serving() as server:
            server.silent_at = {"/bundle"}
            with anyio.move_on_after(0.3) as scope:
                await fetch_bundle(world.spiffe())
        assert scope.cancelled_caught

    @pytest.mark.parametrize("ended_by", ["deadline", "caller"])
    async def test_silent_handshake(self, world, ended_by) -> None:
        """A server that never answers the handshake leaves no socket behind."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            endpoint = SpiffeEndpoint(B, url, SERVER, world.ca.spiffe_bundle)
            if ended_by == "deadline":
                with pytest.raises(FederationError, match="did not answer within"):
                    await fetch_bundle(endpoint, timeout=2)  # in which it has to connect
            else:
                with anyio.move_on_after(2):
                    await fetch_bundle(endpoint)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                while connection.recv(65536):  # the client's hello, then the end
                    pass
        gc.collect()  # what was left open would warn

    async def test_nobody_there(self, world) -> None:
        """A refused connection is a FederationError that says so."""
        endpoint = SpiffeEndpoint(B, "https://127.0.0.1:9/", SERVER, world.ca.spiffe_bundle)
        with pytest.raises(FederationError, match=r"bundle endpoint of b\.test failed"):
            await fetch_bundle(endpoint)

    async def test_no_tls(self, world) -> None:
        """A server that does not speak TLS."""
        with serve_uvicorn(world.server, None) as world.server.port:
            with pytest.raises(FederationError, match="failed: "):
                await fetch_bundle(world.spiffe())
