"""The rules of a token broker: what a file may say, and what every malformed one is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.dev import Registrations
from spiffe_client.dev.token_broker import Client, ForeignIssuer, Rules
from spiffe_client.errors import InvalidIdError, RegistrationError
from spiffe_client.ids import SpiffeId
from tests.support.oauth_client import ProofKey

KEY = ProofKey()
JWK = "{ " + ", ".join(f'{name} = "{KEY.jwk[name]}"' for name in ("kty", "crv", "x", "y")) + " }"
AGENT = "spiffe://dev.example/agent"

FILE = f"""
[[entry]]
id = "{AGENT}"
any = true

[[client]]
id = "{AGENT}"
audiences = ["https://orders.example"]
scopes = ["orders:read"]
details = ["payment"]
may_delegate_to = ["spiffe://dev.example/auditor"]
ttl = 60
binding = "dpop"

[[client]]
id = "batch"
secret = "s3cr3t"
serves = ["https://orders.example"]

[[client]]
id = "signer"
spiffe_id = "{AGENT}"
jwk = {JWK}

[[client]]
id = "hashed"
secret_sha256 = "{hashlib.sha256(b"s3cr3t").hexdigest().upper()}"
public = true

[[issuer]]
id = "https://idp.example"
jwks = [{JWK}]
"""


class TestFile:
    def test_says_what_the_code_says(self) -> None:
        """Every field, in both ways."""
        rules = Rules.parse(FILE.encode())
        assert (
            Client.of(
                AGENT,
                audiences=["https://orders.example"],
                scopes="orders:read",
                details=["payment"],
                may_delegate_to=[SpiffeId.parse("spiffe://dev.example/auditor")],
                ttl=60,
                binding="dpop",
            ),
            Client.of("batch", secret="s3cr3t", serves=["https://orders.example"]),
            Client.of("signer", spiffe_id=AGENT, jwk=KEY.jwk),
        ) == rules.clients[:3]
        assert (ForeignIssuer.of("https://idp.example", KEY.jwk),) == rules.issuers
        assert rules.client("hashed").public
        assert 1 == len(rules.client("signer").keys)

    def test_registrations_are_in_the_same_file(self) -> None:
        """Each reader takes its own tables."""
        assert [AGENT] == [str(entry.id) for entry in Registrations.parse(FILE.encode())]

    def test_secret_is_not_shown(self) -> None:
        """Neither itself nor its hash."""
        shown = repr(Rules.parse(FILE.encode()))
        assert "s3cr3t" not in shown
        assert hashlib.sha256(b"s3cr3t").hexdigest() not in shown.lower()

    def test_is_loaded_from_a_path(self, tmp_path: Path) -> None:
        """And if it cannot be, that is said."""
        path = tmp_path / "rules.toml"
        path.write_text(FILE)
        assert 4 == len(list(Rules.load(path)))
        for wrong in (tmp_path / "none.toml", "a\0b"):
            with pytest.raises(RegistrationError, match="cannot be read"):
                Rules.load(wrong)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("x", "not TOML"),
            ("\x00", "not TOML"),
            ("[[clients]]", "rules: field 'clients': there is no such field; there are [[client]], [[issuer]] and"),
            ("client = 1", "rules: field client: each client is a table under [[client]]"),
            ("client = [1]", "rules: client 1: it must be a table"),
            ("[[client]]", "rules: client 1, field 'id': it is missing"),
            ("[[client]]\nid = 7", "rules: client 1, field 'id': must be text"),
            ("[[client]]\nid = 'a'\nscope = 'x'", "rules: client 1, field 'scope': there is no such field; there are id"),
            ("[[client]]\nid = 'a'\npublic = true\nscopes = 'x'", "field 'scopes': must be a list of text"),
            ("[[client]]\nid = 'a'\npublic = true\nscopes = [1]", "field 'scopes': must be a list of text"),
            ("[[client]]\nid = 'a'\npublic = true\nttl = 'x'", "field 'ttl': must be a number"),
            ("[[client]]\nid = 'a'\npublic = true\nbinding = 'x'", "field 'binding': must be any, dpop"),
            ("[[client]]\nid = 'a'\njwk = 7", "field 'jwk': must be a table"),
            ("[[client]]\nid = 'a'\njwk = {}", "rules: client 1 (a): jwk: the key cannot be used"),
            ("[[client]]\nid = 'a'\njwk = { kty = 'EC', d = 'x' }", "the key is a private one"),
            ("[[client]]\nid = 'a'\nsecret = 'x'\nsecret_sha256 = 'y'", "secret or secret_sha256, not both"),
            ("[[client]]\nid = 'a'\nsecret = ''", "field 'secret': must not be empty"),
            ("[[client]]\nid = 'a'\nsecret_sha256 = 'xyz'", "64 hexadecimal digits"),
            ("[[client]]\nid = 'a'", "the client a has no way to authenticate"),
            ("[[client]]\nid = ''\npublic = true", "a client's id must be text"),
            ("[[client]]\nid = 'a/*'\npublic = true", "only a SPIFFE ID can end in /*"),
            ("[[client]]\nid = 'spiffe://dev.example'", "names a trust domain"),
            ("[[client]]\nid = 'spiffe://d d/x'", "is no SPIFFE ID"),
            ("[[client]]\nid = 'spiffe://d/x'\nspiffe_id = 'spiffe://d/x'", "drop spiffe_id"),
            ("[[client]]\nid = 'a'\nspiffe_id = 'spiffe://d'", "rules: client 1 (a): spiffe_id names a trust domain"),
            ("[[client]]\nid = 'a'\nspiffe_id = 'x'", "rules: client 1 (a): "),
            ("[[client]]\nid = 'a'\npublic = true\nttl = 0", "ttl must be seconds"),
            ("[[client]]\nid = 'a'\npublic = true\nttl = nan", "ttl must be seconds"),
            ("[[client]]\nid = 'a'\npublic = true\n" * 2, "rules: the client a is there twice"),
            ("[[issuer]]\nid = 'a'", "rules: issuer 1, field 'jwks': it is missing"),
            ("[[issuer]]\nid = 'a'\njwks = []", "rules: issuer 1 (a): an issuer needs"),
            ("[[issuer]]\nid = 'a'\njwks = [{}]", "rules: issuer 1 (a): jwk: "),
            ("[[issuer]]\nid = 'a'\njwks = [1]", "field 'jwks': must be a list of public"),
        ],
    )
    def test_every_mistake_is_located(self, text: str, why: str) -> None:
        """The table and the field, and what belongs there."""
        with pytest.raises(RegistrationError) as error:
            Rules.parse(text.encode())
        assert why in str(error.value)

    def test_large_file_is_refused(self) -> None:
        """Unread."""
        with pytest.raises(RegistrationError, match="larger than"):
            Rules.parse(b" " * (1024 * 1024 + 1))

    @given(st.binary(max_size=200))
    def test_any_bytes(self, text: bytes) -> None:
        """Nothing but the one error."""
        try:
            Rules.parse(text)
        except RegistrationError:
            pass

    @given(
        st.dictionaries(
            st.sampled_from(["id", "ttl", "jwk", "scopes", "public", "secret", "x", "binding", "spiffe_id"]),
            st.one_of(st.booleans(), st.integers(), st.text(max_size=20), st.floats(), st.lists(st.text(max_size=5))),
        )
    )
    def test_any_table(self, table: dict[str, object]) -> None:
        """Values of every type where others belong."""
        import json

        text = "[[client]]\n" + "".join(
            f"{name} = {json.dumps(value)}\n".replace("Infinity", "inf").replace("NaN", "nan")
            for name, value in table.items()
        )
        try:
            Rules.parse(text.encode())
        except RegistrationError as error:
            assert str(error).startswith("rules: ")


class TestCode:
    @pytest.mark.parametrize("options", [{"binding": "x"}, {"ttl": -1}])
    def test_the_same_is_demanded(self, options: dict[str, object]) -> None:
        """With the same error."""
        with pytest.raises(RegistrationError):
            Client.of(AGENT, **options)

    def test_malformed_spiffe_id(self) -> None:
        """As everywhere."""
        with pytest.raises(InvalidIdError):
            Client.of("a", spiffe_id="x")

    def test_id_is_in_its_one_spelling(self) -> None:
        """As SVIDs have it (SPIFFE-ID §2.1)."""
        assert ["spiffe://dev.example/a", "spiffe://dev.example/*"] == [
            Client.of(f"SPIFFE://Dev.Example/{last}").id for last in "a*"
        ]

    def test_nothing_is_allowed_by_default(self) -> None:
        """An empty list allows nothing; a star allows everything."""
        none, everything = Client.of(AGENT), Client.of(AGENT, audiences="*", scopes="*", details="*", may_delegate_to="*")
        for client, allowed in ((none, False), (everything, True)):
            assert [allowed] * 4 == [
                client.may_have_scope("x"),
                client.may_have_target("x"),
                client.may_have_detail("x"),
                client.lets_act("x"),
            ]
        assert not everything.may_have_detail(None)

    def test_exact_rule_goes_before_patterns(self) -> None:
        """And of patterns the longest."""
        clients = [Client.of("spiffe://d/*"), Client.of("spiffe://d/a/*"), Client.of("spiffe://d/a/b")]
        rules = Rules(tuple(clients))
        found = [rules.client(i) for i in ("spiffe://d/a/b", "spiffe://d/a/c", "spiffe://d/c", "spiffe://e/c")]
        assert [clients[2], clients[1], clients[0], None] == found
