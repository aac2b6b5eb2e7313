"""The frame of the command line: exit codes, what stands on stdout and stderr, options before and after the command."""

from __future__ import annotations

import ast
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

import connector.errors
from connector.cli import app as frame
from connector.cli import logs, main
from connector.cli.console import make_console, make_table, strip_controls
from connector.cli.errors import exit_for, report_error
from connector.cli.options import Context, Output, context_of
from connector.errors import (
    AuthError,
    ConfigError,
    ConnectorError,
    ExitCode,
    LockHeld,
    OutcomeUnknown,
    Rejected,
    RemoteError,
    StalePlan,
)

ROOT = Path(__file__).resolve().parents[2]

Body = Callable[[typer.Context], object]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Body], None]]:
    """Puts one extra command ``probe`` with the given body into the table."""

    def install(body: Body) -> None:
        def register(app: typer.Typer) -> None:
            def probe(ctx: typer.Context, value: str = "") -> object:
                return body(ctx)

            app.command("probe")(probe)

        module = ModuleType("connector.cli.probe")
        module.register = register  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "connector.cli.probe", module)
        monkeypatch.setattr(frame, "COMMANDS", (*frame.COMMANDS, ("probe", "For tests.")))

    yield install


def raising(error: BaseException) -> Body:
    def body(ctx: typer.Context) -> object:
        raise error

    return body


# --- exit codes ------------------------------------------------------------------------------------------------------


def every_error() -> list[type[ConnectorError]]:
    found: list[type[ConnectorError]] = []
    pending: list[type[ConnectorError]] = [ConnectorError]
    while pending:
        kind = pending.pop()
        if kind.__module__ == connector.errors.__name__:
            found.append(kind)
        pending.extend(kind.__subclasses__())
    return sorted(found, key=lambda kind: kind.__name__)


def an(kind: type[ConnectorError]) -> ConnectorError:
    if issubclass(kind, RemoteError):
        return kind("it went wrong", service="dataverse", operation="patch subscription")
    if issubclass(kind, LockHeld):
        return kind("it went wrong", holder="ops@host")
    return kind("it went wrong")


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_sentence_a_hint_and_an_exit_code(kind: type[ConnectorError]) -> None:
    sentence, hint, code = exit_for(an(kind))
    assert sentence == "it went wrong"
    assert hint
    assert code == int(kind.exit_code)
    assert code in {int(one) for one in ExitCode} - {0}


def test_there_are_errors_to_look_at() -> None:
    assert {ConfigError, AuthError, OutcomeUnknown, StalePlan} <= set(every_error())


def test_an_error_of_its_own_hint_keeps_it() -> None:
    assert exit_for(StalePlan("old", hint="plan again tomorrow")).hint == "plan again tomorrow"


def test_ids_that_support_asks_for_are_shown() -> None:
    error = Rejected(
        "no", service="partner_center", operation="patch", code="800090", request_id="r-1", correlation_id="c-1"
    )
    assert exit_for(error).sentence == "no (code 800090, request id r-1, correlation id c-1)"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 75),
        (typer.Abort(), 75),
        (typer.BadParameter("bad"), 64),
        (ZeroDivisionError("x"), 1),
        (MemoryError(), 1),
        (BrokenPipeError(32, "Broken pipe"), 1),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (RecursionError(), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_what_is_not_ours_ends_in_an_exit_code_too(error: BaseException, code: int) -> None:
    ending = exit_for(error)
    assert ending.exit_code == code
    assert ending.sentence
    assert ending.hint


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["--nonsense"],
        ["init", "--nonsense"],
        ["--output", "xml", "init"],
        ["init", "a", "b"],
        ["--config"],
        [],
    ],
)
def test_bad_usage_ends_with_64_and_says_so_on_stderr(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err


def test_a_mistyped_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inti"]) == 64
    err = capsys.readouterr().err
    assert "error: No such command 'inti'. Did you mean 'init'?" in err
    assert "hint: linksub --help" in err


def test_a_command_returns_its_exit_code(command: Callable[[Body], None]) -> None:
    command(lambda ctx: ExitCode.FAMILIES_NEED_ATTENTION)
    assert main(["probe"]) == 3


def test_a_command_that_returns_nothing_is_done(command: Callable[[Body], None]) -> None:
    command(lambda ctx: None)
    assert main(["probe"]) == 0


def test_a_command_may_end_with_typer_exit(command: Callable[[Body], None]) -> None:
    command(raising(typer.Exit(4)))
    assert main(["probe"]) == 4


def test_ctrl_c_ends_with_75(command: Callable[[Body], None], capsys: pytest.CaptureFixture[str]) -> None:
    command(raising(KeyboardInterrupt()))
    assert main(["probe"]) == 75
    assert "error: interrupted" in capsys.readouterr().err


def test_a_mistake_of_ours_is_short_without_vv_and_whole_with_it(
    command: Callable[[Body], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(ZeroDivisionError("planted detail")))
    assert main(["probe", "-v"]) == 1
    brief = capsys.readouterr().err
    assert brief.startswith("error: linksub ran into a mistake of its own (ZeroDivisionError)\nhint: ")
    assert "planted detail" not in brief
    assert main(["probe", "-vv"]) == 1
    whole = capsys.readouterr().err
    assert "Traceback (most recent call last)" in whole
    assert "planted detail" in whole


def test_problems_of_a_configuration_stand_one_per_line(
    command: Callable[[Body], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(ConfigError("2 problems", problems=["a.yaml:1: x", "a.yaml:2: y"], hint="mend them")))
    assert main(["probe"]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["error: 2 problems", "  a.yaml:1: x", "  a.yaml:2: y", "hint: mend them"]


@pytest.mark.parametrize(
    "argv", [["--output", "json", "probe"], ["probe", "--output", "json"], ["probe", "--output=json"]]
)
def test_a_machine_gets_the_error_as_one_json_object_on_stderr(
    argv: list[str], command: Callable[[Body], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(AuthError("no", service="sign_in", operation="token", status=401, code="AADSTS7000215")))
    assert main(argv) == 77
    out, err = capsys.readouterr()
    assert out == ""
    document = json.loads(err)
    assert document["schema_version"] == 1
    assert document["error"]["kind"] == "AuthError"
    assert document["error"]["exit_code"] == 77
    assert document["error"]["remote"]["code"] == "AADSTS7000215"


def test_a_command_line_that_cannot_be_parsed_still_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nonsense", "--output", "json"]) == 64
    assert json.loads(capsys.readouterr().err)["error"]["exit_code"] == 64


def test_a_closed_stderr_does_not_hide_the_exit_code() -> None:
    closed = io.StringIO()
    closed.close()
    assert report_error(StalePlan("old"), stream=closed) == 6


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["probe"], (None, Output.TEXT, 0, True)),
        (["--config", "a.yaml", "probe"], ("a.yaml", Output.TEXT, 0, True)),
        (["probe", "--config", "a.yaml"], ("a.yaml", Output.TEXT, 0, True)),
        (["--config", "a.yaml", "probe", "--config", "b.yaml"], ("b.yaml", Output.TEXT, 0, True)),
        (["-v", "probe", "-v"], (None, Output.TEXT, 2, True)),
        (["probe", "-vv", "--no-color"], (None, Output.TEXT, 2, False)),
        (["-q", "probe", "--output", "json"], (None, Output.JSON, -1, True)),
        (["probe", "--value", "-v"], (None, Output.TEXT, 0, True)),
    ],
)
def test_global_options_count_before_and_after_the_command(
    argv: list[str], expected: tuple[object, ...], command: Callable[[Body], None]
) -> None:
    seen: list[Context] = []
    command(lambda ctx: seen.append(context_of(ctx)))
    assert main(argv) == 0
    (got,) = seen
    path = None if got.config_path is None else str(got.config_path)
    assert (path, got.output, got.verbosity, got.color) == expected


def test_the_environment_names_the_configuration_unless_the_command_line_does(
    command: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Context] = []
    command(lambda ctx: seen.append(context_of(ctx)))
    monkeypatch.setenv("LINKSUB_CONFIG", "env.yaml")
    assert main(["probe"]) == main(["--config", "a.yaml", "probe"]) == main(["probe", "--config", "b.yaml"]) == 0
    assert [str(one.config_path) for one in seen] == ["env.yaml", "a.yaml", "b.yaml"]


def test_without_a_configuration_the_error_says_how_to_get_one(
    command: Callable[[Body], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command(lambda ctx: context_of(ctx).load() and None)
    assert main(["probe"]) == 78
    assert "linksub init" in capsys.readouterr().err


def test_what_init_writes_can_be_loaded(
    command: Callable[[Body], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKSUB_CLIENT_SECRET", "x")
    assert main(["init"]) == 0
    urls: list[str] = []
    command(lambda ctx: urls.append(context_of(ctx).load().dataverse.url))
    assert main(["probe"]) == 0
    assert urls == ["https://contoso.crm4.dynamics.com"]


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine", encoding="utf-8")
    assert main(["init", str(path)]) == 64
    assert path.read_text(encoding="utf-8") == "mine"
    assert main(["init", str(tmp_path / "nowhere" / "x.yaml")]) == 64
    assert "there is no directory" in capsys.readouterr().err


def test_init_tells_a_machine_where_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "c.yaml"), "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "written": str(tmp_path / "c.yaml")}


def test_a_document_without_a_schema_version_is_not_sent() -> None:
    with pytest.raises(ValueError, match="schema_version"):
        Context().emit({"x": 1})


# --- the table of commands -------------------------------------------------------------------------------------------


def test_every_command_file_is_in_the_table_and_the_other_way_round() -> None:
    def registers(path: Path) -> bool:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        return any(isinstance(node, ast.FunctionDef) and node.name == "register" for node in body)

    files = {path.stem for path in (ROOT / "connector" / "cli").glob("*.py") if registers(path)}
    assert files == {name for name, _ in frame.COMMANDS}


@pytest.mark.parametrize("name", [name for name, _ in frame.COMMANDS])
def test_a_command_registers_under_the_name_of_its_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.load_command(name).name == name
    assert main([name, "--help"]) == 0
    assert f"linksub {name}" in capsys.readouterr().out


def test_help_lists_every_command_and_imports_none() -> None:
    script = "import sys; from connector.cli import main; main(['--help']); print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    for name, line in frame.COMMANDS:
        assert f"  {name} " in done.stdout
        assert line in " ".join(done.stdout.split()), f"the line of {name} is too long for a terminal"
        assert f"'connector.cli.{name}'" not in done.stdout
    for heavy in ("requests", "sqlalchemy", "msal", "pydantic", "yaml", "connector.wiring"):
        assert f"'{heavy}'" not in done.stdout, f"linksub --help imports {heavy}"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"linksub {connector.__version__}\n"


def test_python_m_connector_is_linksub() -> None:
    done = subprocess.run([sys.executable, "-m", "connector", "nonsense"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 64
    assert "No such command 'nonsense'" in done.stderr


# --- what people see -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Σ → −", "plain Σ → −"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jx", "x"),
        ("\x1bcx", "x"),
        ("a\nb\tc\r\nd", "a b c d"),
        ("a\x00\x08b\x7f", "ab"),
        ("100\u202e001", "100001"),
        ("\x1b[", ""),
        ("\x1b", ""),
    ],
)
def test_data_cannot_paint_on_the_terminal(text: str, shown: str) -> None:
    assert strip_controls(text) == shown


def test_a_table_in_a_pipe_is_plain_and_keeps_every_character() -> None:
    out = io.StringIO()
    long = "Pine Cone Vet " * 30
    rows = [["[bold]x[/bold]", 25], [long, None], ["\x1b[31mred", -5]]
    make_console(file=out).print(make_table(["Location", "Seats"], rows, title="Before", right=[1]))
    text = out.getvalue()
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text
    assert text.count("Pine") == 30
    assert "–" in text


# --- logs ------------------------------------------------------------------------------------------------------------


def test_logs_go_to_stderr_with_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging(level="info")
    logging.getLogger("connector.sync").info("run.started", extra={"run_id": "r-1", "note": "two words"})
    logging.getLogger("connector.sync").debug("too.quiet")
    logging.getLogger("urllib3").info("not ours")
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.endswith('info    run.started run_id=r-1 note="two words"')


def test_json_logs_are_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging(level="info", form="json")
    logs.set_fields(run_id="r-1")
    try:
        raise ValueError("x\ny")
    except ValueError:
        logging.getLogger("connector.http").exception("http.failed", extra={"attempt": 2, "where": Path("x")})
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["run_id"], line["attempt"], line["where"]) == (
        "http.failed",
        "error",
        "r-1",
        2,
        "x",
    )
    assert "ValueError" in line["traceback"]
    assert line["ts"].endswith("Z")


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [(-1, ["ours.warning"]), (0, ["ours.info", "ours.warning"]), (1, ["ours.debug", "ours.info", "ours.warning"])],
)
def test_how_much_is_said_follows_v_and_q(
    verbosity: int, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure_logging(verbosity=verbosity, level="info")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger("connector.x").log(level, f"ours.{logging.getLevelName(level).lower()}")
        logging.getLogger("urllib3").log(level - 1, "theirs")
    err = capsys.readouterr().err
    assert [name for name in ("ours.debug", "ours.info", "ours.warning") if name in err] == expected
    assert "theirs" not in err


def test_with_vv_libraries_speak_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging(verbosity=2)
    logging.getLogger("urllib3.connectionpool").debug("theirs")
    assert "theirs" in capsys.readouterr().err


def test_everything_written_passes_the_redactor(
    command: Callable[[Body], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def body(ctx: typer.Context) -> object:
        logs.use_redactor(lambda line: line.replace("planted-secret", "***"))
        logging.getLogger("connector.x").warning("said %s", "planted-secret", extra={"field": "planted-secret"})
        raise ConfigError("about planted-secret", problems=["planted-secret"], hint="planted-secret")

    command(body)
    for argv in (["probe"], ["probe", "-vv"], ["probe", "--output", "json"], ["probe", "--log-format", "json"]):
        assert main(argv) == 78
        out, err = capsys.readouterr()
        assert "planted-secret" not in out + err
        assert "***" in err


def test_a_second_configuration_keeps_the_redactor(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging()
    logs.use_redactor(lambda line: line.replace("planted-secret", "***"))
    logs.configure_logging(form="json")
    logging.getLogger("connector.x").warning("planted-secret")
    assert json.loads(capsys.readouterr().err)["event"] == "***"


def test_nothing_but_the_frame_sets_up_logging() -> None:
    for path in (ROOT / "connector").rglob("*.py"):
        if path.relative_to(ROOT).as_posix() in ("connector/cli/logs.py", "connector/journal/migrations/env.py"):
            continue
        calls = {
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        assert not calls & {"basicConfig", "addHandler", "dictConfig", "fileConfig"}, path
