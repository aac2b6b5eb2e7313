"""Hostile names and texts of others, through the real command line: shown inertly on a terminal, in logs and in JSON."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from connector.cli import logs
from connector.cli.app import run as command_line
from connector.cli.console import make_console, make_table
from connector.cli.errors import report_error
from connector.cli.rehearsal import Rehearsal
from connector.errors import ConfigError, Rejected
from connector.report.file import write_report
from connector.report.inert import strip_controls, to_json
from connector.report.layout import Rows, plain
from connector.sandbox.scenario import parse_scenario
from tests.unit.test_security import config_file

ESCAPE = "\x1b[2J\x1b[31m\x1b]0;owned\x07\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\\x9b5A"
HOSTILE = (
    f"=cmd|'/c calc'!A0 {ESCAPE}[bold red]loud[/bold red]\r\nFORGED: 0 problems\u202e001\u202c\u2066\u200b\u2028end"
)
PAINTS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Everything that a terminal acts upon or that hides, except the line feeds of a report."""

WORLD: dict[str, Any] = {
    "name": "Hostile names",
    "clock": "2026-03-02T14:00:00Z",
    "accounts": [{"id": "a", "name": HOSTILE, "tenant": "11111111-1111-4111-8111-111111111111"}],
    "contracts": [
        {"id": "parent", "account": "a", "name": f"Parent {HOSTILE}"},
        {"id": "ny", "account": "a", "name": f"Child {HOSTILE}"},
        {"id": "mem", "account": "a", "name": f"Other {HOSTILE}"},
    ],
    "subscriptions": [
        {
            "id": "p-e3",
            "contract": "parent",
            "product": "M365-E3",
            "part_number": "CFQ7TTC0LFLX:0001",
            "provider": "partner_center",
            "quantity": 40,
            "at_provider": {"quantity": 40, "term": "P1Y", "commitment_end": "2026-12-31", "auto_renew": True},
        },
        *(
            {
                "id": f"{contract}-e3",
                "contract": contract,
                "product": "M365-E3",
                "part_number": "CFQ7TTC0LFLX:0001",
                "provider": "linked",
                "linked_to": "p-e3",
                "quantity": quantity,
            }
            for contract, quantity in (("ny", 25), ("mem", 15))
        ),
    ],
    "steps": [{"change": {"subscription": "ny-e3", "by": 10}}],
}
REFUSAL = {"code": "800023", "description": f"Refused {HOSTILE}", "data": [], "source": "PartnerFD"}
PAGE = f"<html><title>{HOSTILE}</title><script>alert(1)</script></html>"

Linksub = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rehearsal() -> Iterator[Rehearsal]:
    scenario = parse_scenario(yaml.safe_dump(WORLD))
    assert scenario.accounts[0].name == HOSTILE
    with Rehearsal(scenario) as running:
        running.sandbox.perform(scenario.steps[0])
        yield running


@pytest.fixture
def linksub(rehearsal: Rehearsal, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Linksub:
    config = config_file(rehearsal, tmp_path, http={"ca_bundle": str(rehearsal.config.http.ca_bundle), "attempts": 1})

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = command_line(["--config", str(config), *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def fault(rehearsal: Rehearsal, **values: Any) -> None:
    step = {**WORLD, "steps": [{"fault": values}]}
    rehearsal.sandbox.perform(parse_scenario(yaml.safe_dump(step)).steps[0])


def check_inert(*texts: str) -> None:
    for text in texts:
        assert not PAINTS.search(text), ascii(PAINTS.findall(text))
        assert not [line for line in text.splitlines() if line.startswith("FORGED")]


def test_plan_run_explain_status_and_journal_show_hostile_names_as_plain_text(
    linksub: Linksub, rehearsal: Rehearsal, tmp_path: Path
) -> None:
    family = rehearsal.sandbox.world.id_of("p-e3")
    commands = [
        ("plan", "-vv"),
        ("plan", "--out", str(tmp_path / "plan.json")),
        ("explain", family),
        ("run", "-vv"),
        ("explain", family),
        ("status",),
        ("journal", "list"),
    ]
    shown = {}
    for arguments in commands:
        code, out, err = linksub(*arguments)
        assert code == 0, (arguments, out, err)
        check_inert(out, err)
        shown[arguments[0]] = out
    for name in ("plan", "run", "explain"):
        assert "[bold red]loud[/bold red]" in " ".join(shown[name].split()), "markup is text, and it is all there"
        assert "=cmd|'/c calc'!A0" in " ".join(shown[name].split())


def test_documents_carry_hostile_names_whole_and_hide_nothing(
    linksub: Linksub, rehearsal: Rehearsal, tmp_path: Path
) -> None:
    family = rehearsal.sandbox.world.id_of("p-e3")
    saved = tmp_path / "plan.json"
    whole = 0
    for arguments in (
        ("plan", "--out", str(saved)),
        ("explain", family),
        ("apply", str(saved)),
        ("status",),
        ("journal", "list"),
    ):
        code, out, err = linksub(*arguments, "--output", "json", "--log-format", "json", "-v")
        assert code == 0, (arguments, out, err)
        check_inert(out, err)
        whole += any(HOSTILE in text for text in texts_of(json.loads(out)))
        for line in err.splitlines():
            assert json.loads(line)["event"]
    assert whole >= 3, "nothing is lost: the exact name is in plan, explanation and run"
    code, out, _ = linksub("journal", "export")
    assert code == 0
    check_inert(out, saved.read_text(encoding="utf-8"))
    assert all(json.loads(line) for line in out.splitlines())
    [report] = (tmp_path / "reports").iterdir()
    check_inert(report.read_text(encoding="utf-8"))
    assert any(HOSTILE in text for text in texts_of(json.loads(report.read_text(encoding="utf-8"))))


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize(
    ("service", "status", "body"),
    [
        ("partner_center", 403, REFUSAL),
        ("partner_center", 400, {"code": HOSTILE, "description": HOSTILE}),
        ("partner_center", 500, PAGE),
        ("dataverse", 500, PAGE),
        ("dataverse", 400, {"error": {"code": HOSTILE, "message": HOSTILE}}),
    ],
)
def test_hostile_texts_of_a_service_are_shown_inertly(
    service: str, status: int, body: Any, linksub: Linksub, rehearsal: Rehearsal
) -> None:
    for arguments in (("run", "-vv"), ("run", "--output", "json", "--log-format", "json", "-v"), ("status",)):
        fault(rehearsal, service=service, kind="status", status=status, body=body, method="PATCH")
        code, out, err = linksub(*arguments)
        assert "Traceback" not in out + err
        check_inert(out, err)
        if "json" in arguments:
            json.loads(out)
            assert all(json.loads(line) for line in err.splitlines())
        else:
            for line in err.splitlines():
                assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (debug|info|warning|error) |error: |hint: |  ", line), line
        assert code in (0, 3, 75, 78)


# --- the pieces ------------------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=60))
def test_no_text_paints_and_no_json_hides_or_loses_anything(text: str) -> None:
    shown = strip_controls(text)
    assert not PAINTS.search(shown)
    assert "\n" not in shown
    assert strip_controls(shown) == shown
    shown.encode("utf-8")
    line = to_json({text: [text]})
    assert not PAINTS.search(line)
    assert "\n" not in line
    line.encode("utf-8")
    assert json.loads(line) == {text: [text]}


def test_tables_and_texts_of_every_view_are_inert() -> None:
    out = io.StringIO()
    console = make_console(file=out)
    rows = Rows(("One", "Two", "Three", "Four"))
    rows.add_row(HOSTILE, plain(HOSTILE), Text("ours"), HOSTILE)
    console.print(rows, plain(HOSTILE), make_table(["x"], [[HOSTILE]]))
    narrow = io.StringIO()
    console = make_console(file=narrow)
    console.width = 60
    console.print(rows)
    check_inert(out.getvalue(), narrow.getvalue())
    assert "[bold red]" in out.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_errors_are_inert_with_their_traceback_too(as_json: bool) -> None:
    out = io.StringIO()
    try:
        raise Rejected(HOSTILE, service="partner_center", operation=HOSTILE, code=HOSTILE, request_id=HOSTILE)
    except Rejected as error:
        report_error(error, as_json=as_json, verbosity=2, stream=out)
    report_error(ConfigError(HOSTILE, problems=[HOSTILE], hint=HOSTILE), as_json=as_json, stream=out)
    check_inert(out.getvalue())
    if as_json:
        assert [json.loads(line)["error"]["kind"] for line in out.getvalue().splitlines()] == [
            "Rejected",
            "ConfigError",
        ]


def test_a_log_line_is_one_line_and_a_traceback_cannot_pose_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging(verbosity=1)
    logger = logging.getLogger("connector.x")
    logger.warning("name %s", HOSTILE, extra={"customer": HOSTILE})
    (line,) = capsys.readouterr().err.splitlines()
    check_inert(line)
    try:
        raise ValueError("x\n2026-03-02T14:00:00.000Z error   forged\n" + HOSTILE)
    except ValueError:
        logger.exception("failed")
    first, *rest = capsys.readouterr().err.splitlines()
    check_inert(first, *rest)
    assert rest
    assert all(line.startswith("  ") for line in rest)


@pytest.mark.parametrize(
    "text",
    [
        'answer: {"client_secret": "planted-secret", "x": 1}',
        "the end is password=planted-secret",
        'header "Authorization: Bearer planted-secret-of-some-length"',
        "Authorization: planted-secret\\",
        "a 'passphrase': 'planted-secret' b",
    ],
)
def test_masking_in_a_json_log_keeps_it_json_and_misses_nothing(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from connector.http.redaction import redact

    logs.configure_logging(verbosity=1, form="json")
    logs.use_redactor(redact)
    logging.getLogger("connector.x").warning(text, extra={"detail": {"inner": [text, ValueError(text)]}, text: 1})
    (line,) = capsys.readouterr().err.splitlines()
    assert "planted-secret" not in line
    assert "***" in json.loads(line)["event"]


def test_a_report_file_is_json_whatever_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, {"name": f"{HOSTILE}\ud800"})
    check_inert(path.read_text(encoding="utf-8"))
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": f"{HOSTILE}\ud800"}
