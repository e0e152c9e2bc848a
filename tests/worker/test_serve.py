"""What the whole service says before it starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.settings import get_settings
from worker import serve


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SECATEUR_PORT", "80a", "SECATEUR_PORT: Input should be a valid integer"),
        ("SECATEUR_BROKER_URL", "amqp://u:hunter2@h", "broker_url has scheme 'amqp'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    assert serve.serve() == 1
    told = capsys.readouterr().err
    assert told.startswith("secateur: ")
    assert told.count("\n") == 1
    assert sentence in told
    assert "hunter2" not in told
