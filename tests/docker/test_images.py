"""The Dockerfile and the compose file say what this project has. No engine is needed to check that."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
INSTRUCTIONS = {
    "ARG",
    "CMD",
    "COPY",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "RUN",
    "USER",
    "VOLUME",
    "WORKDIR",
}


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, its words) of each line, continued lines joined."""
    text = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


LINES = dockerfile()


def of(instruction: str) -> list[str]:
    return [words for word, words in LINES if word == instruction]


def words_of(text: str) -> list[str]:
    """The words of an exec form: ["a", "b"]."""
    found: list[str] = yaml.safe_load(text)
    return found


def imports(command: list[str]) -> str:
    """The module or program that a command starts."""
    if command[:2] == ["python", "-m"]:
        return command[2]
    if command[0] == "uvicorn":
        return command[1].partition(":")[0]
    return command[1]


def test_only_known_instructions() -> None:
    assert {word for word, _ in LINES} == INSTRUCTIONS


def test_stages_start_from_pinned_images() -> None:
    images = [words.split()[0] for words in of("FROM")]
    assert images == [images[0]] * 2
    assert re.fullmatch(r"python:3\.1[123]-slim-\w+", images[0])


def test_copied_files_exist_and_reach_the_build() -> None:
    ignored = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = [words.split()[:-1] for words in of("COPY") if not words.startswith("--from=")]
    sources = {source for line in copied for source in line}
    assert sources == let_in
    assert all((ROOT / source).exists() for source in sources)
    assert ignored[0] == "*"


def test_every_package_of_the_service_is_copied() -> None:
    copied = " ".join(of("COPY"))
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    for package in packages:
        assert f"{package.rstrip('*')} {package.rstrip('*')}" in copied


def test_it_does_not_run_as_root() -> None:
    user = of("USER")
    assert user == ["secateur"]
    assert any("useradd" in words and "secateur" in words for words in of("RUN"))
    order = [word for word, _ in LINES]
    assert order.index("USER") < order.index("CMD")


def test_its_own_commands_name_what_exists() -> None:
    assert imports(words_of(of("CMD")[0])) == "worker.serve"
    check = of("HEALTHCHECK")[0].partition("CMD ")[2]
    assert (ROOT / imports(words_of(check))).exists()


def test_the_requirements_are_those_of_the_project(tmp_path: Path) -> None:
    script = ROOT / "docker" / "requirements.py"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    done = subprocess.run([sys.executable, str(script), "gpu"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == [*project["dependencies"], *project["optional-dependencies"]["gpu"]]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert image
    assert re.match(r"\d+\.\d+", tag)


def test_the_image_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"secateur:{version}"}


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings(name: str) -> None:
    environment = SERVICES[name]["environment"]
    fields = {f"SECATEUR_{field.upper()}" for field in Settings.model_fields}
    assert set(environment) <= fields
    inside = {words.partition("=")[0] for line in of("ENV") for words in line.split() if words.startswith("SECATEUR_")}
    assert inside <= fields


def test_the_settings_are_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key, value in SERVICES["api"]["environment"].items():
        monkeypatch.setenv(key, re.sub(r"\$\{(\w+):\?[^}]*\}", "secret", str(value)))
    monkeypatch.setenv("SECATEUR_DATA_DIR", str(tmp_path))
    settings = Settings()
    assert settings.database_url.get_secret_value() == "postgresql://secateur:secret@postgres:5432/secateur"
    assert settings.broker_url.get_secret_value() == "redis://:secret@redis:6379/0"


@pytest.mark.parametrize("name", OURS)
def test_commands_name_modules_that_exist(name: str) -> None:
    service = SERVICES[name]
    assert importlib.util.find_spec(imports(service["command"])) is not None
    check = service["healthcheck"]
    assert check.get("disable") or (ROOT / imports(check["test"][1:])).exists()


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_and_volumes_are_declared(name: str) -> None:
    service = SERVICES[name]
    for other, condition in service.get("depends_on", {}).items():
        assert other in SERVICES
        if condition["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]
    for volume in service["volumes"]:
        source, _, target = volume.partition(":")
        assert source in COMPOSE["volumes"] or (source.startswith("/") and not target)


def test_open_polls_do_not_hold_up_a_stop() -> None:
    words = SERVICES["api"]["command"]
    grace = int(words[words.index("--timeout-graceful-shutdown") + 1])
    assert 0 < grace < int(SERVICES["api"]["stop_grace_period"].removesuffix("s"))


def test_api_and_worker_share_the_files() -> None:
    folder = SERVICES["api"]["environment"]["SECATEUR_STORAGE_URL"].removeprefix("file://")
    for name in ("api", "worker"):
        assert f"files:{folder}" in SERVICES[name]["volumes"]
    assert any(folder in words for words in of("RUN"))


def test_no_password_is_in_a_file() -> None:
    example = (ROOT / "docker" / "env.example").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == asked
    assert not re.search(r"^\w+=.+$", example, re.MULTILINE)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_the_api_is_reached_from_outside_and_only_from_this_machine() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:8000:8000"]
    }


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "migrate"])
def test_what_stays_up_is_watched_and_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert "test" in SERVICES[name]["healthcheck"]


def test_compose_itself_accepts_the_file() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("docker compose does not answer here")
    passwords = {"POSTGRES_PASSWORD": "secret", "REDIS_PASSWORD": "secret"}
    done = subprocess.run(
        ["docker", "compose", "config", "-q"],
        cwd=ROOT,
        env=os.environ | passwords,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
