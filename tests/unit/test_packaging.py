"""What an installed linksub carries."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared() -> dict:
    return project()["tool"]["setuptools"]


def test_every_package_is_declared():
    there = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in (ROOT / "connector").rglob("*.py")}
    assert there | {"connector._mappings"} == set(declared()["packages"])


def test_every_data_file_is_carried():
    carried = {
        path for pattern in declared()["package-data"]["connector"] for path in (ROOT / "connector").glob(pattern)
    }
    there = {
        path
        for path in (ROOT / "connector").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    assert there == carried


def test_the_mapping_travels_inside_the_package():
    assert declared()["package-dir"] == {"connector._mappings": "mappings"}
    assert (ROOT / "mappings" / "work365.yaml").is_file()


def test_the_sandbox_needs_no_extra_and_the_old_one_still_installs():
    needed = {re.split(r"[^A-Za-z0-9-]", one)[0] for one in project()["project"]["dependencies"]}
    assert {"lark", "trustme"} <= needed
    assert project()["project"]["optional-dependencies"]["sandbox"] == []


def test_everything_that_an_install_needs_has_a_tested_version():
    names = {re.split(r"[^A-Za-z0-9-]", one)[0].lower() for one in project()["project"]["dependencies"]}
    pinned = re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert names <= set(pinned)
