"""Links between the documents lead somewhere, and paths of the project that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.paths import PAGES, ROOT

MADE_LATER = {"demo-output/", "secateur-data/"}


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        led_to = page.parent / path if path else page
        assert led_to.exists(), target
        assert not anchor or anchor in anchors(led_to), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:app|pruning|worker|tests|docs|examples|benchmarks|docker|migrations)/[\w/.*-]*)`", page.read_text()
    )
    missing = [path for path in named if path not in MADE_LATER and not list(ROOT.glob(path.rstrip("/")))]
    assert missing == []
