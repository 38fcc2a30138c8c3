"""Client authentication by WIT-SVID (draft-ietf-oauth-attestation-based-client-auth). Experimental."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spiffe_client.dev.token_broker._jwt import Jwt, Key, NotAcceptableError, parse_key, verify
from spiffe_client.dev.token_broker._messages import Call, RefusedError
from spiffe_client.dev.token_broker._replays import Replays
from spiffe_client.dev.token_broker._trust import Trust, check_audience

__all__ = ["ATTESTATION", "CHALLENGE", "Attestations"]

#: The header with the WIT-SVID, and the one with a challenge for the next proof.
ATTESTATION = "oauth-client-attestation"
CHALLENGE = "OAuth-Client-Attestation-Challenge"
_PROOF = "oauth-client-attestation-pop"
#: How far `iat` of a proof may be off, in seconds.
_WINDOW = 60.0


class Attestations:
    """Checks a WIT-SVID that a client shows, and that it has its key.

    Args:
        issuer: Who the proof must be for.
        trust: Whose WIT-SVIDs are believed.
        challenge: Gives what the proof must repeat; None where nothing is demanded.
        accepts: Whether a challenge is one that was given out lately.
    """

    def __init__(
        self,
        issuer: str,
        trust: Trust,
        challenge: Callable[[], str | None],
        accepts: Callable[[str], bool],
    ) -> None:
        self._issuer = issuer
        self._trust = trust
        self._challenge = challenge
        self._accepts = accepts
        self._replays = Replays()

    def check(self, call: Call) -> str:
        """Return the SPIFFE ID that was attested and proven.

        Raises:
            NotAcceptableError: It does not verify.
            RefusedError: A challenge must be in the proof (`use_attestation_challenge`).
        """
        attestation, proof = call.header(ATTESTATION), call.header(_PROOF)
        if attestation is None or proof is None:
            raise NotAcceptableError(f"the headers {ATTESTATION} and {_PROOF} come together")
        wit = Jwt.parse(attestation)
        spiffe_id = str(self._trust.wit_svid(wit))
        cnf = wit.claims.get("cnf")
        jwk = cnf.get("jwk") if isinstance(cnf, Mapping) else None
        if not isinstance(jwk, Mapping):
            raise NotAcceptableError("the attestation has no key")
        self._check_proof(Jwt.parse(proof), parse_key(jwk), spiffe_id)
        return spiffe_id

    def _check_proof(self, proof: Jwt, key: Key, spiffe_id: str) -> None:
        if not proof.type_is("oauth-client-attestation-pop+jwt"):
            raise NotAcceptableError("the type of its proof is not oauth-client-attestation-pop+jwt")
        verify(proof, [Key(key.key, alg=key.alg)])
        check_audience(proof, self._issuer, sole=True)
        if proof.text("iss") != spiffe_id:
            raise NotAcceptableError("the `iss` of its proof is somebody else")
        now, issued_at = self._trust.now(), proof.time("iat")
        if issued_at is None or abs(issued_at - now) > _WINDOW:
            raise NotAcceptableError("the `iat` of its proof is missing, or too far from now")
        wanted = self._challenge()
        said = proof.claims.get("challenge")
        if wanted is not None and not (isinstance(said, str) and self._accepts(said)):
            raise RefusedError(
                "use_attestation_challenge",
                "the proof must repeat the challenge",
                headers={CHALLENGE: wanted},
            )
        jti = proof.text("jti")
        if not self._replays.use(f"{spiffe_id} {jti}", until=now + 5 * _WINDOW, now=now):
            raise NotAcceptableError("its proof was used before")
