"""Identities and bundles change under running clients and servers."""

from __future__ import annotations

import gc
import ssl
import threading
import weakref
from itertools import cycle
from typing import Any

import pytest

from spiffe_client.bundle import BundleSet
from spiffe_client.errors import IdentityUnavailableError, PeerError, StaleError
from spiffe_client.tls import peer_of
from tests.support.pki import RSA_KEY, Authority, new_authority
from tests.support.tls_wire import TLS12, Source, Wire, context_of, plain_client, plain_server, tls_of

ROOT = new_authority("a.test")
PEER = ROOT.leaf("spiffe://a.test/peer")


def fresh(*, root: Authority = ROOT, **shape: Any) -> Any:
    return context_of(root.leaf("spiffe://a.test/me", **shape), ROOT)


def presented(tls_client: ssl.SSLContext) -> bytes | None:
    """The leaf that a server gets to see."""
    wire = Wire(tls_client, plain_server(PEER, trusts=ROOT)).handshake()
    return wire.server.getpeercert(binary_form=True)


class TestNextHandshake:
    def test_presents_the_new_identity(self) -> None:
        """Both roles, nobody touches a context."""
        source = Source(fresh())
        tls = tls_of(source)
        client, server = tls.client_context(), tls.server_context()
        for shape in ({}, {"key": RSA_KEY()}, {}):
            source.value = fresh(**shape)
            leaf = source.value.svid.ders[0]
            assert leaf == presented(client)
            assert leaf == Wire(plain_client(PEER), server).handshake().client.getpeercert(binary_form=True)

    def test_trusts_the_new_bundle(self) -> None:
        """At once, for better and for worse."""
        new = new_authority("a.test")
        before, after = plain_server(PEER), plain_server(new.leaf("spiffe://a.test/peer"))
        source = Source(fresh())
        client = tls_of(source).client_context()
        Wire(client, before).handshake()
        with pytest.raises(PeerError):
            Wire(client, after).handshake()
        source.value = context_of(new.leaf("spiffe://a.test/me"), new)
        Wire(client, after).handshake()
        with pytest.raises(PeerError):
            Wire(client, before).handshake()

    def test_a_handshake_under_way_keeps_what_it_began_with(self) -> None:
        """It presents one identity from begin to end."""
        source = Source(fresh())
        first = source.value
        wire = Wire(tls_of(source).client_context(), plain_server(PEER, trusts=ROOT))
        for step in (wire.client, wire.server):
            with pytest.raises(ssl.SSLWantReadError):
                step.do_handshake()
        source.value = fresh()
        wire.handshake().converse()
        assert first.svid.ders[0] == wire.server.getpeercert(binary_form=True)


class TestPrepare:
    def test_nothing_is_built_in_the_handshake(self) -> None:
        """What will be needed is known from the contexts that were made."""
        source = Source(fresh())
        tls = tls_of(source)
        client, server = tls.client_context(), tls.server_context()
        server.set_alpn_protocols(["h2"])
        after = fresh()
        tls.prepare(after)
        assert 2 == tls.stats.generations
        source.value = after
        presented(client)
        Wire(plain_client(PEER), server).handshake()
        assert 2 == tls.stats.generations

    def test_what_was_prepared_is_not_used_before_its_time(self) -> None:
        """The source says what is current, and preparing loses nothing of that."""
        source = Source(fresh())
        tls = tls_of(source)
        client = tls.client_context()
        first, after = source.value, fresh()
        presented(client)
        tls.prepare(after)
        assert first.svid.ders[0] == presented(client)
        source.value = after
        assert after.svid.ders[0] == presented(client)
        assert 2 == tls.stats.generations

    def test_prepared_before_the_first_handshake(self) -> None:
        """The current generation is built late, and the next one is not lost over it."""
        source = Source(fresh())
        tls = tls_of(source)
        client = tls.client_context()
        after = fresh()
        tls.prepare(after)
        presented(client)
        source.value = after
        presented(client)
        assert 2 == tls.stats.generations

    def test_twice_for_the_same_snapshot(self) -> None:
        """Several that share one `SpiffeTls` each have it prepared: the work is done once."""
        tls = tls_of(fresh())
        client, after = tls.client_context(), fresh()
        for _ in range(2):
            tls.prepare(after)
        assert 1 == tls.stats.generations
        del client

    def test_an_identity_that_cannot_be_loaded(self) -> None:
        """Is refused before anybody uses it; what is there goes on."""
        tls = tls_of(
            fresh(), configure=lambda c: c.set_ciphers("DEFAULT@SECLEVEL=3"), minimum_version=TLS12
        )  # level 3 wants more than 2048 bits of RSA
        client = tls.client_context()
        with pytest.raises(IdentityUnavailableError, match="OpenSSL refuses"):
            tls.prepare(fresh(key=RSA_KEY()))
        Wire(client, plain_server(PEER)).handshake()

    def test_with_no_context_made(self) -> None:
        """There is nothing to build, and nothing is."""
        tls = tls_of(fresh())
        tls.prepare(fresh())
        assert 0 == tls.stats.generations

    def test_only_for_contexts_that_are_still_there(self) -> None:
        """One that was dropped costs nothing at the next rotation."""
        tls = tls_of(fresh())
        tls.server_context()
        client = tls.client_context()
        gc.collect()
        tls.prepare(fresh())
        assert 1 == tls.stats.generations
        del client


class TestMemory:
    def test_one_generation_is_alive(self) -> None:
        """Twenty rotations later, the keys of nineteen are gone."""
        made: list[weakref.ref[ssl.SSLContext]] = []
        source = Source(fresh())
        tls = tls_of(source, configure=lambda context: made.append(weakref.ref(context)))
        facade = tls.client_context()
        made.clear()
        for prepared in [True, False] * 10:
            after = fresh()
            if prepared:
                tls.prepare(after)
            source.value = after
            presented(facade)
        gc.collect()
        assert (20, 1) == (len(made), sum(r() is not None for r in made))

    def test_released_without_a_handshake(self) -> None:
        """`release` is for `after_publish`: keys of a replaced or withdrawn identity go at once."""
        made: list[weakref.ref[ssl.SSLContext]] = []
        source = Source(fresh())
        tls = tls_of(source, configure=lambda context: made.append(weakref.ref(context)))
        facade = tls.client_context()
        presented(facade)
        made[:] = made[1:]
        after = fresh()
        tls.prepare(after)
        source.value = after
        tls.release()
        assert [False, True] == [r() is not None for r in made]
        tls.prepare(fresh())
        source.value = StaleError("taken back", reason="withdrawn")
        tls.release()
        assert [False, False, False] == [r() is not None for r in made]

    def test_a_withdrawn_identity_goes_with_the_next_try(self) -> None:
        """Also where nobody calls `release`."""
        made: list[weakref.ref[ssl.SSLContext]] = []
        source = Source(fresh())
        facade = tls_of(source, configure=lambda context: made.append(weakref.ref(context))).client_context()
        presented(facade)
        source.value = StaleError("taken back", reason="withdrawn")
        with pytest.raises(IdentityUnavailableError):
            presented(facade)
        assert made[-1]() is None

    def test_contexts_go_when_nobody_has_them(self) -> None:
        """Nothing of ours keeps a context, a connection or a `SpiffeTls` alive."""
        tls = tls_of(fresh())
        facade = tls.client_context()
        wire = Wire(facade, plain_server(PEER)).handshake()
        refs = [weakref.ref(x) for x in (tls, facade, wire.client)]
        del tls, facade, wire
        gc.collect()
        assert [None, None, None] == [r() for r in refs]

    def test_a_refused_connection_goes_without_the_collector(self) -> None:
        """What it remembers of its refusal holds no traceback."""
        gc.disable()
        try:
            facade = tls_of(fresh()).client_context()
            wire = Wire(facade, plain_server(new_authority("a.test").leaf("spiffe://a.test/peer")))
            with pytest.raises(PeerError) as e:
                wire.handshake()
            ref = weakref.ref(wire.client)
            del wire, e
            assert ref() is None
        finally:
            gc.enable()


class TestThreads:
    def test_one_build_for_all(self) -> None:
        """Handshakes that begin together wait for one context instead of making eight."""
        tls = tls_of(fresh())
        client = tls.client_context()
        start, failures = threading.Barrier(8), []

        def run() -> None:
            start.wait(10)
            try:
                presented(client)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ([], 1) == (failures, tls.stats.generations)

    def test_never_back(self) -> None:
        """A thread that was slow to look must not bring the former identity back."""
        old, new = fresh(), fresh()

        class Overtaken(Source):
            looks = 0

            @property
            def x509_context(self) -> Any:
                self.looks += 1
                return old if self.looks == 1 else new  # replaced between two looks

        source = Overtaken(new)
        tls = tls_of(source)
        client = tls.client_context()
        for _ in range(2):  # with nothing built yet, and with the new one in use already
            source.looks = 0
            assert new.svid.ders[0] == presented(client)
        assert 1 == tls.stats.generations

    def test_thousands_of_handshakes_hundreds_of_rotations(self) -> None:
        """Zero errors: no handshake ever sees a context that is being changed."""
        other = new_authority("a.test")
        bundles = (BundleSet([ROOT.bundle(other)]), BundleSet([other.bundle(ROOT, new_authority("a.test"))]))
        states = [
            context_of(root.leaf("spiffe://a.test/me", key=key), trusted)
            for root in (ROOT, other)
            for trusted in bundles
            for key in (None, RSA_KEY())
        ]
        source = Source(states[0])
        tls = tls_of(source)
        client, server = tls.client_context(), tls.server_context()
        failures: list[Exception] = []
        done = threading.Event()

        def handshakes() -> None:
            try:
                for _ in range(400):
                    wire = Wire(client, server).handshake()
                    assert peer_of(wire.client).id == peer_of(wire.server).id
            except Exception as error:
                failures.append(error)

        rotations = 0

        def rotate() -> None:
            nonlocal rotations
            for state in cycle(states):
                if done.wait(0.002):
                    return
                after = context_of(state.svid, state.bundles)
                if rotations % 2:
                    tls.prepare(after)
                source.value = after
                rotations += 1

        rotator = threading.Thread(target=rotate)
        threads = [threading.Thread(target=handshakes) for _ in range(3)]
        for thread in (rotator, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        rotator.join()
        assert [] == failures
        assert 2 * 1200 == tls.stats.handshakes
        assert 100 <= rotations
