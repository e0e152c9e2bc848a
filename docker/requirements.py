"""Print what pyproject.toml requires, with the extras named as arguments: a layer that new source leaves alone."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, object], extras: list[str]) -> list[str]:
    """The dependencies of the `project` table and of these extras."""
    optional: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]  # type: ignore[misc]


if __name__ == "__main__":
    text = Path("pyproject.toml").read_text()
    sys.stdout.write("\n".join(requirements(tomllib.loads(text)["project"], sys.argv[1:])) + "\n")
