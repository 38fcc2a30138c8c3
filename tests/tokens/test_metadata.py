"""What a token broker says of itself is only taken from itself, and only if it can be called safely."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.errors import DiscoveryError, UnsupportedByBrokerError
from spiffe_client.tokens import Metadata

ISSUER = "https://tokens.prod.example/tenant"
DOCUMENT = {
    "issuer": ISSUER,
    "token_endpoint": "https://tokens.prod.example/tenant/token",
    "revocation_endpoint": "https://tokens.prod.example/tenant/revoke",
    "jwks_uri": "https://tokens.prod.example/jwks",
    "dpop_signing_alg_values_supported": ["ES256", "RS256"],
    "tls_client_certificate_bound_access_tokens": True,
    "mtls_endpoint_aliases": {
        "token_endpoint": "https://mtls.tokens.prod.example:8443/token",
        "userinfo_endpoint": "nonsense that is not used",
    },
    "introspection_endpoint": None,
    "something_else": [1, 2],
}


def read(issuer: str = ISSUER, *, allowed_origins=(), **changes: object) -> Metadata:
    document = {name: value for name, value in {**DOCUMENT, **changes}.items() if value is not ...}
    return Metadata.read(document, issuer, allowed_origins=allowed_origins)


class TestRead:
    def test_everything_that_is_used(self) -> None:
        """Other members are left aside, null is as good as nothing (RFC 8414 §2)."""
        metadata = read()

        assert ISSUER == metadata.issuer
        assert "https://tokens.prod.example/tenant/token" == metadata.endpoint("token_endpoint")
        assert ("ES256", "RS256") == metadata.dpop_signing_alg_values_supported
        assert () == metadata.grant_types_supported
        assert metadata.tls_client_certificate_bound_access_tokens
        assert ["token_endpoint"] == list(metadata.mtls_endpoint_aliases)
        assert hash(metadata) == hash(read())
        assert metadata == read()

    @pytest.mark.parametrize(
        "issuer",
        [ISSUER + "/", "https://tokens.prod.example", "https://TOKENS.prod.example/tenant", None, 1, ...],
    )
    def test_mix_up(self, issuer: object) -> None:
        """An issuer that is not exactly the one asked is another one (RFC 8414 §3.3, RFC 9207)."""
        with pytest.raises(DiscoveryError, match="another token broker"):
            read(issuer=issuer) if issuer is ... else Metadata.read({**DOCUMENT, "issuer": issuer}, ISSUER)

    def test_no_token_endpoint(self) -> None:
        """There is nothing to ask."""
        with pytest.raises(DiscoveryError, match="no token_endpoint"):
            read(token_endpoint=None)

    @pytest.mark.parametrize(
        "name", ["token_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri"]
    )
    @pytest.mark.parametrize(
        "url",
        [
            "http://tokens.prod.example/token",
            "https://attacker.test/token",
            "https://tokens.prod.example:8443/token",  # another origin too
            "https://tokens.prod.example@attacker.test/token",
            "https://tokens.prod.example/token#x",
            "//tokens.prod.example/token",
            "",
            ["https://tokens.prod.example/token"],
            7,
        ],
        ids=str,
    )
    def test_endpoints_that_are_refused(self, name: str, url: object) -> None:
        """Only https, only the issuer's origin: a document must not send tokens elsewhere."""
        with pytest.raises(DiscoveryError, match=name):
            read(**{name: url})

    def test_another_origin_that_is_meant(self) -> None:
        """As Google has it: the issuer is not where tokens are issued."""
        metadata = read(
            token_endpoint="https://oauth2.example/token", allowed_origins=["https://oauth2.example:443"]
        )

        assert "https://oauth2.example/token" == metadata.token_endpoint

    @pytest.mark.parametrize(
        ("url", "fine"),
        [
            ("https://tokens.prod.example:8443/token", True),
            ("https://mtls.tokens.prod.example/token", True),
            ("https://allowed.example/token", True),
            ("https://tokens.prod.example.attacker.test/token", False),
            ("https://evil-tokens.prod.example/token", False),
            ("https://prod.example/token", False),
            ("http://tokens.prod.example/token", False),
            (7, False),
        ],
    )
    def test_aliases(self, url: object, fine: bool) -> None:
        """Another port or a name below the issuer's: its certificates are asked for elsewhere (RFC 8705 §5)."""
        aliases = {"token_endpoint": url}
        if fine:
            metadata = read(mtls_endpoint_aliases=aliases, allowed_origins=["https://allowed.example"])
            assert url == metadata.endpoint("token_endpoint", mtls=True)
            return
        with pytest.raises(DiscoveryError, match="mtls_endpoint_aliases"):
            read(mtls_endpoint_aliases=aliases)

    @pytest.mark.parametrize("value", ["ES256", [1], {"a": 1}, [["ES256"]]])
    def test_lists_that_are_none(self, value: object) -> None:
        """What is malformed is not guessed."""
        with pytest.raises(DiscoveryError, match="dpop_signing_alg_values_supported"):
            read(dpop_signing_alg_values_supported=value)

    def test_aliases_that_are_none(self) -> None:
        """Likewise; absent they are empty."""
        assert {} == read(mtls_endpoint_aliases=...).mtls_endpoint_aliases
        with pytest.raises(DiscoveryError, match="mtls_endpoint_aliases"):
            read(mtls_endpoint_aliases=[])

    def test_true_is_true_only(self) -> None:
        """Whether tokens are bound is not guessed from other values."""
        assert not read(
            tls_client_certificate_bound_access_tokens="true"
        ).tls_client_certificate_bound_access_tokens

    @given(
        st.dictionaries(
            st.sampled_from(list(DOCUMENT)),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=4,
            ),
        )
    )
    def test_any_document(self, changes: dict[str, object]) -> None:
        """Metadata or the typed error."""
        try:
            assert ISSUER == read(**{n: v for n, v in changes.items() if n != "issuer"}).issuer
        except DiscoveryError:
            pass


class TestByHand:
    def test_explicit_endpoints(self) -> None:
        """For a token broker without discovery; aliases are used by who shows a certificate only."""
        metadata = Metadata(
            issuer="http://127.0.0.1:8080",
            token_endpoint="http://127.0.0.1:8080/token",
            mtls_endpoint_aliases={"token_endpoint": "https://localhost:8443/token"},
        )

        assert "http://127.0.0.1:8080/token" == metadata.endpoint("token_endpoint")
        assert "https://localhost:8443/token" == metadata.endpoint("token_endpoint", mtls=True)

    def test_without_an_alias_the_endpoint_itself(self) -> None:
        """RFC 8705 §5."""
        metadata = Metadata(issuer=ISSUER, token_endpoint="https://tokens.prod.example/token")

        assert metadata.token_endpoint == metadata.endpoint("token_endpoint", mtls=True)

    @pytest.mark.parametrize("name", ["revocation_endpoint", "introspection_endpoint"])
    def test_what_is_not_offered(self, name: str) -> None:
        """A typed error that names it."""
        with pytest.raises(UnsupportedByBrokerError) as e:
            Metadata(issuer=ISSUER, token_endpoint="https://tokens.prod.example/token").endpoint(name)

        assert name == e.value.feature

    @pytest.mark.parametrize(
        "changes",
        [
            {"issuer": "http://tokens.prod.example"},
            {"issuer": None},
            {"token_endpoint": "http://tokens.prod.example/token"},
            {"jwks_uri": "file:///etc/passwd"},
            {"mtls_endpoint_aliases": {"token_endpoint": "http://tokens.prod.example"}},
        ],
        ids=str,
    )
    def test_unsafe_urls(self, changes: dict[str, object]) -> None:
        """The same rules as for a document, but for origins: who writes them means them."""
        with pytest.raises(DiscoveryError):
            Metadata(**{"issuer": ISSUER, "token_endpoint": "https://other.example/token", **changes})


@pytest.mark.parametrize(
    ("named", "advice"),
    [
        ("http://127.0.0.1:35339", '; if it is the right one, say issuer="http://127.0.0.1:35339", exactly'),
        (
            "https://tokens.prod.example/",
            '; if it is the right one, say issuer="https://tokens.prod.example/", exactly',
        ),
        ("http://tokens.prod.example", ""),
        (None, ""),
        (5, ""),
    ],
)
def test_the_issuer_it_names_is_said(named, advice) -> None:
    """Who named it nearly right sees how it is named; what cannot be one is not proposed (RFC 8414 §3.3)."""
    with pytest.raises(DiscoveryError) as e:
        Metadata.read({"issuer": named}, "http://localhost:35339")
    assert str(e.value).endswith(f"would be taken for this one's (RFC 8414 §3.3){advice}")
