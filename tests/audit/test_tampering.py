"""What is done to audit trails by those who have something to hide, and how each attempt shows."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spiffe_client._jose import sign_bytes
from spiffe_client.audit import Event, JsonlSink, verify_trail
from spiffe_client.audit._checkpoint import _statement
from spiffe_client.audit._record import own_body, seal, stamp
from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import AuditError
from tests.support.audit_scene import AUDITOR, CLOSER, call, denied
from tests.support.audit_trails import BUNDLES, CA, SVID, chained, write_trail

CANARY = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLW9mLWEtY2FuYXJ5"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A good trail: header, six calls, checkpoints, a closing one."""
    return write_trail(tmp_path_factory.mktemp("trail") / "audit.jsonl")


def where(error: pytest.ExceptionInfo[AuditError]) -> int:
    return error.value.line


def checkpoints(lines: list[bytes]) -> list[int]:
    return [n for n, text in enumerate(lines) if b'"event":"trail.checkpoint"' in text]


class TestLines:
    def test_how_far_it_is(self, tmp_path: Path) -> None:
        """Long ones say so now and then."""
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            for _ in range(20_000):
                sink(call())
        said: list[int] = []
        assert 20_002 == verify_trail(tmp_path / "a", progress=said.append).records
        assert [8192, 16384] == said

    def test_it_is_good_to_begin_with(self, lines: list[bytes]) -> None:
        """Or nothing below would show anything."""
        report = verify_trail(lines, bundles=BUNDLES, workload=CLOSER)
        assert (True, True, len(lines), len(lines)) == (report.proven, report.closed, report.records, report.vouched)
        assert 2 == report.denials

    def test_a_persons_no_is_one_denial(self, tmp_path: Path) -> None:
        """Told as the approval that was refused, and as the call."""
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            sink(Event("approval.refused", "no", {"decision": "deny", "reason": "not_approved"}))
            sink(denied("t", "not_approved"))
        assert 1 == verify_trail(tmp_path / "a").denials

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b'"decision":"deny"', b'"decision":"allow"'),
            (b'"level":30', b'"level":31'),
            (b"tenants/globex", b"tenants/acme"),
        ],
    )
    def test_edited(self, lines: list[bytes], old: bytes, new: bytes) -> None:
        """The line with the denial is named."""
        at = next(n for n, text in enumerate(lines) if old in text)
        changed = [*lines[:at], lines[at].replace(old, new), *lines[at + 1 :]]
        with pytest.raises(AuditError, match="was changed") as e:
            verify_trail(changed)
        assert at + 1 == where(e)

    def test_every_single_byte_counts(self, lines: list[bytes]) -> None:
        """Whatever byte of a line is another one, it shows; also its hashes and its line feed."""
        for at in (0, 3, checkpoints(lines)[0], len(lines) - 1):
            for place in range(0, len(lines[at]) - 1, 7):
                other = bytes([lines[at][place] ^ 1])
                text = lines[at][:place] + other + lines[at][place + 1 :]
                with pytest.raises(AuditError):
                    verify_trail([*lines[:at], text, *lines[at + 1 :]])

    def test_spelled_otherwise(self, lines: list[bytes]) -> None:
        """A member twice, white space, an escape: what parsers may read differently is no record."""
        text = lines[3]
        for old, new in [(b'"level":', b'"level":9,"level":'), (b'"level":', b'"level": '), (b'"event":"c', b'"event":"\\u0063')]:
            assert old in text
            with pytest.raises(AuditError) as e:
                verify_trail(chained([*lines[:3], text.replace(old, new), *lines[4:]]))
            assert 4 == where(e)

    @pytest.mark.parametrize("at", [1, 3, 6])
    def test_removed(self, lines: list[bytes], at: int) -> None:
        """The gap is where the number jumps."""
        with pytest.raises(AuditError, match="1 were removed") as e:
            verify_trail([*lines[:at], *lines[at + 1 :]])
        assert at + 1 == where(e)

    def test_header_removed(self, lines: list[bytes]) -> None:
        """A trail begins at its beginning."""
        with pytest.raises(AuditError, match="is record 1 where 0") as e:
            verify_trail(lines[1:])
        assert 1 == where(e)

    def test_removed_and_numbered_anew(self, lines: list[bytes]) -> None:
        """Hashes made anew are sound by themselves; the next signature is not over them."""
        kept = [*lines[:3], *lines[4:]]
        renumbered = [re.sub(rb'^\{"seq":\d+', b'{"seq":%d' % n, text) for n, text in enumerate(kept)]
        with pytest.raises(AuditError, match="the checkpoint is for"):
            verify_trail(chained(renumbered))

    def test_edited_and_hashed_anew(self, lines: list[bytes]) -> None:
        """Without the key an editor gets as far as the next checkpoint."""
        changed = chained([text.replace(b'"decision":"deny"', b'"decision":"allow"') for text in lines])
        with pytest.raises(AuditError, match="signature is not of its key over this trail") as e:
            verify_trail(changed)
        assert checkpoints(lines)[0] + 1 == where(e)

    def test_reordered(self, lines: list[bytes]) -> None:
        """Two lines change places."""
        with pytest.raises(AuditError, match="removed or moved") as e:
            verify_trail([*lines[:2], lines[3], lines[2], *lines[4:]])
        assert 3 == where(e)

    def test_duplicated(self, lines: list[bytes]) -> None:
        """A line is there twice."""
        with pytest.raises(AuditError, match="repeated or moved") as e:
            verify_trail([*lines[:3], lines[2], *lines[3:]])
        assert 4 == where(e)

    def test_something_between(self, lines: list[bytes]) -> None:
        """A line that is no record is no torn one, unless the next record says so."""
        for junk in (b"junk\n", b"\n", b"{}\n", b"\xff\xfe\n"):
            with pytest.raises(AuditError, match="no record") as e:
                verify_trail([*lines[:3], junk, *lines[3:]])
            assert 4 == where(e)
            with pytest.raises(AuditError, match="no record"):
                verify_trail([*lines[:3], junk, junk, *lines[3:]])
            with pytest.raises(AuditError, match="no record"):
                verify_trail([*lines, junk])


class TestTheEnd:
    def test_cut_off_after_a_checkpoint(self, lines: list[bytes]) -> None:
        """Not seen as a fault: it is what a crash leaves. It is reported as not closed."""
        first = checkpoints(lines)[0]
        report = verify_trail(lines[: first + 1], bundles=BUNDLES)
        assert (False, first + 1, first + 1) == (report.closed, report.records, report.vouched)

    def test_cut_off_between(self, lines: list[bytes]) -> None:
        """What nobody vouches for is counted."""
        report = verify_trail(lines[:-1], bundles=BUNDLES)
        assert not report.closed
        assert report.vouched < report.records

    def test_cut_off_in_a_line(self, lines: list[bytes]) -> None:
        """As a crash does it: told, and not closed."""
        report = verify_trail([*lines[:-1], lines[-1][:50]], bundles=BUNDLES)
        assert (False, 1) == (report.closed, report.torn)

    def test_cut_off_behind_what_was_known(self, lines: list[bytes]) -> None:
        """Who noted a number and a hash elsewhere sees it."""
        whole = verify_trail(lines)
        known = (whole.records - 1, whole.head)
        assert whole == verify_trail(lines, known=known)
        with pytest.raises(AuditError, match="the trail was cut"):
            verify_trail(lines[:-1], known=known)

    def test_another_trail_of_the_same_length(self, lines: list[bytes], tmp_path: Path) -> None:
        """Put in its place, it has not the record that is known."""
        whole = verify_trail(lines)
        with pytest.raises(AuditError, match="is not the record"):
            verify_trail(write_trail(tmp_path / "other"), known=(whole.records - 1, whole.head))

    @pytest.mark.parametrize("nothing", [[], [b'{"seq":0,'], [b"\n"]])
    def test_nothing_left(self, nothing: list[bytes]) -> None:
        """An empty file is no trail in which nothing happened."""
        with pytest.raises(AuditError):
            verify_trail(nothing)

    def test_gone_on_with_behind_the_end(self, lines: list[bytes]) -> None:
        """A closed trail is gone on with by its writer, who says so."""
        more = re.sub(rb'^\{"seq":\d+', b'{"seq":%d' % len(lines), lines[1])
        with pytest.raises(AuditError, match="behind the checkpoint that closed") as e:
            verify_trail(linked(lines, more))
        assert len(lines) + 1 == where(e)


class TestOtherTrails:
    def test_lines_of_another_trail(self, lines: list[bytes], tmp_path: Path) -> None:
        """Spliced in at their own number they do not follow."""
        other = write_trail(tmp_path / "other")
        with pytest.raises(AuditError, match="does not follow on the line before it") as e:
            verify_trail([*lines[:3], *other[3:]])
        assert 4 == where(e)

    def test_another_header(self, lines: list[bytes], tmp_path: Path) -> None:
        """The header belongs to the chain; with all hashes made anew the signatures are for another id."""
        other = write_trail(tmp_path / "other")
        with pytest.raises(AuditError, match="does not follow"):
            verify_trail([other[0], *lines[1:]])
        with pytest.raises(AuditError, match="signature"):
            verify_trail(chained([other[0], *lines[1:]]))

    def test_a_checkpoint_again(self, lines: list[bytes]) -> None:
        """Copied to the end, it is for fewer records than there are."""
        first = checkpoints(lines)[0]
        again = re.sub(rb'^\{"seq":\d+', b'{"seq":%d' % (len(lines) - 1), lines[first])
        with pytest.raises(AuditError, match="the checkpoint is for"):
            verify_trail(linked(lines[:-1], again))

    def test_resumed_as_another(self, lines: list[bytes]) -> None:
        """A record of another trail's writer."""
        header = re.sub(rb'^\{"seq":0', b'{"seq":%d' % len(lines), lines[0])
        header = header.replace(b"trail.started", b"trail.resumed").replace(b'"trail":"', b'"trail":"0')
        with pytest.raises(AuditError, match="resumes another trail"):
            verify_trail(linked(lines, header))

    def test_names_of_its_own(self, lines: list[bytes]) -> None:
        """A record that no trail writes."""
        strange = re.sub(rb'^\{"seq":\d+', b'{"seq":%d' % 3, lines[1]).replace(b"call.finished", b"trail.amnesty")
        with pytest.raises(AuditError, match="which no trail says"):
            verify_trail(linked(lines[:3], strange))

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            (b'"format":1', b'"format":2', "of format 2"),
            (b"trail.started", b"trail.resumed", "no header"),
            (b'"trail":"', b'"other":"', "no header"),
        ],
    )
    def test_strange_headers(self, lines: list[bytes], old: bytes, new: bytes, says: str) -> None:
        """What is not understood is not verified."""
        with pytest.raises(AuditError, match=says):
            verify_trail(chained([lines[0].replace(old, new)]))


def linked(lines: list[bytes], text: bytes) -> list[bytes]:
    """Lines as they are, and one more that follows on them."""
    prev = lines[-1][-67:-3]
    body = re.sub(rb'"prev":"[0-9a-f]{64}","hash":"[0-9a-f]{64}"}\n$', b'"prev":"%b"' % prev, text)
    return [*lines, b'%b,"hash":"%b"}\n' % (body, hashlib.sha256(body).hexdigest().encode())]


class TestSigners:
    def test_another_workload_of_the_trust_domain(self, tmp_path: Path) -> None:
        """Whoever has an identity there may sign his own trail, not this one's."""
        other = CA.issue_x509_svid(AUDITOR)
        lines = write_trail(tmp_path / "a", signer=None)
        header = lines[0].replace(b'"format":1', b'"format":1,"workload":"%b"' % CLOSER.encode())
        whole = chained([header, *lines[1:-1]])
        with pytest.raises(AuditError, match=f"is by {AUDITOR}, not by {CLOSER}"):
            verify_trail(linked(whole, _signed_by([*whole, b""], other)), bundles=BUNDLES)

    def test_two_workloads_in_turn(self, tmp_path: Path) -> None:
        """Where the header names nobody, whoever signed first is whose trail it is."""
        lines = write_trail(tmp_path / "a", signer=None)[:-1]
        first = linked(lines, _signed_by([*lines, b""], SVID, final=False))
        with pytest.raises(AuditError, match="not by spiffe://prod.example/agent/closer"):
            verify_trail(linked(first, _signed_by([*first, b""], CA.issue_x509_svid(AUDITOR))), bundles=BUNDLES)

    def test_demanded_workload(self, lines: list[bytes], tmp_path: Path) -> None:
        """Whose trail it must be is the reader's to say."""
        with pytest.raises(AuditError, match="is of spiffe://prod.example/agent/closer, not of"):
            verify_trail(lines, bundles=BUNDLES, workload=AUDITOR)
        unsigned = write_trail(tmp_path / "b", signer=None)
        with pytest.raises(AuditError, match="nobody has signed"):
            verify_trail(unsigned, workload=AUDITOR)

    def test_forged_by_another_authority(self, tmp_path: Path) -> None:
        """All made anew, by a key with a certificate for the same ID from elsewhere: only bundles tell."""
        forger = CertificateAuthority("evil.example").forge_x509_svid(CLOSER)
        lines = write_trail(tmp_path / "forged", signer=lambda: forger)
        assert not verify_trail(lines).proven
        with pytest.raises(AuditError, match="not proven"):
            verify_trail(lines, bundles=BUNDLES)

    def test_signatures_taken_away(self, tmp_path: Path) -> None:
        """A trail without any is good for nobody who asks for signers."""
        lines = write_trail(tmp_path / "unsigned", signer=None)
        assert (0, True) == (verify_trail(lines).checkpoints, verify_trail(lines).closed)
        with pytest.raises(AuditError, match="nobody has signed the trail"):
            verify_trail(lines, bundles=BUNDLES)

    def test_no_bundle_for_the_signer(self, lines: list[bytes]) -> None:
        """Another trust domain's is of no use."""
        with pytest.raises(AuditError, match="not proven"):
            verify_trail(lines, bundles=BundleSet([CertificateAuthority("b.test").x509_bundle]))

    @pytest.mark.parametrize(
        "damage",
        [
            lambda facts: facts | {"alg": "ES384"},
            lambda facts: facts | {"alg": "none"},
            lambda facts: facts | {"signature": ""},
            lambda facts: facts | {"signature": "AAAA"},
            lambda facts: facts | {"signature": facts["signature"] + "=="},
            lambda facts: facts | {"signature": 7},
            lambda facts: facts | {"certificates": "####"},
            lambda facts: facts | {"certificates": ""},
            lambda facts: facts | {"certificates": 7},
            lambda facts: facts | {"certificates": base64.b64encode(b"junk").decode()},
            lambda facts: facts | {"workload": AUDITOR},
            lambda facts: {k: v for k, v in facts.items() if k != "signature"},
            lambda facts: facts | {"final": "yes"},
            lambda facts: facts | {"records": 1},
        ],
        ids=[
            "alg", "none", "empty", "short", "padded", "number", "no_base64", "no_certificates", "certificates_number",
            "no_der", "workload", "no_signature", "final", "records",
        ],
    )  # fmt: skip
    def test_damaged_checkpoints(self, tmp_path: Path, damage: Callable[[dict[str, object]], dict[str, object]]) -> None:
        """Whatever is wrong with a signature, it is none, and not an unsigned checkpoint either."""
        lines = write_trail(tmp_path / "a", signer=None)[:-1]
        facts = damage(_facts([*lines, b""], SVID))
        with pytest.raises(AuditError):
            verify_trail(linked(lines, _checkpoint([*lines, b""], facts)))

    def test_a_certificate_of_another_key(self, tmp_path: Path) -> None:
        """The signature is by a key of whom no certificate is there."""
        lines = write_trail(tmp_path / "a", signer=None)[:-1]
        facts = _facts([*lines, b""], CA.issue_x509_svid(CLOSER))
        facts["certificates"] = _facts([*lines, b""], SVID)["certificates"]
        with pytest.raises(AuditError, match="signature is not of its key"):
            verify_trail(linked(lines, _checkpoint([*lines, b""], facts)))

    def test_a_signature_for_something_else(self, tmp_path: Path) -> None:
        """What the key signed elsewhere, such as a token, is no checkpoint."""
        lines = write_trail(tmp_path / "a", signer=None)[:-1]
        _, signature = sign_bytes(b"something else", SVID.private_key)
        facts = _facts([*lines, b""], SVID) | {"signature": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}
        with pytest.raises(AuditError, match="signature is not of its key"):
            verify_trail(linked(lines, _checkpoint([*lines, b""], facts)))


def _facts(lines: list[bytes], svid, *, final: bool = True, at: str = "") -> dict[str, object]:
    """What a checkpoint in place of the last line says."""
    trail = re.search(rb'"trail":"([0-9a-f]+)"', lines[0])[1].decode()
    seq, prev = len(lines) - 1, lines[-2][-67:-3].decode()
    at = at or stamp(datetime.now(UTC))
    alg, signature = sign_bytes(_statement(trail, seq, prev, at, final=final), svid.private_key)
    return {
        "records": seq,
        "final": final,
        "workload": str(svid.id),
        "alg": alg,
        "signature": base64.urlsafe_b64encode(signature).rstrip(b"=").decode(),
        "certificates": " ".join(base64.b64encode(der).decode() for der in svid.ders),
        "at": at,
    }


def _checkpoint(lines: list[bytes], facts: dict[str, object]) -> bytes:
    return seal(str(facts.pop("at")), own_body("trail.checkpoint", "", facts), len(lines) - 1, lines[-2][-67:-3])[0]


def _signed_by(lines: list[bytes], svid, *, final: bool = True) -> bytes:
    return _checkpoint(lines, _facts(lines, svid, final=final))


class TestOddCheckpoints:
    def test_at_no_moment(self, tmp_path: Path) -> None:
        """A time that has the form and is none."""
        lines = write_trail(tmp_path / "a", signer=None)[:-1]
        facts = _facts([*lines, b""], SVID, at="2026-13-01T00:00:00.000000Z")
        text = _checkpoint([*lines, b""], facts)
        with pytest.raises(AuditError, match="is no moment"):
            verify_trail(linked(lines, text))

    def test_a_key_nobody_can_read(self, tmp_path: Path) -> None:
        """A certificate whose key is of an unknown curve."""
        lines = write_trail(tmp_path / "a", signer=None)[:-1]
        facts = _facts([*lines, b""], SVID)
        leaf = SVID.ders[0]
        curve = bytes.fromhex("06082a8648ce3d030107")
        assert curve in leaf
        facts["certificates"] = base64.b64encode(leaf.replace(curve, curve[:-1] + b"\x77")).decode()
        with pytest.raises(AuditError, match="key cannot be read"):
            verify_trail(linked(lines, _checkpoint([*lines, b""], facts)))


class TestFromInside:
    def test_events_cannot_pass_for_the_trail(self, tmp_path: Path) -> None:
        """Whoever tells events, such as a tool, cannot write checkpoints or resume."""
        with JsonlSink(tmp_path / "a", on_trouble="block", signer=lambda: SVID) as sink:
            sink(Event("trail.checkpoint", "trust me", {"records": 1, "final": True}))
            sink(Event("trail.resumed", "as another", {"trail": "x"}))
        report = verify_trail(tmp_path / "a", bundles=BUNDLES)
        assert (4, 1, 1) == (report.records, report.checkpoints, report.runs)

    def test_resource_names_cannot_break_out_of_their_line(self, tmp_path: Path) -> None:
        """Line feeds, quotes, and whole records in a name stay text."""
        evil = '7"}\n{"seq":99,"at":"x"}\n\x00\u2028\\'
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            sink(call(resource=evil))
        assert 3 == len((tmp_path / "a").read_bytes().splitlines())
        assert 3 == verify_trail(tmp_path / "a").records

    def test_canary(self, tmp_path: Path) -> None:
        """A token, a key or a header in an event, where none belongs, is not written."""
        key = SVID.key_pem().reveal().decode()
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            sink(Event("token.denied", f"the server said: {CANARY}", {"error": f"Bearer {CANARY}", "more": key}))
            sink(Event("call.finished", "x" * 40_000 + CANARY, {"argument": f"Authorization: DPoP {'Q' * 40}=="}))
        text = (tmp_path / "a").read_text()
        assert 4 == verify_trail(tmp_path / "a").records
        for secret in (CANARY, *CANARY.split("."), *key.splitlines()[1:-1], "Q" * 16):
            assert secret not in text
