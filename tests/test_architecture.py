"""The house keeps its shape: layers, sizes, names, one place for the clock."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

import spiffe_client

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spiffe_client"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: With those of the distributions beside ours, which keep the same habits.
ALL_MODULES = [*MODULES, *sorted(ROOT.glob("integrations/*/spiffe_client_*/**/*.py"))]

# Imports point down only; rooms of one level do not know each other (docs/decisions.md, design §2).
LEVELS = [
    {"ids", "errors", "_agenda", "_async_only", "_clock", "_der", "_door", "_ec", "_frames", "_json", "_latest", "_lazy", "_retry", "_redact", "_service", "_portal", "_values"},
    {"bundle", "authorize", "_grpc"},
    {"_jose"},
    {"svid"},
    {"audit"},  # its checkpoints are signed by SVIDs, and verified as theirs
    {"workload_api"},
    {"sources", "tls"},
    {"tokens", "policy"},
    {"http"},
    {"agents", "_own_identity"},
    {"_workload"},
    {"dev", "sync"},
    {"cli", "testing"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# The ground level is ordered too: who may know whom there.
GROUND = {
    "ids": {"errors", "_values"},
    "_agenda": {"_clock"},
    "_ec": {"_der"},
    "_retry": {"_values"},
    "errors": {"ids"},  # for annotations only, see the test
    "_frames": {"errors"},
    "_portal": {"errors"},
}

#: A module is one idea; a function is one thought.
MODULE_LINES, FUNCTION_LINES = 300, 40


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Rooms of ours that a module imports at run time, also inside functions."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
            if node.module == "spiffe_client":
                names = [f"spiffe_client.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("spiffe_client.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """Who decides who somebody is knows nothing of who calls it."""
    room = room_of(path)
    if room == "__init__":  # the shop window knows every room, lazily
        return
    assert room in LEVEL, f"the room {room!r} has no level"
    for other in imports(path) - {room}:
        if room == "cli" and other not in LEVEL:  # people's own entrance: the names of the shop window
            assert other in {*spiffe_client.__all__, "__version__"}
            continue
        if LEVEL[room] == 0:
            assert other in GROUND.get(room, set()), f"{room} imports {other}"
        else:
            assert LEVEL.get(other, 99) < LEVEL[room], f"{room} imports {other}"


@pytest.mark.parametrize("path", ALL_MODULES, ids=name_of)
def test_relative_imports_are_not_used(path: Path) -> None:
    """A reader and this test see where a name comes from."""
    relative = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.level]
    assert [] == relative


@pytest.mark.parametrize("path", ALL_MODULES, ids=name_of)
def test_small_rooms(path: Path) -> None:
    """A module of at most 300 lines, a function of at most 40."""
    text = path.read_text()
    # The error tree is one page on purpose (design §7).
    assert (800 if path.name == "errors.py" else MODULE_LINES) >= len(text.splitlines())
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            doc = ast.get_docstring(node, clean=False)
            lines -= len(doc.splitlines()) if doc else 0
            assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", ALL_MODULES, ids=name_of)
def test_names_of_the_field(path: Path) -> None:
    """No managers, helpers or utils; nothing that returns a bool where it must raise."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert not re.search(r"manager|helper|utils|common", node.name, re.IGNORECASE), node.name
            if node.name.startswith("verify_") and isinstance(node, ast.FunctionDef) and node.returns:
                assert "bool" != ast.unparse(node.returns)
    assert not re.search(r"verify\s*=\s*False|CERT_NONE", text)


@pytest.mark.parametrize("path", ALL_MODULES, ids=name_of)
def test_one_clock(path: Path) -> None:
    """Only _clock.py reads the time; everything else is told."""
    if path.name == "_clock.py":
        return
    called = {
        ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    }
    assert not called & {"time.time", "time.monotonic", "datetime.now", "datetime.utcnow", "time.perf_counter"}


def public_modules() -> list[str]:
    walk = pkgutil.walk_packages(spiffe_client.__path__, "spiffe_client.")
    return sorted(m.name for m in walk if not m.name.endswith("__main__"))


@pytest.mark.parametrize("name", ["spiffe_client", *public_modules()])
def test_all_is_true(name: str) -> None:
    """Each module says what it offers, and has it; ruff keeps the list in order."""
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    for public in module.__all__:
        assert hasattr(module, public), public


def test_every_public_thing_is_documented() -> None:
    """What it is, in one sentence at least."""
    things = [getattr(spiffe_client, n) for n in spiffe_client.__all__]
    assert [] == [t for t in things if inspect.isclass(t) | inspect.isfunction(t) and not (t.__doc__ or "").strip()]


def test_only_the_named_base_dependencies() -> None:
    """httpx, cryptography, pyjwt, tenacity, anyio, h2, msgspec and no other."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=\[ ]", d)[0] for d in project["dependencies"]}
    assert {"httpx", "cryptography", "pyjwt", "tenacity", "anyio", "h2", "msgspec"} == names


def test_the_tests_need_what_the_extra_dev_brings() -> None:
    """They have it from their groups: in a checkout the extra brings LangChain, too."""
    import tomllib

    project, *others = [tomllib.loads(p.read_text()) for p in [ROOT / "pyproject.toml", *ROOT.glob("integrations/*/pyproject.toml")]]
    extras = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["extras"]
    for it in [project, *others]:
        assert set(extras["dev"]) <= set(it["dependency-groups"]["test"]), it["project"]["name"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    """`import spiffe_client` costs next to nothing; rooms load when they are used."""
    import sys

    code = "import sys, spiffe_client; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"anyio", "cryptography", "h2", "httpx", "jwt", "ssl", "asyncio", "tenacity"} & set(loaded)
