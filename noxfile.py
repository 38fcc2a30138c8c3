"""All checks of the project: `nox` runs those that decide, `nox -s bench` measures.

What a machine lacks is said in one line with its remedy, never passed over in silence.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "typing", "tests", "coverage", "docs", "demo", "spire", "build"]

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
CANDIDATES = [f"3.{minor}" for minor in range(11, 20)]
SPIRE_MODULE = ROOT / "tests" / "peers" / "spire"
PEERS = ROOT / "tests" / "peers"


def _pyenv_versions() -> None:
    # pyenv's shims answer only for versions that are switched on: switch on all that fit.
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = sorted(p.name for p in root.glob("3.*") if p.name.split(".")[1].isdigit())
    fit = [v for v in found if int(v.split(".")[1]) >= 11]
    if fit:
        os.environ["PYENV_VERSION"] = ":".join(fit)


def _interpreters() -> list[str]:
    """The Pythons of this machine that really start."""
    _pyenv_versions()
    there = []
    for version in CANDIDATES:
        exe = shutil.which(f"python{version}")
        if exe and subprocess.run([exe, "-c", ""], capture_output=True, check=False).returncode == 0:
            there.append(version)
    own = f"3.{sys.version_info.minor}"
    return there if own in there else [own, *there]


PYTHONS = _interpreters()


def _groups(*names: str) -> list[str]:
    return [r for name in names for r in nox.project.dependency_groups(PYPROJECT, name)]


def _missing(session: nox.Session, what: str, remedy: str) -> None:
    session.skip(f"{what} is not on this machine. To run this session: {remedy}")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, spelling, news fragments."""
    session.install(*_groups("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check", "spiffe_client", "noxfile.py")
    session.run("codespell", "spiffe_client", "tests", "docs", "README.md", "noxfile.py")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session
def typing(session: nox.Session) -> None:
    """Strict types in the package, and a page of user code that two checkers must accept."""
    session.install(".[cli,dev,otel]", *_groups("typing", "test"))
    session.run("mypy")
    session.run("mypy", "--strict", "tests/typing/api.py")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "spiffe_client")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Everything but real SPIRE, on every Python that is there, on asyncio and trio."""
    session.install("-e", ".[cli,dev,otel]", *_groups("test"))
    env = {"COVERAGE_FILE": f".coverage.{session.python}", "COVERAGE_CORE": "ctrace"}
    spire = "--ignore=tests/spire"  # has a session of its own, which says what it lacks
    session.run("coverage", "run", "-m", "pytest", "-q", spire, *session.posargs, env=env)
    session.notify("coverage")


@nox.session
def coverage(session: nox.Session) -> None:
    """100 % of lines and at least 98 % of branches, over all Pythons together."""
    session.install(*_groups("coverage"))
    if not list(ROOT.glob(".coverage.*")):
        session.skip("nothing was measured. To run this session: nox -s tests coverage")
    session.run("coverage", "combine", "-q", env={"COVERAGE_FILE": ".coverage"})
    session.run("coverage", "json", "-q", "-o", "coverage.json", "--fail-under=0")
    session.run("coverage", "report", "--fail-under=0")
    totals = json.loads((ROOT / "coverage.json").read_text())["totals"]
    lines = 100 * totals["covered_lines"] / totals["num_statements"]
    branches = 100 * totals["covered_branches"] / totals["num_branches"]
    session.log(f"lines covered: {lines:.2f} %, branches covered: {branches:.2f} %")
    if lines < 100 or branches < 98:
        session.error("the gate is 100 % of lines and 98 % of branches")


@nox.session
def docs(session: nox.Session) -> None:
    """Run every example of README and docs against a development trust domain; build the reference."""
    session.install("-e", ".[cli,dev,otel]", *_groups("test", "docs"))
    session.run("pytest", "-q", "docs")
    session.run(
        "pdoc",
        "--docformat",
        "google",
        "-o",
        "build/reference",
        "spiffe_client",
        env={"PYTHONWARNINGS": "error"},
    )


@nox.session
def demo(session: nox.Session) -> None:
    """README command one: the whole story on a terminal."""
    session.install(".[cli,dev]")
    session.run("spiffe-client", "demo")


def _spire_binaries(session: nox.Session) -> str:
    if named := os.environ.get("SPIRE_BIN"):
        return named
    if not shutil.which("go"):
        _missing(
            session,
            "Go, which builds SPIRE,",
            "install Go 1.26 or newer (go.dev), or set SPIRE_BIN to a folder with spire-server and spire-agent",
        )
    folder = Path(session.cache_dir).resolve() / "spire"
    commands = [f"github.com/spiffe/spire/cmd/{name}" for name in ("spire-server", "spire-agent")]
    with session.chdir(SPIRE_MODULE):
        session.run("go", "install", "-mod=readonly", *commands, env={"GOBIN": str(folder)}, external=True)
    return str(folder)


@nox.session
def spire(session: nox.Session) -> None:
    """The same identities and channels against a real SPIRE server and agent."""
    binaries = _spire_binaries(session)
    session.install("-e", ".[cli,dev]", *_groups("test"))
    session.run(
        "pytest", "-q", "-s", "-m", "spire", "tests/spire", *session.posargs, env={"SPIRE_BIN": binaries}
    )


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel alone, import it, start its command."""
    session.install("build")
    out = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--outdir", str(out), str(ROOT), silent=True)
    (wheel,) = sorted(out.glob("*.whl"))[-1:]
    session.install("--force-reinstall", str(wheel))
    with session.chdir(out):
        session.run("python", "-W", "error", "-c", "import spiffe_client; print(spiffe_client.__version__)")
        session.run("spiffe-client", "--version")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the acceptance figures: `nox -s bench -- [--json FILE] [--only ID,…]`."""
    session.install(".[cli,dev]", "trio", *_groups("bench"))
    peer = Path(session.create_tmp()).resolve() / "peer"
    if not peer.exists():
        session.run("python", "-m", "venv", str(peer), silent=True)
        session.run(str(peer / "bin" / "pip"), "install", "-q", "spiffe", "spiffe-tls", external=True)
    own = Path(session.create_tmp()).resolve() / "own"
    if not own.exists():
        session.run("python", "-m", "venv", str(own), silent=True)
    session.run(str(own / "bin" / "pip"), "install", "-q", "--force-reinstall", str(ROOT), external=True)
    pythons = {
        "BENCH_PEER_PYTHON": str(peer / "bin" / "python"),
        "BENCH_OWN_PYTHON": str(own / "bin" / "python"),
    }
    session.run("python", "-m", "tests.bench", *session.posargs, env=pythons)
