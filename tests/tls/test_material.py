"""Keys reach OpenSSL, and no disk."""

from __future__ import annotations

import os
import ssl
import stat
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from spiffe_client.errors import IdentityUnavailableError
from spiffe_client.svid import X509Svid
from spiffe_client.tls import _material
from tests.support.pki import RSA_KEY, new_authority
from tests.support.tls_wire import Wire, plain_client

ROOT = new_authority("a.test")
INTER = ROOT.intermediate()
EC = INTER.leaf("spiffe://a.test/me")
WAYS = {w.__name__.removeprefix("_through_"): w for w in _material._WAYS}
Way = Callable[[Any, X509Svid], None]


class Spy:
    """A context that looks at what it is given instead of loading it."""

    def __init__(self, look: Callable[..., None]) -> None:
        self.load_cert_chain = look


@pytest.fixture(autouse=True)
def empty_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Temporary files of these tests go to one place, and are all gone afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(os.listdir("/dev/fd"))
    yield tmp_path
    assert [] == list(tmp_path.iterdir())
    assert before == set(os.listdir("/dev/fd"))  # and no descriptor is left open


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
class TestEachWay:
    @pytest.mark.parametrize("key", [None, RSA_KEY(), ed25519.Ed25519PrivateKey.generate()], ids=["EC", "RSA", "Ed25519"])
    def test_loads_chain_and_key(self, way: Way, key: Any) -> None:
        """The server handshakes with it and sends its intermediate along."""
        identity = INTER.leaf("spiffe://a.test/me", key=key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        way(context, identity.svid)
        client = plain_client(None)
        client.verify_mode = ssl.CERT_REQUIRED
        client.load_verify_locations(cadata=ROOT.bundle().to_der())  # so the intermediate must be sent
        wire = Wire(client, context).handshake()
        assert identity.ders[0] == wire.client.getpeercert(binary_form=True)

    def test_the_key_is_never_in_a_file_in_the_clear(self, way: Way, tmp_path: Path) -> None:
        """Of what is on a disk, only ciphertext looks like a key, and only we can read it."""
        secret = EC.key_pem.splitlines()[1]
        looked: list[str] = []

        def look(certificate: str, key: str | None = None, *, password: bytes | None = None) -> None:
            for path in filter(None, (certificate, key)):
                on_disk = Path(path).resolve().is_relative_to(tmp_path)
                content = Path(path).read_bytes()
                if on_disk:
                    assert 0o600 == stat.S_IMODE(Path(path).stat().st_mode)
                    assert secret not in content
                    assert b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in content
                    assert b"-----BEGIN PRIVATE KEY-----" not in content
                    assert EC.key.private_numbers() == load_pem_private_key(content, password).private_numbers()
                else:
                    target = os.readlink(path)
                    assert target.startswith(("/memfd:", "pipe:[", "/dev/fd/pipe"))
                    assert password is None
                looked.append(content.decode())
            assert {p.name for p in tmp_path.iterdir()} <= {Path(certificate).name}

        way(Spy(look), EC.svid)
        assert EC.chain_pem.decode() in "".join(looked)

    def test_cleans_up_after_a_failure(self, way: Way) -> None:
        """See the fixture: no file, no descriptor."""

        def fail(*_: object, **__: object) -> None:
            raise ssl.SSLError("no")

        with pytest.raises(ssl.SSLError):
            way(Spy(fail), EC.svid)

    def test_passwords_are_never_used_twice(self, way: Way) -> None:
        """Where there is one at all."""
        seen: list[bytes | None] = []
        for _ in range(2):
            way(Spy(lambda *_, password=None: seen.append(password)), EC.svid)
        assert [None, None] == seen or (seen[0] != seen[1] and 64 == len(seen[0] or b""))


class TestFallingBack:
    def test_memory_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first way that works is the only one that is gone."""
        monkeypatch.setattr(_material, "_filled_pipe", None)
        monkeypatch.setattr(tempfile, "mkstemp", None)
        _material.load_svid(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), EC.svid)

    def test_pipes_where_memory_is_forbidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`vm.memfd_noexec=2`, seccomp."""

        def forbidden(*_: object) -> int:
            raise PermissionError("memfd")

        monkeypatch.setattr(os, "memfd_create", forbidden)
        monkeypatch.setattr(tempfile, "mkstemp", None)
        _material.load_svid(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), EC.svid)

    def test_pipes_where_there_is_no_memfd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """macOS, BSD."""
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.setattr(tempfile, "mkstemp", None)
        _material.load_svid(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), EC.svid)

    def test_ciphertext_where_there_is_neither(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Windows."""
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.setattr(_material, "_DESCRIPTORS", Path("/nowhere"))
        monkeypatch.setattr(_material, "_filled_pipe", None)
        loaded: list[str] = []
        _material.load_svid(Spy(lambda path, **_: loaded.append(path)), EC.svid)
        assert [True] == [Path(p).name.startswith("svid-") for p in loaded]

    def test_ciphertext_where_descriptors_have_no_path(self) -> None:
        """A container without /proc."""
        loaded: list[str] = []

        def load(path: str, key: str | None = None, password: bytes | None = None) -> None:
            if path.startswith(("/proc/", "/dev/fd/")):
                raise FileNotFoundError(path)
            loaded.append(path)

        _material.load_svid(Spy(load), EC.svid)
        assert 1 == len(loaded)

    def test_ciphertext_where_it_does_not_fit_into_a_pipe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It must not wait for a reader that never comes."""
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.setattr(X509Svid, "chain_pem", lambda _: EC.chain_pem * 2000)
        loaded: list[str] = []
        _material.load_svid(Spy(lambda path, **_: loaded.append(path)), EC.svid)
        assert [True] == [Path(p).name.startswith("svid-") for p in loaded]

    def test_no_way_at_all(self) -> None:
        """Every obstacle is named."""

        def missing(*_: object, **__: object) -> None:
            raise FileNotFoundError("gone")

        with pytest.raises(IdentityUnavailableError, match="memory: gone.*pipes: gone.*ciphertext: gone"):
            _material.load_svid(Spy(missing), EC.svid)

    def test_full_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A short write is noticed, and another way taken."""
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
        with pytest.raises(OSError, match="full"):
            WAYS["memory"](ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), EC.svid)


class TestForks:
    def test_a_descriptor_that_got_away_finds_nothing(self) -> None:
        """A process forked in this very moment inherits the anonymous memory, emptied."""
        away: list[int] = []
        WAYS["memory"](Spy(lambda path: away.append(os.open(path, os.O_RDONLY))), EC.svid)
        try:
            assert b"" == os.read(away[0], 10_000)
        finally:
            os.close(away[0])


class TestRefusal:
    def test_openssl_refuses_the_key(self) -> None:
        """No other way is tried: the key itself is the trouble. The error shows none of it."""
        weak = ROOT.leaf("spiffe://a.test/me", key=RSA_KEY())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT@SECLEVEL=4")
        with pytest.raises(IdentityUnavailableError, match="OpenSSL refuses .* of spiffe://a.test/me: .*TOO_SMALL") as e:
            _material.load_svid(context, weak.svid)
        assert weak.key_pem.splitlines()[1].decode() not in f"{e.value!r}{e.value.__cause__!r}"

    @pytest.mark.parametrize("way", WAYS)
    def test_frames_hold_no_key(self, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Attack: a crash reporter that prints the variables of every frame, of the causes, too."""
        monkeypatch.setattr(_material, "_WAYS", (WAYS[way],))
        weak = ROOT.leaf("spiffe://a.test/me", key=RSA_KEY())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT@SECLEVEL=4")
        with pytest.raises(IdentityUnavailableError) as e:
            _material.load_svid(context, weak.svid)
        frames = [f for error in (e.value, e.value.__cause__) for f, _ in traceback.walk_tb(error.__traceback__)]
        assert not [f for f in frames if f.f_code.co_filename == _material.__file__]
