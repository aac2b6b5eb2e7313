"""What a person may copy from the terminal (commands, paths, ids, URLs) is never broken, however narrow the window."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich import box
from rich.console import RenderableType
from rich.text import Text

from connector.cli import main
from connector.cli.app import COMMANDS
from connector.cli.console import make_console, make_table, typed
from connector.report.journal import status_view, verified_view
from connector.report.layout import Line, Rows, Terms, wrapped

LONG = "/srv/" + "/".join(["customers of the north"] * 12) + "/journal.sqlite3"
ID = "5f0c1c1e-7a7b-4c55-9a43-0e0f6e1b7c11"
URL = f"https://api.partnercenter.microsoft.com/v1/customers/{ID}/subscriptions/{ID}"
WIDTHS = [20, 40, 60, 160]


def shown(renderable: RenderableType, width: int) -> list[str]:
    out = io.StringIO()
    console = make_console(file=out)
    console.width = width
    console.print(renderable)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "command",
    [
        "linksub apply plan.json --allow seats_added=200",
        "linksub journal settle 3f2a90c1 --note TEXT",
        "linksub plan --out FILE",
        "linksub rehearse --builtin",
        f"linksub explain {ID}",
        'linksub explain "New York"',
    ],
)
def test_a_command_within_a_sentence_stays_on_one_line(command: str, width: int) -> None:
    sentence = f"The plan is beyond a limit that nobody lifted; {command}; then look again at what is due by then."
    lines = shown(Line(sentence, 4, style="cyan"), width)
    assert any(command in line for line in lines)
    assert " ".join(" ".join(lines).split()) == sentence


@pytest.mark.parametrize("width", WIDTHS)
def test_prose_ends_between_words_within_the_window(width: int) -> None:
    prose = "Somebody edited the parent in the CRM, and linksub holds the family until a person says which is right."
    lines = shown(Line(prose, 4), width)
    assert max(map(len, lines)) <= width
    assert all(line.startswith("    ") for line in lines)
    assert " ".join(line.strip() for line in lines) == prose


@pytest.mark.parametrize("width", WIDTHS)
def test_a_place_with_spaces_stays_on_one_line(width: int) -> None:
    assert len(LONG) > 200
    assert shown(Line(f"the kill switch is on: {LONG}", 2, whole=True), width) == [f"  the kill switch is on: {LONG}"]
    assert shown(Terms([("journal", LONG), ("why", "two words")], whole={"journal"}), width)[0] == f"journal {LONG}"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("style", [box.SIMPLE_HEAD, box.HEAVY_HEAD])
def test_a_table_breaks_no_id_and_no_url_and_cuts_nothing_off(style: box.Box, width: int) -> None:
    rows = Rows(("Family", "Why", "Where", "What to do", "Seats"), "Held", right=(4,), style=style, indent=2)
    rows.add_row("Pine Cone Vet Parent", "somebody edited it " * 9, URL, "look, then linksub run --only " + ID, "5")
    rows.add_row(ID, Text("drift"), "", "nothing", "12345")
    text = "\n".join(shown(rows, width))
    for whole in (URL, ID, f"linksub run --only {ID}", "12345"):
        assert whole in text
    assert text.count("edited") == 9


def test_a_table_that_fits_stays_within_its_window_and_one_that_does_not_becomes_blocks() -> None:
    table = make_table(("Contract", "Product", "Seats"), [("Pine Cone Vet New York", "M365-E3", 25)], right=(2,))
    wide, narrow = shown(table, 60), shown(table, 24)
    assert max(map(len, wide)) <= 60
    assert any(line.split() == ["Pine", "Cone", "Vet", "New", "York", "M365-E3", "25"] for line in wide)
    assert [line.split()[0] for line in narrow if line.strip()][:1] == ["Contract"]
    assert max(map(len, narrow)) <= 24 + len("Contract")


def test_numbers_stand_at_the_right() -> None:
    lines = shown(make_table(("Name", "Seats"), [("a", 5), ("b", 12345)], right=(1,)), 60)
    ends = [len(line.rstrip()) for line in lines if line.split()[:1] in (["a"], ["b"])]
    assert ends[0] == ends[1]


def test_wide_letters_count_twice() -> None:
    assert [line.plain for line in wrapped(Text("松果 動物 病院"), 9)] == ["松果 動物", "病院"]


def test_the_state_of_things_and_the_verdict_on_a_journal_show_its_place_whole() -> None:
    document = {
        "health": {"state": "sound", "journal": LONG, "problem": None, "hint": None},
        "running": None,
        "kill_switch": {"on": True, "file": LONG, "text": "until Monday"},
        "oldest_waiting": None,
        "set_aside": [f"{LONG}.corrupt-1"],
        "caches": [],
        "runs": [],
        "open_intents": [],
        "attention": [],
        "deferred": [],
        "leases": [],
    }
    text = "\n".join(shown(status_view(document), 40))
    for whole in (f"sound ({LONG})", f"ON: {LONG} until Monday", f"{LONG}.corrupt-1"):
        assert whole in text
    for sound in (True, False):
        verdict = {"missing": False, "sound": sound, "journal": LONG, "entries": 3, "problems": ["it was changed"]}
        assert LONG in "\n".join(shown(verified_view(verdict), 40))


def test_what_is_printed_plainly_is_never_broken() -> None:
    out = io.StringIO()
    console = make_console(file=out)
    console.width = 40
    console.print(f"Wrote {LONG}", style="bold")
    assert out.getvalue() == f"Wrote {LONG}\n"


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS])
def test_the_examples_in_a_commands_help_can_be_copied(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    helps = {}
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main([name, "--help"]) == 0
        lines = map(str.strip, capsys.readouterr().out.splitlines())
        helps[columns] = [line for line in lines if line.startswith("linksub ")]
    assert helps["40"][: len(helps["200"])] == helps["200"]


def test_a_new_configuration_is_told_with_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    deep = tmp_path / ("a" * 120) / ("b c " * 25)
    deep.mkdir(parents=True)
    assert main(["init", str(deep / "config.yaml")]) == 0
    assert f"Wrote {deep / 'config.yaml'}\n" in capsys.readouterr().out


def test_a_path_with_spaces_is_quoted_where_it_is_typed() -> None:
    assert typed(Path("/tmp/plan.json")) == "/tmp/plan.json"
    assert typed(Path("/tmp/my plan.json")) == "'/tmp/my plan.json'"
