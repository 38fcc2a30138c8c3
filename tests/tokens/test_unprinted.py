"""What goes out in a header is on the wire and nowhere else."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle

import httpx
import pytest
from rich.console import Console
from rich.traceback import Traceback

from spiffe_client.tls import SpiffeTls
from spiffe_client.tokens._unprinted import Unprinted, UnprintedBytes
from tests.support.canary import assert_no_secret
from tests.support.shop import SHOP, WEB, Shop, shop_app
from tests.support.web_servers import serve_hypercorn, serve_uvicorn

CANARY = "eyJjYW5hcnkiOiJwcm9vZi1vZi1wb3NzZXNzaW9uIn0.c2lnbmF0dXJlLXRoYXQtbXVzdC1ub3Qtc2hvdw"


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


class TestValues:
    def test_text_shows_nothing_and_is_itself(self) -> None:
        """Equal to its text for who compares, a placeholder for who prints the object."""
        value = Unprinted(CANARY)

        assert CANARY == value
        assert CANARY == str(value)
        assert "Unprinted(…)" == repr(value)
        assert "Unprinted(…)" == repr(value.encode())
        assert CANARY.encode() == value.encode()

    def test_bytes_show_nothing_and_are_themselves(self) -> None:
        """As text; `str` is what HTTP/2 libraries call on bytes of a type they do not know."""
        value = UnprintedBytes(CANARY.encode())

        assert CANARY.encode() == value
        assert CANARY == str(value)
        assert "Unprinted(…)" == repr(value) == repr(value.decode("ascii"))
        assert CANARY == value.decode()

    @pytest.mark.parametrize("value", [Unprinted(CANARY), UnprintedBytes(CANARY.encode())])
    def test_a_pickle_has_the_placeholder(self, value: str | bytes) -> None:
        """httpx requests can be pickled, headers and all; a token is not written to a disk with them."""
        stored = pickle.dumps(value)

        assert CANARY.encode() not in stored
        assert pickle.loads(stored) in {"Unprinted(…)", "Unprinted(…)".encode()}

    @pytest.mark.parametrize("value", [Unprinted(CANARY), UnprintedBytes(CANARY.encode())])
    def test_a_copy_is_the_value(self, value: str | bytes) -> None:
        """Who copies a request to send it again sends the same."""
        assert copy.copy(value) is value
        assert copy.deepcopy(value) is value


class TestParts:
    @pytest.mark.parametrize(
        "made",
        [
            lambda v, t: v[:60],
            lambda v, t: v[3:],
            lambda v, t: v.strip(),
            lambda v, t: v.lower(),
            lambda v, t: v.replace(t("q"), t("q")),
            lambda v, t: v.join([v, v]),
            lambda v, t: v + v,
            lambda v, t: v * 2,
            lambda v, t: v.ljust(200),
            lambda v, t: v.removeprefix(t("ey")),
            lambda v, t: v.translate({} if isinstance(v, str) else None),
        ],
    )
    @pytest.mark.parametrize("kind", ["text", "bytes"])
    def test_attack_a_part_of_it_is_printed(self, kind: str, made) -> None:
        """Crash reporters cut what is long before they print it; the part is what it is, and hidden."""
        plain = CANARY if kind == "text" else CANARY.encode()
        value = Unprinted(CANARY) if kind == "text" else UnprintedBytes(CANARY.encode())
        of = str if kind == "text" else str.encode

        assert made(plain, of) == made(value, of)
        assert "Unprinted(…)" == repr(made(value, of))

    @pytest.mark.parametrize("value", [Unprinted(CANARY), UnprintedBytes(CANARY.encode())])
    def test_attack_several_parts(self, value) -> None:
        """Of containers, each."""
        dot = "." if isinstance(value, str) else b"."
        for parts in (value.partition(dot), value.rpartition(dot), value.split(dot), value.splitlines()):
            assert {"Unprinted(…)"} == {repr(part) for part in parts}

    def test_single_ones(self) -> None:
        """A byte is a number, as everywhere."""
        assert CANARY[0] == Unprinted(CANARY)[0]
        assert ord(CANARY[0]) == UnprintedBytes(CANARY.encode())[0]

    def test_attack_locals_in_a_rendered_traceback(self) -> None:
        """Rich cuts strings of more than 80 characters, and prints the rest."""

        def fail() -> None:
            header = Unprinted(f"DPoP {CANARY * 2}")
            raw = [(b"Authorization", header.encode())]
            raise RuntimeError(str(len(raw)))

        out = io.StringIO()
        with pytest.raises(RuntimeError) as failed:
            fail()
        trace = Traceback.from_exception(failed.type, failed.value, failed.tb, show_locals=True)
        Console(file=out, width=200).print(trace)

        assert "header = Unprinted(…)" in out.getvalue()
        assert CANARY[:20] not in out.getvalue()


class TestHeaders:
    def test_httpx_prints_no_proof(self) -> None:
        """httpx masks Authorization alone; set as Unprinted nothing else shows either."""
        request = httpx.Request("GET", "https://orders.test/", headers={"Txn-Token": Unprinted(CANARY)})
        request.headers["DPoP"] = Unprinted(CANARY)
        request.headers["Authorization"] = Unprinted(f"DPoP {CANARY}")

        shown = f"{request!r} {request.headers!r} {request.headers} {request.headers.raw} "
        shown += f"{list(request.headers.items())} {httpx.Headers(request.headers)!r}"
        assert CANARY not in shown
        assert CANARY.encode() not in pickle.dumps(request)
        assert CANARY == request.headers["DPoP"]

    def test_without_it_httpx_prints_the_proof(self) -> None:
        """The reason for all this; when it fails, httpx has learned to mask it."""
        assert CANARY in repr(httpx.Headers({"DPoP": CANARY}))


class TestOnTheWire:
    @pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
    def test_logs_show_nothing_and_the_server_everything(
        self, shop: Shop, http2: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With DEBUG on for httpx, httpcore, hpack and all others; and over both versions of HTTP."""
        caplog.set_level(logging.DEBUG)
        tls = SpiffeTls(shop.context(SHOP), _anybody())
        client_tls = SpiffeTls(shop.context(WEB), _anybody()).client_context()
        serve = serve_hypercorn if http2 else serve_uvicorn
        with (
            serve(shop_app(), tls.server_context()) as port,
            httpx.Client(verify=client_tls, http2=http2, trust_env=False) as http,
        ):
            sent = {"DPoP": Unprinted(CANARY), "Authorization": Unprinted(f"DPoP {CANARY}")}
            for _ in range(2):
                response = http.get(f"https://localhost:{port}/", headers=sent)

        told = response.json()
        assert ("2" if http2 else "1.1") == told["http"]
        assert CANARY == dict(told["headers"])["dpop"]
        assert f"DPoP {CANARY}" == dict(told["headers"])["authorization"]
        assert any(r.name.startswith("hpack" if http2 else "httpcore") for r in caplog.records)
        ours = [r for r in caplog.records if not r.name.startswith(("uvicorn", "hypercorn"))]
        assert [] == [r.name for r in ours if CANARY in r.getMessage()]

    @pytest.mark.parametrize(
        ("message", "args"),
        [
            ("Adding %s to the header table, sensitive:%s", ((b"dpop", CANARY.encode()), False)),
            ("Adding %s=%s to the header table, sensitive:%s", (b"dpop", CANARY.encode(), False)),
            ("Evicting %s: %s from the header table", (b"txn-token", CANARY.encode())),
            ("Encoded header block to %s", (CANARY.encode(),)),
        ],
    )
    def test_every_hpack_record_is_masked(
        self, message: str, args: tuple, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Older and newer hpack name the header differently."""
        caplog.set_level(logging.DEBUG)
        for name in ("hpack.hpack", "hpack.table"):
            logging.getLogger(name).debug(message, *args)

        assert 2 == len(caplog.records)
        assert CANARY not in caplog.text

    def test_other_records_stay(self, caplog: pytest.LogCaptureFixture) -> None:
        """Who debugs HTTP/2 sees everything else."""
        caplog.set_level(logging.DEBUG)
        logging.getLogger("hpack.hpack").debug("Adding %s=%s", b"accept", b"*/*")
        logging.getLogger("hpack.hpack").debug("Resizing to %(n)s", {"n": 1})
        logging.getLogger("hpack.hpack").debug("nothing")

        assert ["Adding b'accept'=b'*/*'", "Resizing to 1", "nothing"] == caplog.messages

    def test_errors_of_httpx_show_nothing(self) -> None:
        """Neither the message nor a local in a frame of httpx or httpcore before h11's."""

        def refuse(request: httpx.Request) -> httpx.Response:
            return httpx.Response(403, json={}, request=request)

        with httpx.Client(transport=httpx.MockTransport(refuse)) as http:
            response = http.get("https://orders.test/", headers={"DPoP": Unprinted(CANARY)})
            with pytest.raises(httpx.HTTPStatusError) as refused:
                response.raise_for_status()

        assert_no_secret(refused.value, CANARY)
        assert CANARY not in repr(vars(refused.value.request))
        assert CANARY not in json.dumps(repr(refused.value.response.request.headers))


def _anybody():
    from spiffe_client.authorize import custom

    return custom("anybody", lambda peer: True)
