"""Why there is no connection is told apart, for `doctor` and for whoever waits."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from blockbuster import blockbuster_ctx

from spiffe_client.errors import UnavailableError
from spiffe_client.workload_api import Endpoint, WorkloadApiClient, _connect

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "api.sock"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        yield listener


async def refused(endpoint: Endpoint) -> UnavailableError:
    """Connecting fails, without a blocking call on the way."""
    with blockbuster_ctx("spiffe_client"), pytest.raises(UnavailableError) as e:
        await _connect.connect(endpoint)
    assert f"cannot connect to {endpoint}: " in str(e.value)
    assert isinstance(e.value.__cause__, OSError)
    return e.value


def unix(path: Path) -> Endpoint:
    return Endpoint("unix", path=str(path))


class TestUnix:
    async def test_connects(self, path: Path, listener: socket.socket) -> None:
        """A socket that somebody listens at is connected to."""
        async with await _connect.connect(unix(path)) as stream:
            peer, _ = listener.accept()
            with peer:
                await stream.send(b"hello")
                assert b"hello" == peer.recv(5)

    async def test_path_that_is_no_text(self, path: Path) -> None:
        """Workload Endpoint §4: a path is bytes, and any of them can be percent-encoded."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.fsencode(path) + b"-\xff")
            listener.listen()
            stream = await _connect.connect(Endpoint.parse(f"unix://{path}-%FF"))
            await stream.aclose()

    async def test_missing(self, path: Path) -> None:
        """Workload Endpoint §6: an endpoint that does not exist (yet) can be waited for."""
        error = await refused(unix(path))

        assert ("missing", True) == (error.cause_kind, error.retryable)
        assert "does not exist: is the agent running" in str(error)

    async def test_folder_is_no_folder(self, path: Path) -> None:
        """A file where a folder should be is the same as no socket."""
        path.write_text("a file")

        assert "missing" == (await refused(unix(path / "api.sock"))).cause_kind

    async def test_nobody_listens(self, path: Path, listener: socket.socket) -> None:
        """The socket of an agent that was killed is still there."""
        listener.close()
        error = await refused(unix(path))

        assert "refused" == error.cause_kind
        assert "nobody listens there" in str(error)

    @pytest.mark.parametrize("kind", ["file", "folder", "link to a file"])
    async def test_not_a_socket(self, path: Path, kind: str) -> None:
        """Something else at the path is not mistaken for an agent that is restarting."""
        target = path.with_suffix(".target") if "link" in kind else path
        if target != path:
            path.symlink_to(target)
        if kind == "folder":
            path.mkdir()
        else:
            target.write_text("a file")
        error = await refused(unix(path))

        assert "not_a_socket" == error.cause_kind

    async def test_socket_of_another_type(self, path: Path) -> None:
        """A datagram socket is not one that an agent listens at."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(path))

            assert "not_a_socket" == (await refused(unix(path))).cause_kind

    async def test_queue_is_full(self, path: Path, listener: socket.socket) -> None:
        """An agent that hangs does not make its clients spin, nor take themselves for connected."""
        waiting = []
        with pytest.raises(BlockingIOError):
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(path))
        error = await refused(unix(path))
        for sock in waiting:
            sock.close()

        assert "busy" == error.cause_kind

    async def test_forbidden(self, path: Path, listener: socket.socket) -> None:
        """A socket that this user may not write to is a matter of permissions, and says so."""
        path.chmod(0)
        with not_as_root():
            error = await refused(unix(path))

        assert "forbidden" == error.cause_kind
        assert "permission denied" in str(error)

    async def test_vanishes_while_it_is_looked_at(
        self, path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What refused the connection and is gone a moment later was a socket."""
        listener.close()

        def gone(*_: object) -> int:
            raise FileNotFoundError

        monkeypatch.setattr(_connect, "os", SimpleNamespace(open=gone, O_PATH=os.O_PATH))
        with pytest.raises(UnavailableError) as e:
            await _connect.connect(unix(path))

        assert "refused" == e.value.cause_kind

    async def test_elsewhere_the_system_tells(
        self, path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On other systems than Linux the error of connect() is taken at its word."""
        listener.close()
        path.unlink()
        path.write_text("a file")
        monkeypatch.setattr(_connect, "sys", SimpleNamespace(platform="darwin"))

        assert "refused" == (await refused(unix(path))).cause_kind

    async def test_cancelled_while_it_connects(
        self, path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever gives up leaves no open socket behind."""

        async def slow(_: socket.socket) -> None:
            await anyio.sleep_forever()

        monkeypatch.setattr(_connect, "UNIXSocketStream", SimpleNamespace(from_socket=slow))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await _connect.connect(unix(path))
        peer, _ = listener.accept()
        with peer:
            assert b"" == peer.recv(1)


@contextmanager
def not_as_root() -> Iterator[None]:
    """Root may do everything: be somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestTcp:
    @pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
    async def test_connects(self, family: int, host: str) -> None:
        """Workload Endpoint §3: a TCP socket serves as well, IPv6 too."""
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            listener.listen()
            async with await _connect.connect(Endpoint("tcp", host=host, port=listener.getsockname()[1])) as stream:
                peer, _ = listener.accept()
                with peer:
                    await stream.send(b"hello")
                    assert b"hello" == peer.recv(5)

    async def test_nobody_listens(self) -> None:
        """A port without a listener is refused, and is not looked for in the file system."""
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            error = await refused(Endpoint("tcp", host="127.0.0.1", port=bound.getsockname()[1]))

        assert "refused" == error.cause_kind

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (errno.EHOSTUNREACH, "unreachable"),
            (errno.ENETUNREACH, "unreachable"),
            (errno.ETIMEDOUT, "timed_out"),
            (errno.EMFILE, "unreachable"),
            (None, "unreachable"),
        ],
    )
    async def test_no_way_there(self, number: int | None, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever else keeps it from connecting is named in the system's words."""
        happened = OSError("odd") if number is None else OSError(number, os.strerror(number))

        async def fails(*_: object) -> None:
            raise OSError("All connection attempts failed") from happened

        monkeypatch.setattr(_connect.anyio, "connect_tcp", fails)
        error = await refused(Endpoint("tcp", host="192.0.2.1", port=1))

        assert kind == error.cause_kind
        assert kind == "timed_out" or str(error).endswith("odd" if number is None else os.strerror(number))


async def test_same_errors_from_the_client(path: Path) -> None:
    """Every call reports them: nothing is retried and nothing hidden behind a timeout."""
    client = WorkloadApiClient(unix(path))
    for call in (
        client.fetch_x509_context,
        client.fetch_x509_bundles,
        client.fetch_jwt_bundles,
        lambda: client.fetch_jwt_svids("orders"),
        lambda: client.validate_jwt_svid("token", audience="orders"),
        client.experimental.fetch_wit_svids,
        client.experimental.fetch_wit_bundles,
        client.watch_x509_contexts(refused=pytest.fail).__aenter__,
    ):
        with pytest.raises(UnavailableError) as e:
            await call()
        assert "missing" == e.value.cause_kind
