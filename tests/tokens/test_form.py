"""A request becomes exactly the parameters that the standards name, once each or repeated where they say so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._redact import Secret
from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens import TokenRequest
from spiffe_client.tokens._form import form_of
from spiffe_client.tokens._urns import ACCESS_TOKEN, CLIENT_CREDENTIALS, JWT, JWT_BEARER, TOKEN_EXCHANGE

SUBJECT = (Secret("subject"), JWT)
ACTOR = (Secret("actor"), ACCESS_TOKEN)


class TestForm:
    def test_token_exchange(self) -> None:
        """RFC 8693 §2.1: resource and audience repeat their key (RFC 8707 §2)."""
        request = TokenRequest.of(
            "orders:write",
            "orders:read",
            audience=["b", "a"],
            resource=["https://r.example/2", "https://r.example/1"],
            authorization_details=[{"type": "payment", "amount": 1}],
            purpose="close the books",
            requested_token_type=ACCESS_TOKEN,
            parameters={"request_context": "{}"},
        )

        assert [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", "subject"),
            ("subject_token_type", JWT),
            ("actor_token", "actor"),
            ("actor_token_type", ACCESS_TOKEN),
            ("resource", "https://r.example/1"),
            ("resource", "https://r.example/2"),
            ("audience", "a"),
            ("audience", "b"),
            ("scope", "orders:read orders:write"),
            ("requested_token_type", ACCESS_TOKEN),
            ("authorization_details", '[{"amount":1,"type":"payment"}]'),
            ("purpose", "close the books"),
            ("request_context", "{}"),
        ] == form_of(request, subject=SUBJECT, actor=ACTOR)

    def test_actor_type_without_actor(self) -> None:
        """Must not be sent (RFC 8693 §2.1)."""
        names = [name for name, _ in form_of(TokenRequest.of("a"), subject=SUBJECT)]

        assert ["grant_type", "subject_token", "subject_token_type", "scope"] == names

    def test_client_credentials(self) -> None:
        """RFC 6749 §4.4.2: no subject."""
        request = TokenRequest.of("a", grant=CLIENT_CREDENTIALS)

        assert [("grant_type", "client_credentials"), ("scope", "a")] == form_of(request)

    def test_jwt_bearer(self) -> None:
        """RFC 7523 §2.1: the subject is the assertion, and has no type."""
        request = TokenRequest.of("a", grant=JWT_BEARER)

        assert [("grant_type", JWT_BEARER), ("assertion", "subject"), ("scope", "a")] == form_of(
            request, subject=SUBJECT
        )

    @pytest.mark.parametrize(
        "name",
        ["grant_type", "scope", "client_id", "client_assertion", "subject_token", "audience", "purpose"],
    )
    def test_parameters_that_have_a_place(self, name: str) -> None:
        """A second `grant_type` would make it another request to some token brokers (RFC 6749 §3.2)."""
        with pytest.raises(TokenRequestError, match=name):
            form_of(TokenRequest.of("a", parameters={name: "x"}), subject=SUBJECT)

    @given(
        st.sets(st.sampled_from("abcdef")),
        st.lists(st.text(min_size=1, max_size=5), max_size=4),
        st.text(max_size=9),
    )
    def test_the_same_request_is_the_same_form(
        self, scope: set[str], audience: list[str], purpose: str
    ) -> None:
        """In whatever order it was said."""
        one = TokenRequest.of(*sorted(scope), audience=audience, purpose=purpose)
        other = TokenRequest.of(*sorted(scope, reverse=True), audience=audience[::-1], purpose=purpose)

        form = form_of(one, subject=SUBJECT)
        assert form == form_of(other, subject=SUBJECT)
        assert sorted(set(audience)) == [value for name, value in form if name == "audience"]
        assert json.dumps(form)
