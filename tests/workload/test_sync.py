"""The same front door for blocking code: one background thread, instant reads, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import anyio
import httpx
import pytest

from spiffe_client import (
    EndpointError,
    FirstUpdateTimeoutError,
    PeerError,
    AudienceError,
    SourceClosedError,
    X509Context,
    allow,
    sync,
)
from spiffe_client.errors import find
from spiffe_client.tls import peer_of

BILLING = "spiffe://prod.example/billing"

from tests.support.canary import assert_no_secret


class TestLife:
    def test_three_lines(self, blocking_dev, monkeypatch) -> None:
        """With the address in the environment nothing has to be said; one thread, while it is open."""
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", blocking_dev.endpoint)
        before = set(threading.enumerate())
        with sync.Workload() as me:
            assert BILLING == str(me.id)
            assert me.id == me.x509_svid.id
            assert me.x509_bundles is me.x509_context.bundles
            assert "fresh" == me.health.state
            assert ["spiffe-client"] == [t.name for t in threading.enumerate() if t not in before]
        assert [] == [t.name for t in threading.enumerate() if t not in before]
        assert "closed" == me.health.state

    def test_open_and_close(self, blocking_dev) -> None:
        """Idempotent both ways; closed is for good."""
        me = sync.Workload(blocking_dev.endpoint)
        me.close()
        me = sync.Workload(blocking_dev.endpoint)
        assert me is me.open()
        assert me is me.open()
        me.close()
        me.close()
        with pytest.raises(SourceClosedError):
            me.open()
        with pytest.raises(SourceClosedError):
            _ = me.id
        with pytest.raises(SourceClosedError):
            me.jwt_svid("reports")

    def test_a_failed_opening_leaves_no_thread(self, tmp_path) -> None:
        """No agent within the deadline: the error says why, and the thread is gone."""
        before = set(threading.enumerate())
        with pytest.raises(FirstUpdateTimeoutError):
            sync.Workload(f"unix://{tmp_path}/agent.sock", timeout=0).open()
        assert [] == [t.name for t in threading.enumerate() if t not in before]

    def test_not_open_and_closed(self, blocking_dev) -> None:
        """The error speaks of what the user holds, and of `with`."""
        me = sync.Workload(blocking_dev.endpoint)
        with pytest.raises(SourceClosedError, match=r"^this Workload was not opened yet: use `with Workload"):
            _ = me.id
        with pytest.raises(SourceClosedError, match=r"^this Workload is not open: open it first \(`with`\)"):
            me.jwt_svid("a")
        with me:
            pass
        with pytest.raises(SourceClosedError, match="^this Workload was closed"):
            _ = me.id
        with pytest.raises(SourceClosedError, match="^this Workload was closed"):
            me.open()

    def test_a_refused_token_is_in_no_frame(self, blocking_dev) -> None:
        """A crash reporter that prints locals prints no token, neither here nor on the loop's thread."""
        with sync.Workload(blocking_dev.endpoint) as me:
            token = me.jwt_svid("orders").token.reveal()
            with pytest.raises(AudienceError) as e:
                me.verify_jwt_svid(token, "others")
        assert_no_secret(e.value, token)

    def test_a_malformed_address(self) -> None:
        """It fails where it is written."""
        with pytest.raises(EndpointError):
            sync.Workload("nonsense")

    def test_closed_by_two(self, blocking_dev) -> None:
        """Two threads may close at the same time."""
        me = sync.Workload(blocking_dev.endpoint).open()
        errors = []

        def close() -> None:
            try:
                me.close()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [] == errors

    def test_closing_while_another_closes(self, blocking_dev, monkeypatch) -> None:
        """Who comes second, when the loop has just ended, is done too."""
        me = sync.Workload(blocking_dev.endpoint).open()
        call = me._portal.call

        def ended(*args) -> None:
            call(*args)
            raise SourceClosedError("this was closed while the call was running")

        with monkeypatch.context() as patch:
            patch.setattr(me._portal, "call", ended)
            me.close()
        assert not me._portal.running

    def test_errors_of_the_body_arrive_bare(self, blocking_dev) -> None:
        """A KeyError inside `with` is a KeyError."""
        with pytest.raises(KeyError, match="mine"), sync.Workload(blocking_dev.endpoint):
            raise KeyError("mine")


class TestFreshness:
    def test_updates(self, blocking_dev) -> None:
        """What the agent pushes is read at once, awaited, and iterated until the close."""
        with sync.Workload(blocking_dev.endpoint) as me:
            seen: list[X509Context] = []
            got_one = threading.Event()

            def follow() -> None:
                for context in changes:
                    seen.append(context)
                    got_one.set()

            before, changes = me.x509_context, me.changes()
            waiting = threading.Thread(target=me.wait_updated, args=(20,))
            following = threading.Thread(target=follow)
            waiting.start()
            following.start()
            while waiting.is_alive():  # it may not wait yet when the first push comes
                blocking_dev.rotate()
                waiting.join(0.05)
            assert got_one.wait(20)
            assert before is not me.x509_context
            current = me.x509_context
        following.join(20)
        assert not following.is_alive()
        assert current is seen[-1]

    def test_waiting_has_a_deadline(self, blocking_dev) -> None:
        """No update in time is a TimeoutError."""
        with sync.Workload(blocking_dev.endpoint) as me:
            with pytest.raises(TimeoutError):
                me.wait_updated(timeout=0)

    def test_changes_after_the_close(self, blocking_dev) -> None:
        """An iterator that outlives its workload ends; a new one is refused."""
        with sync.Workload(blocking_dev.endpoint) as me:
            changes = me.changes()
        assert [] == list(changes)
        with pytest.raises(SourceClosedError):
            me.changes()

    def test_a_crash_is_not_a_quiet_end(self, blocking_dev) -> None:
        """If the background task crashes, who iterates is told."""
        with sync.Workload(blocking_dev.endpoint) as me:
            changes = me.changes()

            try:
                raise ZeroDivisionError
            except ZeroDivisionError as error:
                crashed = error

            async def fail() -> None:
                me._inner._x509._lifetime._crashed(crashed)

            me._portal.call(fail)
            with pytest.raises(SourceClosedError, match="crashed"):
                next(changes)

    def test_listeners(self, blocking_dev) -> None:
        """Prepared in a thread that blocks nobody, told on the background thread."""

        class Listener:
            def __init__(self) -> None:
                self.heard = []
                self.told = threading.Event()

            def before(self, context) -> None:
                self.heard.append(context)

            def after(self) -> None:
                self.heard.append(me.x509_context)
                self.told.set()

        listener = Listener()
        with sync.Workload(blocking_dev.endpoint) as me:
            me.before_publish(listener.before)
            me.after_publish(listener.after)
            blocking_dev.rotate()
            assert listener.told.wait(20)
            assert [me.x509_context, me.x509_context] == listener.heard


class TestTokensAndChannels:
    def test_jwt_svid(self, blocking_dev) -> None:
        """Fetched once, verified offline."""
        with sync.Workload(blocking_dev.endpoint) as me:
            svid = me.jwt_svid("reports", subject=BILLING)
            assert svid is me.jwt_svid("reports", subject=BILLING, timeout=20)
            assert me.id == me.verify_jwt_svid(svid.token.reveal(), audience="reports").id

    def test_mtls_both_ends(self, blocking_dev) -> None:
        """Plain blocking sockets with `server_tls` and `tls`, and the blocking HTTP client."""
        import http.server

        class WhoCalls(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = str(peer_of(self.connection).id).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        with sync.Workload(blocking_dev.endpoint) as me:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WhoCalls)
            server.socket = me.server_tls(peer=allow(BILLING)).wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            url = f"https://127.0.0.1:{server.server_port}/"
            try:
                with me.http(peer=BILLING, timeout=20) as client:
                    assert BILLING == client.get(url).text
                with httpx.Client(verify=me.tls(peer=BILLING), timeout=20) as client:
                    assert BILLING == client.get(url).text
                with me.http(peer="spiffe://prod.example/orders", timeout=20) as client:
                    with pytest.raises(httpx.ConnectError) as e:
                        client.get(url)
                    assert find(e.value, PeerError)
            finally:
                server.shutdown()
                thread.join(20)
                server.server_close()


FORKING = """
import os, sys
from spiffe_client import SourceClosedError, sync

made_before = sync.Workload(sys.argv[1])
with sync.Workload(sys.argv[1]) as me:
    pid = os.fork()
    if pid == 0:
        try:
            for use in (lambda: me.id, lambda: me.wait_updated(), lambda: me.jwt_svid("a"), me.open):
                try:
                    use()
                except SourceClosedError as error:
                    assert "in the child" in str(error), error
                else:
                    raise AssertionError("the child was served")
            me.close()
            with made_before as mine:  # as a pre-forking server does
                assert mine.id
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert me.jwt_svid("a").id == me.id
print("ok")
"""


def test_fork(blocking_dev) -> None:
    """Trap: a child serving a dead watcher's snapshot. It is refused; one made before and opened after works."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORKING, blocking_dev.endpoint],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ("ok\n", "") == (run.stdout, run.stderr)


def test_an_unclosed_workload_does_not_hang_the_exit(blocking_dev) -> None:
    """A script that forgets to close ends, and is told."""
    code = "import sys; from spiffe_client import sync; me = sync.Workload(sys.argv[1]).open(); print(me.id)"
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", code, blocking_dev.endpoint],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (0, BILLING + "\n") == (run.returncode, run.stdout)
    assert "ResourceWarning" in run.stderr


def test_it_is_no_coroutine_in_disguise(blocking_dev) -> None:
    """Called from inside an event loop's thread it still blocks, on its own loop."""

    async def main() -> str:
        with sync.Workload(blocking_dev.endpoint) as me:
            return str(me.id)

    assert BILLING == anyio.run(main)
    assert os.getpid()
