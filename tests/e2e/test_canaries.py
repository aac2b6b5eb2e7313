"""Marker secrets, planted wherever a secret can come from, and a search for them in everything that linksub leaves.

Planted: the client secret (right and wrong), the tokens that the sign-in service hands out, a ``.netrc`` password, a
database password, literals pasted into a configuration, and a token with a secret that a service sends back in its
error texts. Searched: stdout, stderr, the state directory (the journal's bytes), reports, plan files, exports, the CRM.
The one exception is by design: the line of ``linksub sandbox up --output json`` tells how to sign in to that sandbox.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector.cli.app import run
from tests.e2e.conftest import Running

WRONG = "planted-wrong-secret-7f3a"
NETRC = "planted-netrc-password-c41d"
LITERAL = "planted-literal-secret-93be"
DATABASE = "planted-database-password-5e0f"
ECHOED_SECRET = "planted-echoed-secret-2b6c"
ECHOED_TOKEN = "eyJwbGFudGVkIjoiMSJ9.eyJwbGFudGVkIjoiMiJ9.planted-signature-8a1e"
ECHO = f"Your request: Authorization: Bearer {ECHOED_TOKEN}, form client_secret={ECHOED_SECRET}&scope=x"
MARKERS = (WRONG, NETRC, LITERAL, DATABASE, ECHOED_SECRET, "planted-signature", "planted-")
SHAPES = re.compile(
    r"\beyJ[A-Za-z0-9_-]{5,}"  # the head of every token that the sandbox issues
    r"|(?i:\bbearer\s+)(?!\*\*\*|token\b|authorization)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?i:client_secret|refresh_token|access_token)[\"']?\s*[=:]\s*[\"']?(?!\*\*\*|file:|env:|is\b)[A-Za-z0-9~_.-]{6,}"
)

Completed = subprocess.CompletedProcess[str]


class Watched:
    """The command line with planted secrets around it; keeps everything that it said."""

    def __init__(self, running: Running, linksub: Callable[..., Completed], directory: Path) -> None:
        self.running = running
        self.directory = directory
        self.secret = running.where["client_secret"]
        self._linksub = linksub
        self.said: dict[str, str] = {}
        netrc = directory / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login somebody password {NETRC}\n", encoding="utf-8")
        netrc.chmod(0o600)
        self.planted_files = {netrc}
        self.config = self.configure("config.yaml")

    def configure(self, name: str, **changes: Any) -> Path:
        """The sandbox's configuration with a state directory, reports, and changes by section."""
        settings = yaml.safe_load(self.running.config.read_text(encoding="utf-8"))
        settings |= {"state": {"directory": "state"}, "run": {"report_directory": "reports"}}
        settings["http"]["attempts"] = 2
        for section, values in changes.items():
            settings[section] = {**settings.get(section, {}), **values} if isinstance(values, dict) else values
        path = self.directory / name
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return path

    def holds(self, name: str, content: str) -> Path:
        """A file that holds a planted secret on purpose, and so is left out of the search."""
        path = self.directory / name
        path.write_text(content, encoding="utf-8")
        path.chmod(0o600)
        self.planted_files.add(path)
        return path

    def __call__(self, *arguments: str | Path, config: Path | None = None, **environment: str) -> Completed:
        done = self._linksub(
            "--config", config or self.config, *arguments, **{"NETRC": str(self.directory / "netrc"), **environment}
        )
        what = f"{len(self.said)}: {' '.join(map(str, arguments))} ({done.returncode})"
        self.said[what] = f"{done.stdout}\n{done.stderr}"
        return done

    def here(self, capsys: pytest.CaptureFixture[str], *arguments: str | Path, config: Path | None = None) -> int:
        """The same within this process, which is faster: for commands that need no network."""
        capsys.readouterr()
        code = run(["--config", str(config or self.config), *map(str, arguments)])
        said = capsys.readouterr()
        self.said[f"{len(self.said)}: {' '.join(map(str, arguments))} ({code})"] = said.out + said.err
        return code

    def fault(self, **fault: Any) -> None:
        self.running.step(fault=fault)

    def everything(self) -> Iterator[tuple[str, str]]:
        """Whatever was said or left: outputs, files byte by byte, and the rows of the CRM."""
        yield from self.said.items()
        for path in self.directory.rglob("*"):
            if path.is_file() and path not in self.planted_files:
                # Latin-1 shows every byte, so that a marker within a database page is found too.
                yield str(path.relative_to(self.directory)), path.read_bytes().decode("latin-1")
        yield "the CRM", json.dumps(self.running.control("GET", "world"))
        yield "the sandbox's trace", json.dumps(self.running.control("GET", "trace"))

    def leaks(self) -> dict[str, list[str]]:
        found = {}
        for name, text in self.everything():
            hits = [marker for marker in (*MARKERS, self.secret) if marker in text]
            hits += [match[0] for match in SHAPES.finditer(text)]
            if hits:
                found[name] = hits
        return found


@pytest.fixture
def watched(sandbox: Callable[..., Running], linksub: Callable[..., Completed], tmp_path: Path) -> Watched:
    return Watched(sandbox(), linksub, tmp_path)


def test_a_day_of_work_with_faults_leaves_no_secret_anywhere(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    grow = {"subscription": "ny-e3", "by": 1}
    formats = (("--log-format", "text"), ("--log-format", "json"))
    faults: list[dict[str, Any]] = [
        {"service": "dataverse", "kind": "status", "status": 401, "times": 1},
        {"service": "partner_center", "kind": "status", "status": 401, "body": {"code": "x", "description": ECHO}},
        {"service": "sign_in", "kind": "status", "status": 401, "path": "token", "body": _refusal()},
        {"service": "dataverse", "kind": "status", "status": 500, "body": f"<html><pre>{ECHO}</pre></html>"},
        {"service": "dataverse", "kind": "status", "status": 400, "body": {"error": {"code": ECHO, "message": ECHO}}},
        {"service": "partner_center", "kind": "truncated", "times": 1},
        {
            "service": "partner_center",
            "kind": "status",
            "status": 400,
            "method": "PATCH",
            "body": {"code": "800002", "description": ECHO},
        },
    ]
    codes = set()

    def run_with(fault: dict[str, Any], number: int) -> None:
        watched.running.step(change=grow)
        watched.fault(**fault)
        output = "json" if number % 3 else "text"
        codes.add(watched("run", "-vv", *formats[number % 2], "--output", output).returncode)

    *passing, refusal = faults
    for number, fault in enumerate(passing):
        run_with(fault, number)
    watched.running.step(change={"subscription": "atl-e3", "by": 2})
    plan = watched.directory / "plan.json"
    assert watched("plan", "--out", plan, "-vv").returncode == 0, watched.said
    assert watched("apply", plan, "-vv", "--log-format", "json").returncode == 0, watched.said
    run_with(refusal, len(passing))
    assert codes >= {0, 3, 77}, watched.said
    assert "Authorization: ***" in json.dumps(watched.running.control("GET", "world")), (
        "the echo came as far as the CRM"
    )
    intents = json.loads(watched("journal", "list", "--output", "json").stdout)["intents"]
    assert intents
    for command in (
        ("journal", "list"),
        ("journal", "show", intents[0]["id"]),
        ("journal", "export"),
        ("journal", "export", watched.directory / "export.jsonl"),
        ("status",),
        ("status", "--output", "json"),
        ("rules", "-vv"),
    ):
        assert watched.here(capsys, *command) == 0, watched.said
    assert watched("explain", intents[0]["family"], "-vv", "--log-format", "json").returncode == 0, watched.said
    assert watched("demo", "-vv", "--log-format", "json").returncode == 0, watched.said
    assert watched.leaks() == {}
    assert len(list((watched.directory / "reports").iterdir())) >= len(faults)
    assert (watched.directory / "state" / "journal.sqlite3").stat().st_size > 0


def _refusal() -> dict[str, object]:
    return {"error": "invalid_client", "error_description": f"AADSTS7000215: {ECHO}", "error_codes": [7000215]}


def test_a_wrong_secret_is_never_repeated_even_when_the_service_does(watched: Watched) -> None:
    secret = watched.holds("wrong", WRONG)
    wrong = watched.configure("wrong.yaml", sign_in={"client_secret": f"file:{secret}"})
    from_environment = watched.configure("env.yaml", sign_in={"client_secret": "env:PLANTED"})
    told = {"error": "invalid_client", "error_description": f"AADSTS7000215: {WRONG} is wrong; {WRONG!r}"}
    for output in ("text", "json"):
        for config in (wrong, from_environment):
            done = watched("run", "-vv", "--output", output, config=config, PLANTED=WRONG)
            assert done.returncode == 77, watched.said
            watched.fault(service="sign_in", kind="status", status=401, path="token", body=told)
            assert watched("run", "-vv", "--output", output, config=config, PLANTED=WRONG).returncode == 77
    assert "***" in "".join(watched.said.values())
    assert watched.leaks() == {}


PASTED = [
    {"sign_in": {"client_secret": LITERAL}},
    {"sign_in": {"client_secret": [LITERAL]}},
    {"sign_in": {"client_secret": f"vault:{LITERAL}"}},
    {"sign_in": {"client_secret": f"env:{LITERAL} "}},
    {"sign_in": LITERAL},
    {"sign_in": {"secret": LITERAL}},
    {"sign_in": {"tenant_id": f"{LITERAL}?"}},
    {"sign_in": {"certificate": {"path": "x.pem", "passphrase": LITERAL}}},
    {"sign_in": {"partner_center": {"client_secret": LITERAL}}},
    {"sign_in": {"authority": f"https://user:{LITERAL}@login.example"}},
    {"dataverse": {"url": f"https://user:{LITERAL}@contoso.example"}},
    {"dataverse": {"url": f"http://contoso.example/?client_secret={LITERAL}"}},
    {"state": {"url": f"postgresql://linksub:{DATABASE}@127.0.0.1/linksub"}},
    {"state": {"url": f"mysql://linksub:{DATABASE}@127.0.0.1/linksub"}},
    {"log": {"level": LITERAL}},
    {"policy": {"time_zone": 5, "seats_must_match": LITERAL}},
]


def test_a_secret_pasted_into_the_configuration_is_refused_and_never_repeated(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, changes in enumerate(PASTED):
        config = watched.configure(f"pasted{number}.yaml", **changes)
        watched.planted_files.add(config)
        for output in ("text", "json"):
            code = watched.here(capsys, "run", "-vv", "--output", output, config=config)
            assert code == 78, (changes, watched.said)
    broken = watched.holds("broken.yaml", f"sign_in:\n  client_secret: '{LITERAL}\n  x: ]")
    assert watched("run", "-vv", config=broken).returncode == 78
    assert watched.leaks() == {}


def test_a_database_that_cannot_be_reached_is_told_without_its_password(watched: Watched) -> None:
    config = watched.configure("database.yaml", state={"url": "env:DATABASE"})
    url = f"postgresql://linksub:{DATABASE}@127.0.0.1:9/linksub"
    for arguments in (("run", "-vv"), ("status", "-vv"), ("journal", "list", "--output", "json", "-vv")):
        done = watched(*arguments, config=config, DATABASE=url)
        assert done.returncode == 74, watched.said
    assert watched.leaks() == {}


def test_the_sandbox_tells_its_secret_in_its_json_line_only(
    watched: Watched, linksub: Callable[..., Completed]
) -> None:
    assert watched.running.where["client_secret"] == watched.secret
    text = watched.running.config.read_text(encoding="utf-8")
    assert watched.secret not in text
    assert yaml.safe_load(text)["sign_in"]["client_secret"].startswith("file:")


@pytest.mark.parametrize(
    "leak",
    [
        f"x {ECHOED_TOKEN}",
        "Authorization: Bearer abcdefghij",
        '{"client_secret": "abcdefghij"}',
        "client_secret=abcdefghij&x=1",
        f"password {NETRC}",
    ],
)
def test_the_search_finds_what_it_looks_for(leak: str, watched: Watched) -> None:
    (watched.directory / "left.log").write_text(f"before {leak} after", encoding="utf-8")
    assert "left.log" in watched.leaks()
