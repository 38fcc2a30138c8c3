"""`import spiffe_client` costs nothing; every public name loads at its first use and says where it lives."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import spiffe_client
from spiffe_client import sources


def loaded_by(code: str) -> set[str]:
    """What a fresh interpreter has loaded after running this code."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_loads_nothing_else() -> None:
    """Not even typing: the shop window is a table."""
    assert {"spiffe_client", "__future__"} >= loaded_by("import spiffe_client") - loaded_by("")


def test_the_way_to_the_first_svid_is_short() -> None:
    """Nothing of HTTP, JOSE, TLS contexts, retries or JWT sources is loaded to open an X509Source."""
    loaded = loaded_by("from spiffe_client import WorkloadApiClient, X509Source; WorkloadApiClient, X509Source")
    assert not {"httpx", "jwt", "msgspec", "tenacity", "trio", "rich"} & loaded
    assert not {m for m in loaded if m.startswith(("spiffe_client.tls", "spiffe_client.http"))}
    assert not {"spiffe_client.sources._jwt", "spiffe_client.sources._bundles"} & loaded
    assert not {"spiffe_client.tls", "spiffe_client.http", "spiffe_client.sources._jwt"} & loaded_by(
        "from spiffe_client import Workload; Workload"
    )


@pytest.mark.parametrize("module", [spiffe_client, sources], ids=lambda m: m.__name__)
class TestLazyNames:
    def test_all_is_sorted_and_true(self, module) -> None:
        """Each name is there, twice the same, and listed by `dir`."""
        assert sorted(module.__all__) == module.__all__
        for name in module.__all__:
            assert getattr(module, name) is getattr(module, name)
        assert set(module.__all__) <= set(dir(module))

    def test_the_table_and_what_type_checkers_read_agree(self, module) -> None:
        """The interpreter's table and the imports for type checkers name the same homes."""
        tree = ast.parse(Path(module.__file__).read_text())
        block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
        homes = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
        table = getattr(module, "_HOMES", None) or {n: f"spiffe_client.{h}" for n, h in module._HOME.items()}
        errors = {n: h for n, h in homes.items() if h == "spiffe_client.errors"}
        assert homes == table | errors
        assert set(homes) | ({"__version__"} & set(module.__all__)) == set(module.__all__)

    def test_an_unknown_name(self, module) -> None:
        """A typo is an AttributeError, as in any module."""
        with pytest.raises(AttributeError, match="no attribute 'Wrokload'"):
            module.Wrokload  # noqa: B018


def test_version() -> None:
    """The distribution's version."""
    assert version("spiffe-client") == spiffe_client.__version__
