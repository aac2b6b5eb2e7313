"""What may not be possible whatever the input: unverified TLS, a token elsewhere, files for others, YAML that explodes,
rights beyond the role that docs/security-role.md asks for."""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import ssl
import threading
import typing
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
import trustme
import yaml
from pydantic import BaseModel, SecretStr
from requests.adapters import HTTPAdapter

from connector.cli.app import run as command_line
from connector.cli.rehearsal import Rehearsal
from connector.cli.rehearse import builtin_directory
from connector.crm.dataverse import DataverseClient
from connector.document import read_document
from connector.errors import AuthError, ConfigError, ConnectorError, ProtocolError, Rejected, Transient
from connector.http.auth import ClientSecret, MsalTokenSource
from connector.http.origin import Origin
from connector.http.session import make_session
from connector.http.transport import TransportSettings
from connector.journal import open_journal
from connector.mapping import load_mapping
from connector.sandbox.grammar import RunStep
from connector.sandbox.scenario import ScenarioError, load_scenario, parse_scenario
from connector.settings import Config
from tests.contract.http_fakes import API, START, FakeClock, make_transport, multipart

ROOT = Path(__file__).resolve().parents[2]
ROLE = yaml.safe_load((ROOT / "deploy" / "dataverse-role.yaml").read_text(encoding="utf-8"))


# --- TLS is never off ------------------------------------------------------------------------------------------------

_OFF = frozenset({"_create_unverified_context", "CERT_NONE", "CERT_OPTIONAL", "disable_warnings", "VerifyMode"})
_SECOND_WAYS_OUT = frozenset({"http.client", "urllib.request", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib"})
_FORMULA_WRITERS = frozenset({"csv", "openpyxl", "xlsxwriter", "jinja2"})


def loosened(source: str) -> list[str]:
    """Every place that could switch a certificate check off, or that talks past the one session."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg in ("verify", "check_hostname", "cert_reqs", "assert_hostname"):
            if isinstance(node.value, ast.Constant) and not node.value.value:
                found.append(f"{node.arg}={node.value.value}")
        elif isinstance(node, ast.Attribute) and node.attr in _OFF:
            found.append(node.attr)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and not node.value.value:
            names = [target.attr for target in node.targets if isinstance(target, ast.Attribute)]
            found += [f"{name} = {node.value.value}" for name in names if name in ("verify", "check_hostname")]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in _SECOND_WAYS_OUT | _FORMULA_WRITERS]
        elif isinstance(node, ast.ImportFrom) and node.module in _SECOND_WAYS_OUT | _FORMULA_WRITERS:
            found.append(str(node.module))
    return found


def test_no_line_switches_certificate_checks_off_or_goes_out_by_another_way() -> None:
    found = {
        str(path.relative_to(ROOT)): loose
        for path in (ROOT / "connector").rglob("*.py")
        if (loose := loosened(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "requests.get(url, verify=False)",
        "session.verify = False",
        "context.check_hostname = False",
        "context.verify_mode = ssl.CERT_NONE",
        "ssl._create_unverified_context()",
        "urllib3.disable_warnings()",
        "import urllib.request",
        "from http.client import HTTPSConnection",
        "import csv",
    ],
)
def test_that_search_would_find_one(line: str) -> None:
    assert loosened(line)


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from keys_of(part, f"{prefix}{name}.")


def test_the_configuration_has_no_key_that_could_mean_unverified() -> None:
    keys = set(keys_of(Config))
    assert "http.ca_bundle" in keys
    suspicious = [key for key in keys if re.search(r"insecure|verify|tls|ssl|unsafe|trust_all|http_only", key)]
    assert suspicious == []
    # The one key that sounds like it leaves out Microsoft's list of sign-in hosts, not the certificate.
    assert "sign_in.validate_authority" in keys


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return str(path)


Answering = Callable[..., Any]


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[Answering]:
    """Servers with a certificate for 127.0.0.1 that answer every request the same way and keep what they heard."""
    listeners: list[tuple[socket.socket, threading.Thread]] = []

    def start(answer: bytes, limit: Callable[[ssl.SSLContext], None] = lambda context: None) -> tuple[str, list[bytes]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        limit(context)
        listener = socket.create_server(("127.0.0.1", 0))
        heard: list[bytes] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as talk:
                    heard.append(talk.recv(65536))
                    talk.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        listeners.append((listener, thread))
        return f"https://127.0.0.1:{listener.getsockname()[1]}", heard

    yield start
    for listener, thread in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


def moved(status: int, where: str) -> bytes:
    head = f"HTTP/1.1 {status} Moved\r\nLocation: {where}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    return head.encode()


def test_a_server_whose_authority_is_not_trusted_hears_nothing(tls_server: Answering, bundle: str) -> None:
    url, heard = tls_server(OK)
    with pytest.raises(Transient, match="not trusted"):
        make_transport(FakeClock(), origin=Origin(url), session=make_session()).read("GET", "x", operation="read")
    assert heard == []
    session = make_session(ca_bundle=bundle)
    assert (
        make_transport(FakeClock(), origin=Origin(url), session=session).read("GET", "x", operation="read").json() == {}
    )


def test_a_certificate_for_another_name_is_refused(tls_server: Answering, bundle: str) -> None:
    url, heard = tls_server(OK)
    origin = Origin(url.replace("127.0.0.1", "localhost"))
    with pytest.raises(Transient):
        make_transport(FakeClock(), origin=origin, session=make_session(ca_bundle=bundle)).read(
            "GET", "x", operation="r"
        )
    assert heard == []


@pytest.mark.parametrize("name", ["PYTHONHTTPSVERIFY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("value", ["", "0", "false"])
def test_no_variable_of_the_environment_switches_the_check_off(
    name: str, value: str, tls_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, heard = tls_server(OK)
    monkeypatch.setenv(name, value)
    with pytest.raises((ConnectorError, OSError)):
        make_transport(FakeClock(), origin=Origin(url), session=make_session()).read("GET", "x", operation="read")
    assert heard == []


def test_nothing_older_than_tls_1_2_is_spoken(tls_server: Answering, bundle: str) -> None:
    def old_only(context: ssl.SSLContext) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1

    url, heard = tls_server(OK, old_only)
    with pytest.raises(ConnectorError):
        make_transport(FakeClock(), origin=Origin(url), session=make_session(ca_bundle=bundle)).read(
            "GET", "x", operation="read"
        )
    assert heard == []
    # The same server does answer who is content with less, where the machine's library still can.
    loose = ssl.create_default_context(cafile=bundle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loose.set_ciphers("ALL:@SECLEVEL=0")
        loose.minimum_version = ssl.TLSVersion.TLSv1
    try:
        with (
            socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as plain,
            loose.wrap_socket(plain, server_hostname="127.0.0.1") as talk,
        ):
            assert talk.version() in ("TLSv1", "TLSv1.1")
    except ssl.SSLError:
        pytest.skip("left out: this machine's TLS library has no version below 1.2 to compare with")


# --- the token stays where it belongs --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("write", [False, True])
def test_a_redirect_never_carries_the_token_to_another_server(
    status: int, write: bool, tls_server: Answering, bundle: str
) -> None:
    other, heard_by_other = tls_server(OK)
    url, heard = tls_server(moved(status, other))
    transport = make_transport(FakeClock(), origin=Origin(url), session=make_session(ca_bundle=bundle))
    with pytest.raises(ConnectorError):
        if write:
            transport.write("PATCH", "x", operation="write", body=b"{}")
        else:
            transport.read("GET", "x", operation="read")
    assert [b"Authorization: Bearer token-1" in request for request in heard] == [True]
    assert heard_by_other == []


def test_a_link_to_another_server_is_not_followed(tls_server: Answering, bundle: str) -> None:
    other, heard_by_other = tls_server(OK)
    url, _ = tls_server(OK)
    transport = make_transport(FakeClock(), origin=Origin(url), session=make_session(ca_bundle=bundle))
    with pytest.raises(ProtocolError):
        transport.read("GET", f"{other}/x", operation="follow")
    assert heard_by_other == []


@pytest.mark.parametrize("status", [302, 307])
def test_a_sign_in_service_that_redirects_does_not_pass_the_secret_on(
    status: int, tls_server: Answering, bundle: str
) -> None:
    other, heard_by_other = tls_server(OK)
    url, heard = tls_server(moved(status, other))
    tokens = MsalTokenSource(
        authority=url,
        tenant="t",
        client_id="c",
        credential=ClientSecret(SecretStr("planted-client-secret")),
        scope="https://contoso.crm.dynamics.com/.default",
        http_client=make_session(ca_bundle=bundle),
        clock=FakeClock(),
        validate_authority=False,
    )
    with pytest.raises((AuthError, Transient)) as caught:
        tokens.token()
    assert heard
    assert heard_by_other == []
    assert "planted-client-secret" not in str(caught.value)


def test_a_proxy_of_the_environment_is_used_and_never_sees_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        transport = make_transport(FakeClock(), session=make_session(), settings=TransportSettings(attempts=1))
        with pytest.raises(ConnectorError):
            transport.read("GET", "x", operation="read")
        thread.join(timeout=5)
    assert heard[0].startswith(b"CONNECT contoso.crm.dynamics.com:443 ")
    assert b"uthorization" not in heard[0]


@responses.activate
def test_what_a_service_echoes_is_masked_in_every_field_of_the_error() -> None:
    echo = "Bearer planted-token-0123 client_secret=planted-secret"
    error = {"error": {"code": echo, "message": echo}}
    kind, whole = multipart([(400, {"x-ms-service-request-id": echo}, json.dumps(error))])
    responses.post(f"{API}/$batch", body=whole, content_type=kind)
    responses.patch(f"{API}/accounts(1)", status=400, json=error, headers={"x-ms-service-request-id": echo})
    client = DataverseClient(make_transport(FakeClock()))
    for ask in (
        lambda: client.get_many(["accounts"], operation="read"),
        lambda: client.patch("accounts(1)", 'W/"1"', {}, operation="write", kind="PATCH accounts"),
    ):
        with pytest.raises(Rejected) as caught:
            ask()
        told = f"{caught.value} {vars(caught.value)}"
        assert "***" in told
        assert "planted" not in told


# --- files are their owner's -----------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="left out: file modes of POSIX")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def config_file(rehearsal: Rehearsal, directory: Path, **more: Any) -> Path:
    """A rehearsal's configuration as a file, for the command line."""
    config = rehearsal.config
    secret = directory / "secret"
    secret.touch(mode=0o600)
    secret.write_text(rehearsal.sandbox.sign_in.client_secret, encoding="utf-8")
    settings: dict[str, Any] = {
        "dataverse": {"url": config.dataverse.url},
        "partner_center": {"url": config.partner_center.url},
        "sign_in": {
            "authority": config.sign_in.authority,
            "tenant_id": config.sign_in.tenant_id,
            "client_id": config.sign_in.client_id,
            "client_secret": "file:secret",
            "validate_authority": False,
            "partner_center": {"scope": f"{config.partner_center.url}/.default"},
        },
        "http": {"ca_bundle": str(config.http.ca_bundle)},
        "state": {"directory": "state"},
        "run": {"report_directory": "reports"},
        **more,
    }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@posix
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_whatever_the_umask_what_linksub_writes_is_its_owners_alone(mask: int, tmp_path: Path) -> None:
    scenario = load_scenario(builtin_directory() / "new_york_grows.yaml")
    with Rehearsal(scenario) as rehearsal, umask(mask):
        config = config_file(rehearsal, tmp_path)
        rehearsal.sandbox.perform(scenario.steps[0])
        assert command_line(["--config", str(config), "plan", "--out", str(tmp_path / "plan.json"), "-q"]) == 0
        assert command_line(["--config", str(config), "run", "-q"]) == 0
        assert command_line(["--config", str(config), "journal", "export", str(tmp_path / "export.jsonl")]) == 0
        assert command_line(["init", str(tmp_path / "fresh.yaml")]) == 0
    made = [tmp_path / "plan.json", tmp_path / "export.jsonl", tmp_path / "fresh.yaml"]
    for directory in (tmp_path / "state", tmp_path / "reports"):
        assert directory.stat().st_mode & 0o777 == 0o700
        inside = list(directory.iterdir())
        assert inside
        made += inside
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in made} == {path.name: "0o600" for path in made}


@posix
def test_a_state_directory_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    with pytest.raises(ConfigError, match="everybody on this machine") as caught:
        open_journal(state / "journal.sqlite3", now=START)
    assert "chmod 700" in str(caught.value.hint)
    state.chmod(0o755)
    open_journal(state / "journal.sqlite3", now=START).close()


MINIMAL = """
dataverse: {url: https://contoso.crm.dynamics.com}
sign_in: {tenant_id: t, client_id: c, %s}
"""


@posix
@pytest.mark.parametrize(
    ("credential", "mode", "said"),
    [
        ("client_secret: file:key.pem", 0o644, "can be read by everybody"),
        ("client_secret: file:key.pem", 0o602, "can be changed by everybody"),
        ("certificate: {path: key.pem}", 0o644, "can be read by everybody"),
        ("certificate: {path: key.pem}", 0o666, "can be read by everybody"),
    ],
)
def test_a_secret_or_private_key_that_is_open_to_everybody_is_refused(
    credential: str, mode: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key.pem"
    key.write_text("planted-secret", encoding="utf-8")
    config = tmp_path / "config.yaml"
    config.write_text(MINIMAL % credential, encoding="utf-8")
    key.chmod(mode)
    assert command_line(["--config", str(config), "run"]) == 78
    err = capsys.readouterr().err
    assert said in err
    assert "chmod 600" in err
    assert "planted-secret" not in err


# --- YAML that explodes ----------------------------------------------------------------------------------------------

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)
)
BAD_YAML = {
    "aliases without bound": BOMB,
    "aliases without bound, as keys of a list": BOMB.replace("a9:", "accounts:"),
    "an alias of itself": "accounts: &x [*x]",
    "an object of Python": "accounts: !!python/object/apply:os.system ['exit 1']",
    "a module of Python": "accounts: !!python/module:os",
    "a name of Python": "accounts: !!python/name:os.system",
    "an unknown tag": "accounts: !secret x",
    "a key twice": "name: a\nname: b",
    "a key twice, deeper": "tables: {a: {b: 1, b: 2}}\naccounts: [{id: a, id: b}]",
    "nested too deep": "accounts: " + "[" * 1000 + "]" * 1000,
    "two documents": "name: a\n---\nname: b\n",
    "a control character": "name: \x07",
}


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_bad_yaml_is_refused_as_a_configuration_a_mapping_and_a_scenario(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        assert read_document(path).problems
    except ConfigError as error:
        assert error.problems
    with pytest.raises(ConfigError) as refused:
        load_mapping(path)
    assert refused.value.problems
    with pytest.raises(ScenarioError):
        parse_scenario(text)
    assert command_line(["--config", str(path), "run"]) == 78


def test_aliases_that_stay_small_are_welcome() -> None:
    scenario = parse_scenario("accounts: [&a {id: a, name: A}]\npolicy: {}\nsteps: []\ncontracts: []\n")
    assert [account.id for account in scenario.accounts] == ["a"]


# --- the least rights ------------------------------------------------------------------------------------------------

EVERY_PRIVILEGE = ("Create", "Read", "Write", "Delete", "Append", "AppendTo", "Assign", "Share")
GRANTED = {(privilege, table) for table, privileges in ROLE["privileges"].items() for privilege in privileges}
WHOLE_RUNS = (
    "new_york_grows",
    "provider_refuses",
    "addon_after_base",
    "price_list_over_default",
    "scheduled_change_survives",
    "kill_switch_in_the_crm",
    "do_not_refund",
)


class Asked(set[tuple[str, str]]):
    """What a role denies, which also remembers what was asked for."""

    def __init__(self, denied: set[tuple[str, str]]) -> None:
        super().__init__(denied)
        self.demands: set[tuple[str, str]] = set()

    def __contains__(self, demand: object) -> bool:
        assert isinstance(demand, tuple)
        self.demands.add(demand)
        return super().__contains__(demand)


def only_with(rehearsal: Rehearsal, granted: set[tuple[str, str]]) -> Asked:
    tables = rehearsal.sandbox.store.schema.tables
    asked = Asked({(privilege, table) for privilege in EVERY_PRIVILEGE for table in tables} - granted)
    rehearsal.sandbox.dataverse.options.denied = asked
    return asked


def test_the_role_names_tables_and_columns_of_the_mapping_and_reads_or_writes_only() -> None:
    mapping = load_mapping("work365")
    tables = {table.logical_name: table for table in mapping.tables.values()}
    assert set(ROLE["privileges"]) | set(ROLE["definition_only"]) == set(tables)
    assert not set(ROLE["privileges"]) & set(ROLE["definition_only"])
    assert {privilege for privilege, _ in GRANTED} == {"Read", "Write"}
    assert {table for privilege, table in GRANTED if privilege == "Write"} == set(ROLE["written_columns"])
    for table, columns in ROLE["written_columns"].items():
        assert set(columns) <= {column.column for column in tables[table].columns.values()}


def test_whole_runs_need_exactly_what_the_role_grants_and_write_only_the_columns_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demands: set[tuple[str, str]] = set()
    written: dict[str, set[str]] = {}
    checks: set[object] = set()
    send = HTTPAdapter.send

    def watched(self: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        checks.add(options["verify"])
        for entity_set, values in patches_in(request):
            written.setdefault(entity_set, set()).update(values)
        return send(self, request, *args, **options)

    monkeypatch.setattr(HTTPAdapter, "send", watched)
    bundles = set()
    for name in WHOLE_RUNS:
        with Rehearsal(load_scenario(builtin_directory() / f"{name}.yaml")) as rehearsal:
            asked = only_with(rehearsal, GRANTED)
            bundles.add(str(rehearsal.config.http.ca_bundle))
            assert rehearsal.play().differences == [], name
            demands |= asked.demands
    assert demands == GRANTED
    assert written == {f"{table}s": set(columns) for table, columns in ROLE["written_columns"].items()}
    assert checks == bundles  # every request of every run was verified, against the sandbox's own authority


def patches_in(request: requests.PreparedRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    """(entity set, values) of each PATCH to Dataverse in a request, single or in a batch."""
    url, body = str(request.url), request.body or b""
    if "/api/data/" not in url:
        return
    text = body.decode("utf-8") if isinstance(body, bytes) else str(body)
    if request.method == "PATCH":
        yield url.rsplit("/", 1)[1].partition("(")[0], json.loads(text)
    for path, values in re.findall(r"\r\nPATCH (\S+) HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)", text):
        yield path.rsplit("/", 1)[1].partition("(")[0], json.loads(values)


@pytest.mark.parametrize("missing", sorted(GRANTED))
def test_without_one_of_its_rights_a_run_says_so_and_buys_nothing(missing: tuple[str, str]) -> None:
    scenario = load_scenario(builtin_directory() / "new_york_grows.yaml")
    with Rehearsal(scenario) as rehearsal:
        only_with(rehearsal, GRANTED - {missing})
        rehearsal.sandbox.perform(scenario.steps[0])
        code = rehearsal.run(RunStep())
        result = rehearsal.results[-1]
        told = json.dumps([str(result.error), [outcome.reason for outcome in result.outcomes]])
        bought = rehearsal.sandbox.trace.applied("partner_center")
        only_with(rehearsal, GRANTED)
        assert rehearsal.run(RunStep()) == 0, "with the right it goes on"
        in_the_end = rehearsal.sandbox.trace.applied("partner_center")
    assert code != 0
    assert re.search(rf"prv{missing[0]}", told), told
    # The right to write logs is asked for last, after the purchase: it cannot be told before.
    assert bought == (1 if missing == ("Write", "work365_licensechangelog") else 0)
    assert in_the_end == 1


def test_a_plan_needs_no_right_to_write() -> None:
    scenario = load_scenario(builtin_directory() / "new_york_grows.yaml")
    with Rehearsal(scenario) as rehearsal:
        only_with(rehearsal, {(privilege, table) for privilege, table in GRANTED if privilege == "Read"})
        rehearsal.sandbox.perform(scenario.steps[0])
        assert rehearsal.run(RunStep(dry_run=True)) == 0
        assert rehearsal.results[-1].plan.seats_added == 10
