"""CONTRIBUTING.md names the files of a job's ten stops; CHANGELOG.md keeps its format."""

from __future__ import annotations

import re

from tests.docs.paths import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def test_a_job_has_ten_stops_each_with_a_file_that_exists() -> None:
    section = CONTRIBUTING.split("## A job's ten stops")[1].split("## ")[0]
    stops = re.findall(r"^\d+\. (.+)$", section, re.MULTILINE)
    assert len(stops) == 10
    files = [path for stop in stops for path in re.findall(r"`([\w/]+\.py)`", stop)]
    assert all((ROOT / path).exists() for path in files)
    assert all("`" in stop or stop.startswith("The same") for stop in stops)


def test_every_folder_of_the_project_is_explained() -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.*"))}
    hidden = {name for name in tops if name.startswith(".") or name.endswith(".egg-info")}
    made = {"demo-output", "secateur-data", "build", "htmlcov"}
    assert {name for name in tops - hidden - made if f"`{name}/" not in CONTRIBUTING} == set()


def test_the_changelog_keeps_its_format() -> None:
    kinds = set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", CHANGELOG, re.MULTILINE)
    assert versions[0][0] == "Unreleased"
    assert all(date for _, date in versions[1:])
