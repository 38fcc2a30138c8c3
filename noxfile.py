"""All checks of the project: `nox` runs those that decide, `nox -s bench` measures.

What a machine lacks is said in one line with its remedy, never passed over in silence.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = [
    "lint",
    "typing",
    "tests",
    "coverage",
    "docs",
    "demo",
    "integrations",
    "spire",
    "peers",
    "build",
]

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
CANDIDATES = [f"3.{minor}" for minor in range(11, 20)]
SPIRE_MODULE = ROOT / "tests" / "peers" / "spire"
PEERS = ROOT / "tests" / "peers"
#: Each is a folder with a distribution of its own.
INTEGRATIONS = sorted(path.parent.name for path in ROOT.glob("integrations/*/pyproject.toml"))


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
    packages = [str(path) for path in ROOT.glob("integrations/*/spiffe_client_*")]
    formatted = ["spiffe_client", "noxfile.py", "integrations/extras.py", *packages]
    session.run("ruff", "format", "--check", *formatted)
    session.run("codespell", "spiffe_client", "tests", "docs", "integrations", "README.md", "noxfile.py")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session
def typing(session: nox.Session) -> None:
    """Strict types in the package, and a page of user code that two checkers must accept."""
    session.install(".[cli,otel]", *_groups("typing", "test"))
    session.run("mypy")
    session.run("mypy", "--strict", "tests/typing/api.py")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "spiffe_client")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Everything but real SPIRE, token brokers and decision points, on every Python that is there, on asyncio and trio."""
    session.install("-e", ".[cli,otel]", *_groups("test"))
    env = {"COVERAGE_FILE": f".coverage.{session.python}", "COVERAGE_CORE": "ctrace"}
    # These have sessions of their own, which say what they lack.
    others = [f"--ignore=tests/{room}" for room in ("spire", "token_brokers", "decision_points")]
    # What only some Pythons run is run by the oldest or the newest: to measure the others would only take time.
    run = ["coverage", "run", "-m"] if session.python in (PYTHONS[0], PYTHONS[-1]) else ["python", "-m"]
    session.run(*run, "pytest", "-q", "-n", "auto", *others, *session.posargs, env=env)
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
    session.install("-e", ".[cli,otel]", *_groups("test", "docs"))
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
    """README command one: the whole story on a terminal, with an agent of LangChain, and without a warning."""
    session.install(".[cli,dev]")
    session.run("spiffe-client", "demo")
    said = session.run("spiffe-client", "demo", "--json", silent=True)
    steps = {record.get("step"): record for record in map(json.loads, str(said).splitlines())}
    framework = steps["agent"]["facts"]["framework"]
    if framework != "langchain":
        session.error(f"the agent's framework is {framework!r}, and should be 'langchain'")


@nox.session
@nox.parametrize(
    ["name", "end"],
    [nox.param(name, end, id=f"{name}-{end}") for name in INTEGRATIONS for end in ("lower", "upper")],
)
def integrations(session: nox.Session, name: str, end: str) -> None:
    """Each integration by itself, with the oldest and the newest versions that it supports."""
    folder, package = ROOT / "integrations" / name, f"spiffe_client_{name.replace('-', '_')}"
    project = nox.project.load_toml(folder / "pyproject.toml")
    needs = nox.project.dependency_groups(project, "test")
    versions = project["tool"]["spiffe-client"]["versions"][end]
    others = [
        str(ROOT / "integrations" / other) for other in project["tool"]["spiffe-client"].get("needs", [])
    ]
    # Not editable: what is tested is what pip installs by path.
    session.install(str(ROOT), *others, str(folder), *needs, *versions)
    tests = f"integrations/{name}/tests"
    if end == "lower":
        session.run("pytest", "-q", tests, *session.posargs)
        return
    env = {
        "COVERAGE_FILE": str(Path(session.create_tmp()).resolve() / "coverage"),
        "COVERAGE_RCFILE": os.devnull,
    }
    measured = ["coverage", "run", "--branch", f"--source={package}", "-m"]
    session.run(*measured, "pytest", "-q", tests, *session.posargs, env=env)
    session.run("coverage", "report", "--show-missing", "--fail-under=100", env=env)
    session.install(*[need for need in _groups("typing") if need.startswith("mypy")])
    session.run("mypy", "--strict", "--follow-imports=silent", f"integrations/{name}/{package}")


def _spire_binaries(session: nox.Session) -> str:
    if named := os.environ.get("SPIRE_BIN"):
        return named
    if not shutil.which("go"):
        _missing(
            session,
            "Go, which builds SPIRE,",
            "install Go 1.26.3 or newer (go.dev), or set SPIRE_BIN to a folder with spire-server and spire-agent",
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
    session.install("-e", ".[cli]", *_groups("test"))
    session.run(
        "pytest", "-q", "-s", "-m", "spire", "tests/spire", *session.posargs, env={"SPIRE_BIN": binaries}
    )


def _authgent(session: nox.Session) -> str:
    if named := os.environ.get("AUTHGENT_BIN"):
        return named
    # Not beside our own dependencies: it brings others, in versions of its own.
    venv = Path(session.create_tmp()).resolve() / "authgent"
    if not venv.exists():
        session.run("python", "-m", "venv", str(venv), silent=True)
    requirements = str(PEERS / "authgent" / "requirements.txt")
    session.run(str(venv / "bin" / "pip"), "install", "-q", "-r", requirements, external=True)
    return str(venv / "bin" / "authgent-server")


def _node_runs_it() -> bool:
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    major = version.strip().removeprefix("v").split(".")[0]
    return major.isdigit() and int(major) >= 20


def _npm(session: nox.Session, peer: str) -> Path:
    folder = Path(session.cache_dir).resolve() / peer
    shutil.copytree(PEERS / peer, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    with session.chdir(folder):
        session.run("npm", "ci", "--ignore-scripts", "--silent", external=True)
    return folder


def _oidc_provider(session: nox.Session) -> str | None:
    if named := os.environ.get("OIDC_PROVIDER_DIR"):
        return named
    if not _node_runs_it():
        return None
    return str(_npm(session, "oidc-provider"))


def _cerbos(session: nox.Session) -> str | None:
    if named := os.environ.get("CERBOS_BIN"):
        return named
    if not shutil.which("npm") or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return None
    return str(_npm(session, "cerbos") / "node_modules" / "@cerbos" / "cerbos-linux-x64" / "cerbos-linux-x64")


@nox.session
def peers(session: nox.Session) -> None:
    """The clients against real peers: token brokers (oidc-provider, authgent-server), a decision point (Cerbos)."""
    session.install("-e", ".[cli]", *_groups("test"))
    env = {"AUTHGENT_BIN": _authgent(session)}
    provider, cerbos = _oidc_provider(session), _cerbos(session)
    if provider:
        env["OIDC_PROVIDER_DIR"] = provider
    if cerbos:
        env["CERBOS_BIN"] = cerbos
    rooms = ["tests/token_brokers", "tests/decision_points"]
    session.run("pytest", "-q", "-m", "peers", *rooms, *session.posargs, env=env)
    if not provider:
        _missing(
            session,
            "Node.js 20 or newer with npm, which runs oidc-provider,",
            "install it (nodejs.org), or set OIDC_PROVIDER_DIR; the other peers' tests have passed",
        )
    if not cerbos:
        _missing(
            session,
            "Cerbos, or npm on Linux on x64, which installs it,",
            "set CERBOS_BIN (cerbos.dev); the other peers' tests have passed",
        )


def _wheel_metadata(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode().partition("\n\n")[0].splitlines()


def _sdist_metadata(sdist: Path) -> list[str]:
    with tarfile.open(sdist) as archive:
        written = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        return written.read().decode().partition("\n\n")[0].splitlines()


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, look for paths of this machine, install the wheel alone, import it, start its command."""
    session.install("build")
    out = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--outdir", str(out), str(ROOT), silent=True)
    (sdist,), (wheel,) = sorted(out.glob("*.tar.gz"))[-1:], sorted(out.glob("*.whl"))[-1:]
    if paths := [line for line in _sdist_metadata(sdist) + _wheel_metadata(wheel) if "file:" in line]:
        session.error(f"what is released would need folders of this machine: {paths}")
    session.install("--force-reinstall", str(wheel))
    with session.chdir(out):
        session.run("python", "-W", "error", "-c", "import spiffe_client; print(spiffe_client.__version__)")
        session.run("spiffe-client", "--version")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the acceptance figures: `nox -s bench -- [--json FILE] [--only ID,…]`."""
    session.install(".[cli]", "trio", *_groups("bench"))
    peer = Path(session.create_tmp()).resolve() / "peer"
    if not peer.exists():
        session.run("python", "-m", "venv", str(peer), silent=True)
        session.run(str(peer / "bin" / "pip"), "install", "-q", "spiffe", "spiffe-tls", external=True)
    own = Path(session.create_tmp()).resolve() / "own"
    if not own.exists():
        session.run("python", "-m", "venv", str(own), silent=True)
    session.run(str(own / "bin" / "pip"), "install", "-q", "--force-reinstall", str(ROOT), external=True)
    langchain = Path(session.create_tmp()).resolve() / "langchain"
    if not langchain.exists():
        session.run("python", "-m", "venv", str(langchain), silent=True)
    ours = f"{ROOT}[dev]"
    session.run(str(langchain / "bin" / "pip"), "install", "-q", "--force-reinstall", ours, external=True)
    pythons = {
        "BENCH_LANGCHAIN_PYTHON": str(langchain / "bin" / "python"),
        "BENCH_PEER_PYTHON": str(peer / "bin" / "python"),
        "BENCH_OWN_PYTHON": str(own / "bin" / "python"),
    }
    session.run("python", "-m", "tests.bench", *session.posargs, env=pythons)
