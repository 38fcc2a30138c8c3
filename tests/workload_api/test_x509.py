"""X.509 messages become contexts and bundles that are checked, or errors that say where and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiffe_client.bundle import X509Bundle
from spiffe_client.errors import BundleError, ProtocolError, SpiffeError, X509SvidError
from spiffe_client.ids import TrustDomain
from spiffe_client.workload_api import X509Context
from spiffe_client.workload_api._messages import X509BundlesResponse, X509SvidEntry, X509SvidResponse
from spiffe_client.workload_api._x509 import read_x509_bundles, read_x509_context
from tests.support.pki import Authority, days, new_authority

#: Fuzzing is never timed: the machine may be busy.
fuzz = settings(deadline=None)

A, B, C = (new_authority(f"{name}.test") for name in "abc")
STRANGER = new_authority("a.test")
ORDERS, BILLING = "spiffe://a.test/orders", "spiffe://a.test/billing"


def entry(authority: Authority = A, spiffe_id: str = ORDERS, *, hint: str = "") -> X509SvidEntry:
    """An identity as the Workload API sends it."""
    leaf = authority.leaf(spiffe_id)
    chain = b"".join(leaf.ders)
    return X509SvidEntry(spiffe_id, chain, leaf.key_der, authority.bundle().to_der(), hint)


GOOD = entry()


def read(response: X509SvidResponse, *, at: datetime | None = None) -> tuple[X509Context, list[SpiffeError]]:
    """The context and what was left out of it."""
    refused: list[SpiffeError] = []
    return read_x509_context(response.encode(), at=at or days(0), refused=refused.append), refused


def refuse(response: X509SvidResponse, kind: type[SpiffeError], why: str) -> SpiffeError:
    """The message is refused whole, by exactly this kind of error."""
    with pytest.raises(kind, match=why) as e:
        read(response)
    assert kind is type(e.value)
    return e.value


class TestContext:
    def test_one_identity(self) -> None:
        """Workload API §5.2.1: chain, key, own bundle and hint make an identity that proves itself."""
        context, refused = read(X509SvidResponse(svids=(replace(GOOD, hint="internal"),)))

        assert [(ORDERS, "internal")] == [(str(s.id), s.hint) for s in context.svids]
        assert b"".join(context.svid.ders) == GOOD.x509_svid
        assert [A.bundle()] == list(context.bundles.values())
        assert [] == refused

    def test_first_is_the_default(self) -> None:
        """Workload API §8: the first SVID in the list is the default identity."""
        context, _ = read(X509SvidResponse(svids=(entry(spiffe_id=BILLING), GOOD)))

        assert [BILLING, ORDERS] == [str(s.id) for s in context.svids]
        assert context.svids[0] is context.svid

    def test_intermediates(self) -> None:
        """Workload API §5.2.1: the chain is concatenated DER, leaf first, intermediates after it."""
        leaf = A.intermediate().leaf(ORDERS)
        chained = replace(GOOD, x509_svid=b"".join(leaf.ders), x509_svid_key=leaf.key_der)

        context, _ = read(X509SvidResponse(svids=(chained,)))

        assert 2 == len(context.svid.chain)

    def test_bundle_of_several_authorities(self) -> None:
        """Workload API §5.2.1: a bundle may hold several authorities, all of them count."""
        both = replace(GOOD, bundle=A.bundle(STRANGER).to_der())

        context, _ = read(X509SvidResponse(svids=(both, replace(entry(STRANGER), bundle=both.bundle))))

        assert 2 == len(context.bundles[TrustDomain("a.test")].authorities)
        assert 2 == len(context.svids)

    def test_two_trust_domains_of_ones_own(self) -> None:
        """Each identity brings the bundle of its own trust domain."""
        context, _ = read(X509SvidResponse(svids=(GOOD, entry(B, "spiffe://b.test/x"))))

        assert {TrustDomain("a.test"): A.bundle(), TrustDomain("b.test"): B.bundle()} == dict(context.bundles)

    def test_revocation_lists_are_passed_on(self) -> None:
        """Workload API §5.2.1: `crl` is optional and kept as it is."""
        context, _ = read(X509SvidResponse(svids=(GOOD,), crl=(b"one", b"two")))

        assert (b"one", b"two") == context.crls

    def test_each_message_stands_alone(self) -> None:
        """Workload API §4.4: what a message does not have is gone, nothing is kept of the one before."""
        first = X509SvidResponse((replace(GOOD, hint="h"),), (b"crl",), {"spiffe://b.test": B.bundle().to_der()})
        read(first)

        context, _ = read(X509SvidResponse(svids=(GOOD,)))

        assert ([TrustDomain("a.test")], (), "") == (list(context.bundles), context.crls, context.svid.hint)


class TestMandatoryFields:
    def test_no_svids(self) -> None:
        """Workload API §4.5, §5.2.1: a response without SVIDs is discarded."""
        refuse(X509SvidResponse(), ProtocolError, "X509SVIDResponse: the mandatory field svids is empty")

    @pytest.mark.parametrize("name", ["spiffe_id", "x509_svid", "x509_svid_key", "bundle"])
    def test_empty(self, name: str) -> None:
        """Workload API §4.5: all of an X509SVID but its hint is mandatory; one empty field costs the message."""
        bad = replace(GOOD, **{name: type(getattr(GOOD, name))()})

        why = rf"X509SVIDResponse\.svids\[1\]: the mandatory field {name} is empty"
        refuse(X509SvidResponse(svids=(GOOD, bad)), ProtocolError, why)

    def test_empty_in_an_entry_that_is_not_used(self) -> None:
        """Workload API §4.5: the rule is about the message, also where an equal hint drops the entry."""
        svids = (replace(GOOD, hint="h"), X509SvidEntry(hint="h"))

        refuse(X509SvidResponse(svids=svids), ProtocolError, "mandatory field spiffe_id is empty")


class TestHints:
    def test_equal_hints(self) -> None:
        """Workload API §5.2.1: of several SVIDs with the same hint the first is selected."""
        svids = (entry(hint="h"), entry(spiffe_id=BILLING, hint="h"), entry(spiffe_id=BILLING, hint="other"))

        context, _ = read(X509SvidResponse(svids=svids))

        assert [(ORDERS, "h"), (BILLING, "other")] == [(str(s.id), s.hint) for s in context.svids]

    def test_empty_hints_are_not_equal(self) -> None:
        """Workload API §5.2.1: only a hint that is set can be set twice."""
        context, _ = read(X509SvidResponse(svids=(GOOD, entry(spiffe_id=BILLING))))

        assert [ORDERS, BILLING] == [str(s.id) for s in context.svids]


class TestHardening:
    """X509-SVID §5, hardening: an SVID is checked before use, one bad one costs the message."""

    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (replace(GOOD, spiffe_id=BILLING), f"the certificate is of {ORDERS}"),
            (replace(GOOD, x509_svid=entry().x509_svid), "key"),
            (replace(GOOD, bundle=STRANGER.bundle().to_der()), "no authority in the bundle of a.test issued it"),
            (replace(GOOD, x509_svid=GOOD.x509_svid[:-1]), "no complete DER"),
            (replace(GOOD, x509_svid=GOOD.x509_svid + b"x"), "no complete DER"),
            (replace(GOOD, x509_svid=b"text"), "no complete DER"),
            (replace(GOOD, x509_svid_key=b"text"), "key"),
            (replace(GOOD, x509_svid_key=GOOD.x509_svid_key + b"x"), "key"),
        ],
    )
    def test_bad_svid(self, bad: X509SvidEntry, why: str) -> None:
        """Wrong ID, another's key, an issuer outside of its bundle, broken DER: refused, saying where."""
        response = X509SvidResponse(svids=(entry(spiffe_id=BILLING), bad))

        refuse(response, X509SvidError, rf"X509SVIDResponse\.svids\[1\] \(spiffe://a\.test/\w+\): .*{why}")

    @pytest.mark.parametrize(
        "leaf",
        [
            A.leaf(ORDERS, BILLING),
            A.leaf(dns=["orders.test"]),
            A.leaf(ORDERS, ca=True),
            A.leaf(ORDERS, usage=["digital_signature", "key_cert_sign"]),
            A.leaf("spiffe://a.test"),
            A.leaf(ORDERS, not_before=days(-2), not_after=days(-1)),
            A.leaf(ORDERS, not_before=days(1), not_after=days(2)),
            B.leaf(ORDERS),
        ],
        ids=["two IDs", "no ID", "CA", "may sign", "no path", "expired", "not yet valid", "other issuer"],
    )
    def test_bad_leaf(self, leaf: object) -> None:
        """X509-SVID §2-5: the rules for leaves and paths hold for one's own SVID too."""
        bad = replace(GOOD, x509_svid=b"".join(leaf.ders), x509_svid_key=leaf.key_der)

        refuse(X509SvidResponse(svids=(bad,)), X509SvidError, r"X509SVIDResponse\.svids\[0\]")

    def test_validity_is_now(self) -> None:
        """Time is an argument: the same message is good today and expired next week."""
        response = X509SvidResponse(svids=(GOOD,))

        assert ORDERS == str(read(response, at=days(0.9))[0].svid.id)
        with pytest.raises(X509SvidError):
            read(response, at=days(1.1))

    @pytest.mark.parametrize(
        ("text", "why"),
        [("spiffe://a.test/a//b", "empty segment"), ("orders", "must begin with spiffe://")],
    )
    def test_no_spiffe_id(self, text: str, why: str) -> None:
        """SPIFFE-ID §2: what is no SPIFFE ID is no mandatory field either."""
        response = X509SvidResponse(svids=(replace(GOOD, spiffe_id=text),))

        refuse(response, ProtocolError, rf"X509SVIDResponse\.svids\[0\]: spiffe_id: .*{why}")

    @pytest.mark.parametrize("bundle", [b"text", A.bundle().to_der()[:-1], GOOD.x509_svid_key])
    def test_own_bundle_is_broken(self, bundle: bytes) -> None:
        """A broken own bundle costs the message, so it is no BundleError, which would cost one domain."""
        refuse(
            X509SvidResponse(svids=(replace(GOOD, bundle=bundle),)),
            ProtocolError,
            r"X509SVIDResponse\.svids\[0\]: bundle:",
        )

    def test_two_bundles_for_the_own_trust_domain(self) -> None:
        """A message that contradicts itself about whom to trust is refused, not pooled."""
        response = X509SvidResponse(svids=(GOOD, entry(STRANGER, BILLING)))

        refuse(response, ProtocolError, r"svids\[1\]: another bundle of a\.test than the entries before")

    def test_certificate_of_another_trust_domain_signed_by_the_own(self) -> None:
        """A pooled trust store would accept this: A's authority vouches for an ID of B."""
        leaf = A.leaf("spiffe://b.test/x")
        forged = X509SvidEntry("spiffe://b.test/x", b"".join(leaf.ders), leaf.key_der, B.bundle().to_der())

        refuse(X509SvidResponse(svids=(GOOD, forged)), X509SvidError, "no authority in the bundle of b.test")

    def test_no_key_in_errors(self) -> None:
        """A key that cannot be used does not show in any exception of the chain."""
        key = entry().x509_svid_key
        error: BaseException | None = refuse(
            X509SvidResponse(svids=(replace(GOOD, x509_svid_key=key),)), X509SvidError, "key"
        )
        while error is not None:
            assert repr(key)[2:20] not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__


class TestFederatedBundles:
    def test_by_trust_domain(self) -> None:
        """Workload API §4.6: a foreign bundle is for its own trust domain."""
        federated = {"spiffe://b.test": B.bundle().to_der(), "spiffe://c.test": C.bundle().to_der()}

        context, refused = read(X509SvidResponse(svids=(GOOD,), federated_bundles=federated))

        expected = {TrustDomain(f"{n}.test"): authority.bundle() for n, authority in zip("abc", (A, B, C))}
        assert expected == dict(context.bundles)
        assert [] == refused

    @pytest.mark.parametrize(
        ("key", "bundle", "why"),
        [
            ("spiffe://b.test", b"", "no bytes"),
            ("spiffe://b.test", b"text", "no complete DER"),
            ("spiffe://b.test", B.bundle().to_der()[:-1], "no complete DER"),
            ("spiffe://b.test/x", B.bundle().to_der(), "names a workload"),
            ("spiffe://", B.bundle().to_der(), "the trust domain is empty"),
            ("https://b.test", B.bundle().to_der(), "must begin with spiffe://"),
            ("b test", B.bundle().to_der(), "may not hold ' '"),
            ("", B.bundle().to_der(), "the trust domain is empty"),
        ],
    )
    def test_bad_one_costs_only_itself(self, key: str, bundle: bytes, why: str) -> None:
        """One bad federated bundle closed sources of other clients for good: here it is left out."""
        federated = {"spiffe://c.test": C.bundle().to_der(), key: bundle}

        context, [refused] = read(X509SvidResponse(svids=(GOOD,), federated_bundles=federated))

        assert {TrustDomain("a.test"), TrustDomain("c.test")} == set(context.bundles)
        assert BundleError is type(refused)
        assert f"X509SVIDResponse.federated_bundles: the bundle of {key!r} is left out: " in str(refused)
        assert why in str(refused)

    def test_plain_names(self) -> None:
        """Some servers write the name of the trust domain where its SPIFFE ID belongs."""
        context, refused = read(X509SvidResponse(svids=(GOOD,), federated_bundles={"b.test": B.bundle().to_der()}))

        assert {TrustDomain("a.test"), TrustDomain("b.test")} == set(context.bundles)
        assert [] == refused

    def test_two_spellings(self) -> None:
        """A trust domain cannot be there twice: the first entry counts."""
        federated = {"spiffe://b.test": B.bundle().to_der(), "spiffe://B.TEST": C.bundle().to_der()}

        context, [refused] = read(X509SvidResponse(svids=(GOOD,), federated_bundles=federated))

        assert B.bundle() == context.bundles[TrustDomain("b.test")]
        assert "'spiffe://B.TEST' is left out: its trust domain is there already" in str(refused)

    def test_the_own_bundle_is_not_overridden(self) -> None:
        """Hardening of Workload API §4.6: who can federate cannot replace the own roots."""
        federated = {"spiffe://a.test": STRANGER.bundle().to_der()}

        context, [refused] = read(X509SvidResponse(svids=(GOOD,), federated_bundles=federated))

        assert A.bundle() == context.bundles[TrustDomain("a.test")]
        assert "another bundle of the own trust domain a.test is left out" in str(refused)

    def test_the_own_bundle_again(self) -> None:
        """The same bundle a second time is nothing to report."""
        federated = {"spiffe://a.test": A.bundle().to_der()}

        context, refused = read(X509SvidResponse(svids=(GOOD,), federated_bundles=federated))

        assert [TrustDomain("a.test")] == list(context.bundles)
        assert [] == refused

    def test_a_huge_key_makes_no_huge_error(self) -> None:
        """What an error quotes is bounded."""
        _, [refused] = read(X509SvidResponse(svids=(GOOD,), federated_bundles={"x" * 100_000: b""}))

        assert len(str(refused)) < 700


class TestBundles:
    def test_by_trust_domain(self) -> None:
        """Workload API §5.2.2: bundles by trust domain, the own one among them."""
        bundles = {"spiffe://a.test": A.bundle(STRANGER).to_der(), "spiffe://b.test": B.bundle().to_der()}

        read = read_x509_bundles(X509BundlesResponse((b"crl",), bundles).encode(), refused=pytest.fail)

        assert {TrustDomain("a.test"): A.bundle(STRANGER), TrustDomain("b.test"): B.bundle()} == dict(read)

    def test_bad_one_costs_only_itself(self) -> None:
        """A bad bundle is left out and reported."""
        refused: list[SpiffeError] = []
        bundles = {"spiffe://a.test": A.bundle().to_der(), "spiffe://b.test": b"text"}

        read = read_x509_bundles(X509BundlesResponse((), bundles).encode(), refused=refused.append)

        assert [TrustDomain("a.test")] == list(read)
        assert [BundleError] == [type(error) for error in refused]

    @pytest.mark.parametrize("bundles", [{}, {"spiffe://a.test": b"text"}])
    def test_none_is_usable(self, bundles: dict[str, bytes]) -> None:
        """Workload API §4.5: `bundles` is mandatory; a message without a usable one is discarded."""
        with pytest.raises(ProtocolError, match="X509BundlesResponse.bundles: there is no bundle"):
            read_x509_bundles(X509BundlesResponse((), bundles).encode(), refused=lambda _: None)


MESSAGE = X509SvidResponse((GOOD,), (), {"spiffe://b.test": B.bundle().to_der()}).encode()
BUNDLES = X509BundlesResponse((), {"spiffe://b.test": B.bundle().to_der()}).encode()


class TestAnyBytes:
    @fuzz
    @given(st.binary(max_size=200))
    def test_noise(self, data: bytes) -> None:
        """Any bytes are a value or a typed error."""
        for read in (
            lambda: read_x509_context(data, at=days(0), refused=lambda _: None),
            lambda: read_x509_bundles(data, refused=lambda _: None),
        ):
            with pytest.raises(SpiffeError):
                read()

    @fuzz
    @given(position=st.integers(0, len(MESSAGE) - 1), byte=st.integers(0, 255))
    def test_damaged_context(self, position: int, byte: int) -> None:
        """A message with one damaged byte is a value or a typed error."""
        data = bytearray(MESSAGE)
        data[position] = byte
        try:
            context = read_x509_context(bytes(data), at=days(0), refused=lambda _: None)
        except SpiffeError:
            return
        assert ORDERS == str(context.svid.id)

    @fuzz
    @given(position=st.integers(0, len(BUNDLES) - 1), byte=st.integers(0, 255))
    def test_damaged_bundles(self, position: int, byte: int) -> None:
        """So are bundles."""
        data = bytearray(BUNDLES)
        data[position] = byte
        try:
            bundles = read_x509_bundles(bytes(data), refused=lambda _: None)
        except SpiffeError:
            return
        assert 1 == len(bundles)


class TestForeignBundles:
    def test_what_nobody_foresaw_costs_only_the_foreign_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Attack: a federated bundle that our reader falls over must not take our identity with it."""
        foreign = "spiffe://b.test"

        def parse(trust_domain: TrustDomain, der: bytes) -> X509Bundle:
            if trust_domain == B.bundle().trust_domain:
                raise ValueError("too many digits")
            return parse_der(trust_domain, der)

        parse_der = X509Bundle.parse_der
        monkeypatch.setattr(X509Bundle, "parse_der", parse)
        response = X509SvidResponse(svids=(GOOD,), federated_bundles={foreign: B.bundle().to_der()})
        context, refused = read(response)
        assert ORDERS == str(context.svid.id)
        assert [A.bundle()] == list(context.bundles.values())
        assert [f"X509SVIDResponse.federated_bundles: the bundle of '{foreign}' is left out: too many digits"] == [
            str(e) for e in refused
        ]
