"""The token broker as a whole: opened, found, in trouble, down, back, and closed."""

from __future__ import annotations

import gc
import socket
import ssl
import subprocess
import sys
import time

import anyio
import httpx
import pytest

from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client, Rules
from spiffe_client.errors import EndpointError
from tests.dev.conftest import AGENT, ORDERS
from tests.support.oauth_client import OAuthClient

pytestmark = pytest.mark.anyio

OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


class TestMetadata:
    async def test_names_all_that_is_there(self, agent: OAuthClient) -> None:
        """RFC 8414 §2."""
        document = (await agent.http.get(agent.broker.issuer + OAUTH)).json()
        issuer, web = agent.broker.issuer, agent.broker.url_at("web")

        assert issuer == document["issuer"]
        assert [f"{issuer}/{n}" for n in ("token", "jwks", "introspection", "revocation")] == [
            document[n]
            for n in ("token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint")
        ]
        assert {f"{n}_endpoint": f"{web}/{n}" for n in ("token", "introspection", "revocation")} == document[
            "mtls_endpoint_aliases"
        ]
        assert ["payment"] == document["authorization_details_types_supported"]
        assert "ES256" in document["dpop_signing_alg_values_supported"]
        assert "spiffe_jwt" in document["token_endpoint_auth_methods_supported"]

    async def test_path_of_the_issuer_comes_last(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """RFC 8414 §3.1: inserted before the path, and only there unless told otherwise."""
        async with DevTokenBroker(domain, issuer_path="/tenant1/") as broker:
            origin = broker.url_at("loopback")
            assert f"{origin}/tenant1" == broker.issuer
            paths = [f"{OAUTH}/tenant1", f"{OPENID}/tenant1", f"/tenant1{OPENID}", f"/tenant1{OAUTH}"]
            replies = [await http.get(origin + path) for path in paths]
            assert 200 == (await http.get(f"{broker.issuer}/jwks")).status_code
        assert [200, 404, 404, 404] == [r.status_code for r in replies]
        assert broker.issuer == replies[0].json()["issuer"]

    @pytest.mark.parametrize(
        ("form", "path"),
        [
            ("openid", f"{OPENID}/t"),
            ("openid_appended", f"/t{OPENID}"),
            ("oauth_appended", f"/t{OAUTH}"),
        ],
    )
    async def test_other_forms(self, domain: DevTrustDomain, http: httpx.AsyncClient, form: str, path: str) -> None:
        """As others put it, to see that clients find it."""
        async with DevTokenBroker(domain, issuer_path="/t", well_known=[form]) as broker:
            assert 200 == (await http.get(broker.url_at("loopback") + path)).status_code
            assert 404 == (await http.get(f"{broker.url_at('loopback')}{OAUTH}/t")).status_code


class TestLife:
    async def test_loopback_only(self, broker: DevTokenBroker) -> None:
        """It is for development: nobody else can reach it."""
        addresses = {listener.socket.getsockname()[0] for listener in broker._ports.listeners}
        assert {"127.0.0.1"} == addresses

    async def test_is_used_once_and_as_a_context(self, domain: DevTrustDomain) -> None:
        """Said at once, not by a connection that is refused later."""
        broker = DevTokenBroker(domain)
        for use in (lambda: broker.issuer, lambda: broker.web_roots, broker.heal and (lambda: broker.url_at("web"))):
            with pytest.raises(EndpointError, match="not open"):
                use()
        with pytest.raises(EndpointError, match="not open"):
            await broker.pause()
        broker.rules = Rules((Client.of(AGENT),))
        async with broker:
            assert [AGENT] == [client.id for client in broker.rules]
            with pytest.raises(EndpointError, match="opened before"):
                await broker.__aenter__()
        assert AGENT == next(iter(broker.rules)).id

    async def test_thread_ends_with_it(self, domain: DevTrustDomain) -> None:
        """Also with connections open and handshakes begun, and nothing is left behind."""
        import threading

        idle = []
        async with DevTokenBroker(domain) as broker:
            for port in ("loopback", "web", "spiffe"):
                for _ in range(3):
                    host, number = broker.url_at(port).rsplit("/", 1)[1].split(":")
                    idle.append(socket.create_connection((host, int(number))))
            while len(broker._thread._handshakes) < 6:
                await anyio.sleep(0.001)
        for sock in idle:
            with sock:
                sock.settimeout(5)
                try:
                    assert b"" == sock.recv(1)
                except ConnectionResetError:
                    pass
        names = [t.name for t in threading.enumerate()]
        assert "dev token broker" not in names
        gc.collect()

    async def test_ports_can_be_had_no_more(self, domain: DevTrustDomain, monkeypatch: pytest.MonkeyPatch) -> None:
        """All or none is open."""
        made = []
        create = socket.create_server

        def create_server(*args: object, **options: object) -> socket.socket:
            if len(made) == 2:
                raise OSError(24, "too many open files")
            made.append(create(*args, **options))
            return made[-1]

        monkeypatch.setattr(socket, "create_server", create_server)
        with pytest.raises(EndpointError, match="too many open files"):
            await DevTokenBroker(domain).__aenter__()
        assert [-1, -1] == [sock.fileno() for sock in made]

    async def test_outage_and_return(self, agent: OAuthClient) -> None:
        """The port is closed, not silent; all that was issued is still known after it."""
        token = await agent.token(audience=ORDERS)
        await agent.broker.pause()
        with pytest.raises(httpx.ConnectError):
            await agent.token(audience=ORDERS)
        await agent.broker.pause()  # again: nothing happens
        await agent.broker.resume()
        assert True is (await agent.introspect(token))["active"]

    async def test_somebody_else_takes_the_port(self, agent: OAuthClient) -> None:
        """It is said, and nothing is half open."""
        await agent.broker.pause()
        port = int(agent.broker.issuer.rsplit(":", 1)[1])
        with socket.create_server(("127.0.0.1", port)), pytest.raises(EndpointError, match="port again"):
            await agent.broker.resume()
        await agent.broker.resume()
        assert 200 == (await agent.credentials(audience=ORDERS)).status_code

    async def test_rules_change_while_it_runs(self, agent: OAuthClient) -> None:
        """With the next request."""
        agent.broker.rules = Rules()
        assert 401 == (await agent.credentials()).status_code

    def test_extra_is_named(self) -> None:
        """Without Starlette or uvicorn, what to install is said."""
        code = (
            "import sys; sys.modules['uvicorn'] = None\n"
            "import anyio\n"
            "from spiffe_client.dev import DevTokenBroker, DevTrustDomain\n"
            "async def main():\n"
            "    await DevTokenBroker(DevTrustDomain('dev.example')).__aenter__()\n"
            "anyio.run(main)\n"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "pip install 'spiffe-client[dev]'" in ended.stderr.splitlines()[-1]

    def test_room_lists_its_names(self) -> None:
        """Also those that are not loaded yet."""
        from spiffe_client.dev import token_broker

        assert set(token_broker.__all__) <= set(dir(token_broker))

    def test_importing_it_needs_no_extra(self) -> None:
        """Neither server library is loaded before one is opened."""
        code = "import sys, spiffe_client.dev; print({'starlette', 'uvicorn'} & set(sys.modules))"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "set()\n" == ended.stdout


class TestCounting:
    async def test_posts_and_tokens_are_counted(self, agent: OAuthClient) -> None:
        """What tests of single flight ask for."""
        await agent.exchange(audience=ORDERS)
        await agent.exchange(audience="https://elsewhere.example")
        await agent.http.get(f"{agent.broker.issuer}/jwks")
        assert {"token": 2} == dict(agent.broker.requests)
        assert {"access_token": 1} == dict(agent.broker.issued)


class TestTrouble:
    async def test_status_and_retry_after(self, agent: OAuthClient) -> None:
        """RFC 9110 §10.2.3; the request after it is answered properly."""
        agent.broker.fail_next(429, retry_after=7, error="slow_down")
        first, second = [await agent.credentials(audience=ORDERS) for _ in range(2)]
        assert (429, "7", "slow_down") == (first.status_code, first.headers["retry-after"], first.json()["error"])
        assert 200 == second.status_code
        assert 1 == agent.broker.issued["access_token"]

    async def test_several_or_all(self, agent: OAuthClient) -> None:
        """Until it is healed."""
        agent.broker.fail_next(500, times=2, error="")
        statuses = [await agent.credentials(audience=ORDERS) for _ in range(3)]
        assert [(500, {}), (500, {})] == [(r.status_code, r.json()) for r in statuses[:2]]
        assert 200 == statuses[2].status_code
        agent.broker.fail_next(times=None, endpoint="jwks")
        url = f"{agent.broker.issuer}/jwks"
        assert [503, 503] == [(await agent.http.get(url)).status_code for _ in range(2)]
        agent.broker.heal()
        assert 200 == (await agent.http.get(url)).status_code

    async def test_any_body(self, agent: OAuthClient) -> None:
        """What a proxy in between says."""
        agent.broker.fail_next(200, body=b"<html>", headers={"X-Proxy": "1"}, retry_after="Fri, 31 Dec 1999 23:59:59 GMT")
        reply = await agent.credentials(audience=ORDERS)
        assert (b"<html>", "text/html; charset=utf-8", "1") == (
            reply.content,
            reply.headers["content-type"],
            reply.headers["x-proxy"],
        )

    async def test_dropped_connection(self, agent: OAuthClient) -> None:
        """Before the request is carried out, or after: then only the answer is lost."""
        for late, issued in ((False, 0), (True, 1)):
            agent.broker.fail_next(drop=True, late=late)
            with pytest.raises(httpx.TransportError):
                await agent.credentials(audience=ORDERS)
            assert issued == agent.broker.issued["access_token"]

    async def test_slow_answer(self, agent: OAuthClient) -> None:
        """Late, and right."""
        agent.broker.fail_next(None, delay=0.05)
        began = time.monotonic()
        assert 200 == (await agent.credentials(audience=ORDERS)).status_code
        assert 0.05 <= time.monotonic() - began

    async def test_hung_answer_does_not_hold_up_the_end(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """Nor an outage."""
        async with DevTokenBroker(domain, rules=[Client.of(AGENT)]) as broker:
            broker.fail_next(None, delay=3600, times=None)
            agent = OAuthClient(broker, http, AGENT)
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    with pytest.raises(httpx.TransportError):
                        await agent.credentials()

                tasks.start_soon(ask)
                while not broker.requests["token"]:
                    await anyio.sleep(0.001)
                await broker.pause()

    async def test_client_that_hangs_up_is_no_error(self, broker: DevTokenBroker, caplog: pytest.LogCaptureFixture) -> None:
        """In the middle of its request; the next one is served."""
        host, port = broker.issuer.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ngrant")
            while not broker.requests["token"]:
                await anyio.sleep(0.001)
        async with httpx.AsyncClient(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as http:
            assert 200 == (await http.get(f"{broker.issuer}/jwks")).status_code
        assert [] == caplog.records
