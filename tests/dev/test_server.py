"""The socket: who may connect, what is in its way, and that nothing of it stays behind."""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._grpc import Server, StatusError
from spiffe_client.dev import (
    CertificateAuthority,
    Issuer,
    Registration,
    Registrations,
    Selectors,
    WorkloadApiServer,
)
from spiffe_client.errors import EndpointError, UnavailableError
from spiffe_client.ids import SpiffeId
from spiffe_client.workload_api._messages import X509SvidResponse
from tests.support.raw_workload_api import RawWorkloadApi

pytestmark = pytest.mark.anyio

ORDERS = SpiffeId.parse("spiffe://a.test/orders")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


def issuer(*selectors: Selectors) -> Issuer:
    entries = (Registration(ORDERS, s) for s in selectors or (Selectors(any_caller=True),))
    return Issuer(
        CertificateAuthority("a.test"), Registrations(tuple(entries)), svid_ttl=60, jwt_ttl=60, clock=SYSTEM_CLOCK
    )


@asynccontextmanager
async def serving(server: WorkloadApiServer) -> AsyncIterator[RawWorkloadApi]:
    await server.start()
    try:
        yield RawWorkloadApi(server.endpoint)
    finally:
        await server.stop()


async def identities(api: RawWorkloadApi) -> list[str]:
    return [s.spiffe_id for s in (await api.first("FetchX509SVID", X509SvidResponse)).svids]


class TestSocket:
    async def test_only_its_owner_may_connect(self, path: Path) -> None:
        """Unless it is said otherwise: keys come out of it."""
        async with serving(WorkloadApiServer(issuer(), path)):
            assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        async with serving(WorkloadApiServer(issuer(), path, mode=0o666)):
            assert 0o666 == stat.S_IMODE(path.stat().st_mode)

    async def test_it_is_gone_when_serving_ends(self, path: Path) -> None:
        """And can be opened again; both as often as one likes."""
        server = WorkloadApiServer(issuer(), path)
        await server.stop()
        for _ in range(2):
            async with serving(server) as api:
                await server.start()
                assert [str(ORDERS)] == await identities(api)
            assert not path.exists()
        await server.stop()

    async def test_open_connections_are_cut(self, path: Path) -> None:
        """As when an agent dies."""
        server = WorkloadApiServer(issuer(), path)
        async with serving(server) as api, api.watch("FetchX509SVID", X509SvidResponse) as messages:
            await anext(messages)
            await server.stop()
            with anyio.fail_after(20), pytest.raises(UnavailableError):
                await anext(messages)

    async def test_what_a_crash_left_is_replaced(self, path: Path) -> None:
        """A socket file that nobody listens at is in nobody's use."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(os.fspath(path))
        async with serving(WorkloadApiServer(issuer(), path)) as api:
            assert [str(ORDERS)] == await identities(api)

    async def test_a_live_socket_is_not_replaced(self, path: Path) -> None:
        """The workloads of another agent would be taken over."""
        async with serving(WorkloadApiServer(issuer(), path)) as api:
            with pytest.raises(EndpointError, match=r"api\.sock: another server is listening"):
                await WorkloadApiServer(issuer(), path).start()
            assert [str(ORDERS)] == await identities(api)

    async def test_a_busy_socket_is_live_too(self, path: Path) -> None:
        """One that does not accept at the moment; and nobody is held up by asking."""
        with socket.socket(socket.AF_UNIX) as busy:
            busy.bind(os.fspath(path))
            busy.listen(0)
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(os.fspath(path))
            with pytest.raises(EndpointError, match="another server is listening"):
                await WorkloadApiServer(issuer(), path).start()
            for client in waiting:
                client.close()

    async def test_a_file_is_not_replaced(self, path: Path) -> None:
        """A typing error must not cost somebody's file."""
        path.write_text("precious")
        with pytest.raises(EndpointError, match="not a socket"):
            await WorkloadApiServer(issuer(), path).start()

        assert "precious" == path.read_text()

    @pytest.mark.parametrize("name", ["missing/api.sock", "a" * 200, "a\0b"])
    async def test_a_path_that_cannot_be_used(self, tmp_path: Path, name: str) -> None:
        """No such directory, too long for a unix socket, no path at all."""
        with pytest.raises(EndpointError, match="cannot serve at"):
            await WorkloadApiServer(issuer(), tmp_path / name).start()

    async def test_somebody_elses_socket_is_not_taken_away(self, path: Path) -> None:
        """Whoever put another one in its place keeps it."""
        server = WorkloadApiServer(issuer(), path)
        await server.start()
        path.rename(path.with_suffix(".old"))
        path.write_text("theirs")
        await server.stop()

        assert "theirs" == path.read_text()

    async def test_a_bug_is_logged(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It ends this server, says so, and stopping still works."""

        async def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(Server, "serve_connection", broken)
        server = WorkloadApiServer(issuer(), path)
        with caplog.at_level(logging.ERROR, logger="spiffe_client.dev"):
            async with serving(server) as api:
                with pytest.raises(UnavailableError):
                    await identities(api)
                with anyio.fail_after(20):
                    while not caplog.records:
                        await anyio.lowlevel.checkpoint()
        assert ["spiffe_client.dev"] == [r.name for r in caplog.records]
        assert not path.exists()


class TestCallers:
    async def test_are_told_apart_by_the_kernel(self, path: Path) -> None:
        """This very process, by its user, group and process ID (SO_PEERCRED, LOCAL_PEERCRED)."""
        me = Selectors(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())
        async with serving(WorkloadApiServer(issuer(me), path)) as api:
            assert [str(ORDERS)] == await identities(api)

    @pytest.mark.parametrize(
        "other", [Selectors(uid=os.getuid() + 1), Selectors(gid=os.getgid() + 1), Selectors(pid=os.getpid() + 1)]
    )
    async def test_others_get_nothing(self, path: Path, other: Selectors) -> None:
        """What is said in the request does not count, only what the kernel says."""
        async with serving(WorkloadApiServer(issuer(other), path)) as api:
            with pytest.raises(StatusError, match="no identity issued"):
                await identities(api)

    async def test_processes_of_one_user_are_told_apart(self, path: Path) -> None:
        """Another process gets what its process ID and executable are registered for, we do not."""
        script = (
            "import sys, anyio\n"
            "from spiffe_client.workload_api._messages import X509SvidResponse\n"
            "from tests.support.raw_workload_api import RawWorkloadApi\n"
            "sys.stdin.readline()\n"
            "async def main():\n"
            "    response = await RawWorkloadApi(sys.argv[1]).first('FetchX509SVID', X509SvidResponse)\n"
            "    print(*[s.spiffe_id for s in response.svids])\n"
            "anyio.run(main)\n"
        )
        async with await anyio.open_process(
            [sys.executable, "-c", script, f"unix:{path}"], cwd=Path(__file__).parents[2], stderr=None
        ) as child:
            theirs = Selectors(pid=child.pid, path=sys.executable if sys.platform == "linux" else None)
            async with serving(WorkloadApiServer(issuer(theirs), path)) as api:
                await child.stdin.send(b"\n")
                answer = b"".join([chunk async for chunk in child.stdout])
                with pytest.raises(StatusError, match="no identity issued"):
                    await identities(api)

        assert f"{ORDERS}\n".encode() == answer
