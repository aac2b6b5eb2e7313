"""What an installed linksub carries."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def declared() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


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
