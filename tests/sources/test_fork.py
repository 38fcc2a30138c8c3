"""Trap: a forked child serving a dead watcher's snapshot. A child reads nothing of its parent's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from spiffe_client import SourceClosedError
from spiffe_client.sources import X509Source

SCRIPT = """
import os, sys
import anyio
from spiffe_client import BundleSet, SourceClosedError
from spiffe_client.sources import BundleSource, JwtSource, X509Source
from tests.support.fake_workload_api import FakeWorkloadApi
from tests.support.manual_clock import ManualClock


def refused(read):
    try:
        read()
    except SourceClosedError as error:
        assert "open a new one in the child" in str(error), error
    else:
        raise AssertionError("the child was served")


async def child(api, x509, jwt, bundles):
    for read in (
        lambda: x509.x509_context,
        lambda: x509.svid,
        lambda: x509.x509_bundles,
        lambda: x509.changes(),
        lambda: jwt.jwt_bundles,
        lambda: jwt.verify_jwt_svid("token", "audience"),
        lambda: bundles.x509_bundles,
        lambda: bundles.jwt_bundles,
    ):
        refused(read)
    for source in (x509, jwt, bundles):
        assert "closed" == source.health.state
        assert isinstance(source.health.last_error, SourceClosedError)
        try:
            await source.open()
        except SourceClosedError as error:
            assert "make a new one in the child" in str(error), error
        else:
            raise AssertionError("the child opened its parent's source")
        await source.aclose()


async def parent():
    api = FakeWorkloadApi(ManualClock())
    api.x509.greeting = [api.context("/billing")]
    api.x509_bundles.greeting = [BundleSet([api.authority.x509_bundle])]
    terms = {"clock": api.clock}
    unopened = X509Source(api, **terms)
    async with X509Source(api, **terms) as x509, JwtSource(api, **terms) as jwt, BundleSource(api, **terms) as bundles:
        pid = os.fork()
        if pid == 0:
            try:
                coroutine = child(api, x509, jwt, bundles)
                try:
                    coroutine.send(None)
                except StopIteration:
                    os._exit(0)
                os._exit(3)  # it waited for something
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(2)
        _, status = os.waitpid(pid, 0)
        assert 0 == os.waitstatus_to_exitcode(status), status
        assert x509.svid and jwt.jwt_bundles and bundles.jwt_bundles  # the parent is not disturbed
        assert api.x509.live and api.jwt_bundles.live
    return api, unopened


async def later(api, source):
    async with source:
        assert source.svid


api, unopened = anyio.run(parent, backend=sys.argv[1])
pid = os.fork()
if pid == 0:
    try:
        # Made before the fork and opened after it: that is what pre-forking servers do.
        anyio.run(later, api, unopened, backend=sys.argv[1])
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(2)
_, status = os.waitpid(pid, 0)
assert 0 == os.waitstatus_to_exitcode(status), status
print("ok")
"""


def test_forked_child_is_refused(anyio_backend) -> None:
    """A real fork: every read raises in the child, closing is harmless, and the parent goes on."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT), anyio_backend],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ("ok\n", "") == (run.stdout, run.stderr)


@pytest.mark.anyio
async def test_a_child_may_ask_how_it_is(world, monkeypatch) -> None:
    """Health never raises, so that a readiness probe in a child gets an answer: closed, and why."""
    world.api.x509.greeting = [world.api.context("/billing")]
    async with X509Source(world.api, **world.terms) as source:
        changes = source.changes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            assert "closed" == source.health.state
            assert "opened before this process was forked" in str(source.health.last_error)
            with pytest.raises(SourceClosedError, match="make a new one in the child"):
                await source.open()
            with pytest.raises(SourceClosedError, match="open a new one in the child"):
                await anext(changes)
            await source.aclose()
        assert "fresh" == source.health.state
