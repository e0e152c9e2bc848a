"""What a deployment can choose, and what is refused with a clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings


def made(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(f"SECATEUR_{name}", value)
    return Settings()


def test_everything_lies_under_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = made(monkeypatch, DATA_DIR=str(tmp_path))
    assert settings.database_url.get_secret_value() == f"sqlite:///{tmp_path}/secateur.db"
    assert settings.broker_url.get_secret_value() == "filesystem://"
    assert settings.storage_url == f"file://{tmp_path}/files"
    assert settings.scratch_dir == tmp_path / "scratch"
    assert (settings.host, settings.port, settings.queues, settings.lease_seconds) == ("127.0.0.1", 8000, ("cpu",), 30)


def test_a_relative_folder_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert made(monkeypatch).data_dir == tmp_path / "secateur-data"


def test_variables_win_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made(monkeypatch, QUEUES="cpu, gpu", MAX_CONCURRENT_JOBS="3", BROKER_URL="redis://r:6379/1")
    assert settings.queues == ("cpu", "gpu")
    assert settings.max_concurrent_jobs == 3
    assert settings.broker_url.get_secret_value() == "redis://r:6379/1"


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made(monkeypatch, DATABASE_URL="postgresql://u:hunter2@h/d", BROKER_URL="redis://:hunter2@r/0")
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize("name", ["DATABASE_URL", "BROKER_URL"])
def test_passwords_are_not_shown_where_an_address_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        made(monkeypatch, **{name: "mysql://u:hunter2@h/d"})
    assert "has scheme 'mysql'" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("STORAGE_URL", "s3://bucket", "storage_url has scheme 's3': this version takes file"),
        ("STORAGE_URL", "file://host/path", "file:///absolute/folder"),
        ("STORAGE_URL", "file:relative", "file:///absolute/folder"),
        ("STORAGE_URL", "file:///folder?region=eu", "file:///absolute/folder"),
        ("STORAGE_URL", "/plain", "storage_url has scheme '/plain'"),
        ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("DATABASE_URL", "mysql://h/d", "database_url has scheme 'mysql'"),
        ("BROKER_URL", "amqp://h", "broker_url has scheme 'amqp'"),
        ("QUEUES", "../etc", "queue names are letters"),
        ("QUEUES", ",", "queue names are letters"),
        ("LEASE_SECONDS", "0", "greater than 0"),
        ("PORT", "70000", "less than or equal to 65535"),
    ],
)
def test_what_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        made(monkeypatch, **{name: value})
