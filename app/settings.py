"""All that a deployment can choose, read from `SECATEUR_*` variables."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """Settings with the defaults of the embedded service; production changes the three addresses."""

    model_config = SettingsConfigDict(
        env_prefix="SECATEUR_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a refused address may hold a password
    )

    # --- where things are
    data_dir: Path = Field(Path("secateur-data"), description="folder of the embedded database, files and broker")
    database_url: SecretStr = Field(SecretStr(""), description="SQLite file in DATA_DIR, or postgresql://...")
    broker_url: SecretStr = Field(SecretStr(""), description="folder in DATA_DIR (filesystem://), or redis://...")
    storage_url: str = Field("", description="folder in DATA_DIR, or file:///absolute/folder")
    host: str = Field("127.0.0.1", description="address the service listens on")
    port: int = Field(8000, ge=0, le=65535, description="port the service listens on")

    # --- jobs
    queues: Annotated[tuple[str, ...], NoDecode] = Field(("cpu",), description="queues this worker serves, by comma")
    default_queue: str = Field("cpu", description="queue that new jobs and inspections are put on")
    max_concurrent_jobs: Count = Field(1, description="jobs that one worker runs at a time")
    lease_seconds: Seconds = Field(30, description="how long a worker may be silent before its job is given to another")
    max_attempts: Count = Field(3, description="attempts that may be lost before the job fails")
    sweep_seconds: Seconds = Field(5, description="pause between two sweeps for lost and forgotten jobs")
    republish_seconds: Seconds = Field(30, description="age at which a waiting job is announced to the workers again")
    inspect_seconds: Seconds = Field(600, description="time that the inspection of an upload may take")
    inspect_memory_bytes: Count = Field(8_000_000_000, description="memory that the inspection of an upload may take")

    # --- requests
    max_upload_bytes: Count = Field(4 * 2**30, description="largest file that an upload may hold")
    max_body_bytes: Count = Field(8 * 2**20, description="largest JSON body")
    max_wait_seconds: Seconds = Field(60, description="longest ?wait= of a poll")
    idempotency_seconds: Seconds = Field(86400, description="how long an Idempotency-Key is remembered")

    # --- operation
    database_pool_size: Count = Field(40, description="database connections of one process; equals its thread pool")
    temporary_seconds: Seconds = Field(60, description="age at which a file left behind by a dead process is removed")
    worker_seconds: Seconds = Field(30, description="silence after which a worker counts as gone")
    hardened: bool = Field(False, description="refuse to start below the full level of isolation")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator("queues", mode="before")
    @classmethod
    def split_commas(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("queues", "default_queue")
    @classmethod
    def plain_names(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = (value,) if isinstance(value, str) else value
        if not names or not all(name.replace("-", "").replace("_", "").isalnum() for name in names):
            raise ValueError(f"queue names are letters, digits, - and _, got {value!r}")
        return value

    @model_validator(mode="before")
    @classmethod
    def fill_addresses(cls, values: dict[str, object]) -> dict[str, object]:
        folder = Path(str(values.get("data_dir") or "secateur-data")).expanduser().resolve()
        defaults = {
            "database_url": f"sqlite:///{folder / 'secateur.db'}",
            "broker_url": "filesystem://",
            "storage_url": (folder / "files").as_uri(),
        }
        return {**values, "data_dir": folder, **{k: values.get(k) or default for k, default in defaults.items()}}

    @model_validator(mode="after")
    def known_schemes(self) -> Self:
        allowed = {
            "database_url": ("sqlite", "postgresql", "postgres", "postgresql+psycopg"),
            "broker_url": ("filesystem", "redis", "rediss"),
            "storage_url": ("file",),
        }
        for name, schemes in allowed.items():
            value = getattr(self, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if (scheme := text.partition(":")[0]) not in schemes:
                raise ValueError(f"{name} has scheme {scheme!r}: this version takes {', '.join(schemes)}")
        return self

    @field_validator("storage_url")
    @classmethod
    def absolute_folder(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment):
            raise ValueError(f"storage_url is {value!r}: this version stores in local folders, file:///absolute/folder")
        return value

    @property
    def storage_dir(self) -> Path:
        """Folder of the stored files."""
        return Path(unquote(urlsplit(self.storage_url).path))

    @property
    def scratch_dir(self) -> Path:
        """Folder in which each running job has a folder of its own."""
        return self.data_dir / "scratch"

    @property
    def broker_dir(self) -> Path:
        """Folder of the messages when the broker is `filesystem://`."""
        return self.data_dir / "broker"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once; `get_settings.cache_clear()` reads them again."""
    return Settings()


def why_refused(error: ValidationError) -> str:
    """Which variables cannot be used and why, as a sentence; what they hold is not told, as it may be a password."""
    places = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{_variable(place['loc'])}{place['msg'].removeprefix('Value error, ')}" for place in places)


def _variable(place: tuple[int | str, ...]) -> str:
    return f"SECATEUR_{str(place[0]).upper()}: " if place else ""
