"""The configuration: every problem at once, secrets by reference only, an example that is complete."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator
from datetime import time, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from connector.config import Config, SecretRef, example_text, load_config, resolve_secret
from connector.document import parse_document
from connector.errors import ConfigError
from connector.settings import (
    DataverseSection,
    SignInSection,
    parse_database_url,
    parse_duration,
    parse_https_url,
)

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = """
dataverse: {url: https://contoso.crm4.dynamics.com}
sign_in: {tenant_id: contoso.com, client_id: app, client_secret: env:SECRET}
"""
ENVIRON = {"SECRET": "planted-value", "LINKSUB_CLIENT_SECRET": "x"}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), environ=ENVIRON)
    assert caught.value.problems
    return caught.value.problems


def only_problem(tmp_path: Path, text: str) -> str:
    (problem,) = problems_of(tmp_path, text)
    return problem


def test_a_minimal_configuration_gets_careful_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), environ=ENVIRON)
    assert config.dataverse.url == "https://contoso.crm4.dynamics.com"
    assert config.partner_center.url == "https://api.partnercenter.microsoft.com"
    assert config.state.directory == tmp_path / ".linksub"
    assert (config.run.deadline, config.run.lease) == (timedelta(minutes=30), timedelta(minutes=10))
    assert config.policy.provider_drift == "hold"
    assert config.policy.limits.parents_changed == 2500
    assert config.source == tmp_path / "config.yaml"


def test_the_example_loads_and_says_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, example_text()), environ=ENVIRON)
    defaults = load_config(write(tmp_path, MINIMAL), environ=ENVIRON)
    for section in ("partner_center", "mapping", "state", "http", "run", "log", "policy"):
        assert getattr(config, section) == getattr(defaults, section), section


def test_the_example_at_the_root_is_the_one_that_ships() -> None:
    assert (ROOT / "config.example.yaml").read_text(encoding="utf-8") == example_text()


def fields_of(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        for kind in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields_of(kind, (*above, name))


@pytest.mark.parametrize("key", list(fields_of(Config)), ids=".".join)
def test_the_example_explains_every_key(key: tuple[str, ...]) -> None:
    data: object = yaml.safe_load(_with_commented_sections(example_text()))
    for part in key:
        assert isinstance(data, dict)
        assert part in data, f"{'.'.join(key)} is missing in config.example.yaml"
        # Entries of a table by part number are shown as comments under a name of their own.
        data = next(iter(data["products_example"].values())) if part == "products" and len(key) > 2 else data[part]


def _with_commented_sections(text: str) -> str:
    """The example with its commented-out keys (``  # key: …``) put to work."""
    lines = text.splitlines()
    keys = ("certificate", "path", "passphrase", "partner_center", "tenant_id", "client_id", "client_secret", "scope")
    inside = False
    for index, line in enumerate(lines):
        inside = line.startswith("  # products_example:") or (inside and line.startswith("  #  "))
        if inside:
            lines[index] = line.replace("# ", "", 1)
            continue
        body = line.lstrip().removeprefix("# ")
        if line.startswith("  # ") and body.split(":")[0].strip() in keys:
            lines[index] = line.replace("# ", "", 1)
    return "\n".join(lines)


def test_every_key_of_the_code_has_a_meaning_written_down() -> None:
    def silent(model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            kinds = (field.annotation, *typing.get_args(field.annotation))
            inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
            if not field.description:
                yield f"{model.__name__}.{name}"
            for kind in inner:
                if kind.__module__ == "connector.settings":
                    yield from silent(kind)

    assert list(silent(Config)) == []


def test_every_problem_is_told_at_once_with_line_key_and_remedy(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        """
dataverse:
  url: http://contoso.crm4.dynamics.com
  api_versoin: v9.2
sign_in:
  tenant_id: contoso.com
  client_secret: planted-literal
  certificate: {path: nope.pem}
http: {attempts: 0, read_timeout: 60}
polcy: {}
policy: {decreases: maybe, limits: {seats_aded: 5}}
""",
    )
    text = "\n".join(found)
    config = tmp_path / "config.yaml"
    assert f"{config}:3: dataverse.url: must start with https://" in text
    assert f"{config}:4: dataverse.api_versoin: unknown key - did you mean api_version?" in text
    assert f"{config}:5: sign_in: names more than one credential (client_secret, certificate) - keep one" in text
    assert f"{config}:5: sign_in: has no client_id" in text
    assert f"{config}:7: sign_in.client_secret: not a reference - secrets only by reference" in text
    assert f"{config}:8: sign_in.certificate.path: no such file: {tmp_path / 'nope.pem'}" in text
    assert f"{config}:9: http.attempts:" in text
    assert f"{config}:9: http.read_timeout: not a time span - write a whole number and a unit" in text
    assert f"{config}:10: polcy: unknown key - did you mean policy?" in text
    assert f"{config}:11: policy.decreases:" in text
    assert f"{config}:11: policy.limits.seats_aded: unknown key - did you mean seats_added?" in text
    assert len(found) == 11
    assert "planted-literal" not in text


def test_an_empty_file_names_what_is_missing(tmp_path: Path) -> None:
    text = "\n".join(problems_of(tmp_path, "# nothing yet\n"))
    assert "dataverse: is missing" in text
    assert "sign_in: is missing" in text


def test_a_section_that_is_commented_out_is_empty_not_wrong(tmp_path: Path) -> None:
    load_config(write(tmp_path, MINIMAL + "run:\nstate:\npolicy:\n"), environ=ENVIRON)


def test_a_key_given_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, MINIMAL + "run: {parallel: 2}\nlog: {}\nrun: {parallel: 3}\n")
    assert ":6: run: is given twice - it stands on line 4 too" in problem


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: b: c",
        "\ta: 1",
        "- 1\n- 2",
        "just text",
        "a: !!python/object/apply:os.system [echo]",
        "? [1, 2]\n: 3",
        "a: 1\n---\nb: 2\n",
        "a: \x07",
        "[" * 500 + "]" * 500,
        "a: &x [*x]",
    ],
)
def test_what_is_not_a_configuration_ends_in_a_sentence(tmp_path: Path, text: str) -> None:
    assert problems_of(tmp_path, text)


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases (*) expand too far" in only_problem(tmp_path, "\n".join(lines))


def test_a_broken_line_is_never_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "sign_in:\n  client_secret: 'planted-literal\n  x: ]"), environ=ENVIRON)
    assert "planted-literal" not in "".join((str(caught.value), *caught.value.problems))


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"schema_version: 1\nname: \xff\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert ":2: is not UTF-8 text" in caught.value.problems[0]


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not found"):
        load_config(tmp_path / "nowhere.yaml")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fall_over(raw: bytes) -> None:
    try:
        parse_document(raw, "any.yaml")
    except ConfigError as error:
        assert error.problems


def test_clock_times_without_quotes_mean_what_they_say(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, MINIMAL + "policy: {decrease_time: 23:30, increase_time: 00:05}\n"), environ=ENVIRON
    )
    assert (config.policy.decrease_time, config.policy.increase_time) == (time(23, 30), time(0, 5))


def test_a_bare_number_is_not_a_clock_time(tmp_path: Path) -> None:
    assert "write it as 23:30" in only_problem(tmp_path, MINIMAL + "policy: {decrease_time: 2330}\n")


@pytest.mark.parametrize(
    "extra", ["http: {attempts: true}", "run: {parallel: '4'}", "schema_version: 2", "log: {level: loud}"]
)
def test_values_are_not_bent_into_shape(tmp_path: Path, extra: str) -> None:
    only_problem(tmp_path, MINIMAL + extra + "\n")


def test_a_lease_shorter_than_a_request_is_refused(tmp_path: Path) -> None:
    assert "run.lease must be longer" in only_problem(tmp_path, MINIMAL + "run: {lease: 60s}\n")


def test_paths_start_at_the_file_wherever_linksub_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.yaml").write_text("x", encoding="utf-8")
    (tmp_path / "ca.pem").write_text("x", encoding="utf-8")
    path = write(tmp_path, MINIMAL + "mapping: ./my.yaml\nstate: {directory: st}\nhttp: {ca_bundle: ca.pem}\n")
    monkeypatch.chdir("/")
    config = load_config(path, environ=ENVIRON)
    assert Path(config.mapping) == tmp_path / "my.yaml"
    assert config.state.directory == tmp_path / "st"
    assert config.http.ca_bundle == tmp_path / "ca.pem"


# --- secrets ---------------------------------------------------------------------------------------------------------


def with_secret(reference: str) -> str:
    return MINIMAL.replace("env:SECRET", reference)


@pytest.mark.parametrize("literal", ["hunter2", "12345", "'vault:x'", "[a]", "'env:'", "'env:has space'", "'file:'"])
def test_a_literal_secret_is_refused_and_not_repeated(tmp_path: Path, literal: str) -> None:
    problem = only_problem(tmp_path, with_secret(literal))
    assert "sign_in.client_secret" in problem
    assert "hunter2" not in problem
    assert "12345" not in problem


def test_a_key_vault_reference_is_refused_in_plain_words(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, with_secret("keyvault:https://v/secrets/s"))
    assert "this build has no key vault support - use env:NAME or file:PATH" in problem


def test_a_variable_that_is_not_set_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, with_secret("env:NOT_THERE"))
    assert "the environment variable NOT_THERE is not set - export it" in problem
    load_config(write(tmp_path, with_secret("env:NOT_THERE")), environ={}, check_secrets=False)


def test_a_secret_from_a_file_is_read_late_and_without_its_line_end(tmp_path: Path) -> None:
    secret = tmp_path / "client.secret"
    secret.write_text("planted-value\n", encoding="utf-8")
    secret.chmod(0o600)
    config = load_config(write(tmp_path, with_secret("file:client.secret")))
    assert config.sign_in.client_secret == SecretRef("file", str(secret))
    secret.write_text("renewed-value\n", encoding="utf-8")
    assert resolve_secret(config.sign_in.client_secret).get_secret_value() == "renewed-value"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no mode bits; access lists are the administrator's")
def test_a_secret_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "client.secret"
    secret.write_text("planted-value", encoding="utf-8")
    secret.chmod(0o644)
    problem = only_problem(tmp_path, with_secret("file:client.secret"))
    assert f"can be read by everybody on this machine - run: chmod 600 {secret}" in problem


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    secret = tmp_path / "client.secret"
    secret.write_bytes(content)
    secret.chmod(0o600)
    assert "sign_in.client_secret" in only_problem(tmp_path, with_secret("file:client.secret"))


def test_a_secret_is_nowhere_in_the_configuration(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), environ=ENVIRON)
    assert config.sign_in.client_secret is not None
    secret = resolve_secret(config.sign_in.client_secret, ENVIRON)
    assert secret.get_secret_value() == "planted-value"
    assert "planted-value" not in f"{config!r} {config.model_dump_json()} {secret!r} {secret}"


def test_resolving_a_secret_that_is_gone_names_the_reference() -> None:
    with pytest.raises(ConfigError, match="env:GONE"):
        resolve_secret(SecretRef("env", "GONE"), {})


# --- sign-in ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{tenant_id: t, client_id: a}", "names no credential"),
        ("{tenant_id: t, client_id: a, client_secret: env:SECRET, managed_identity: true}", "more than one credential"),
        ("{tenant_id: t, client_secret: env:SECRET}", "has no client_id"),
        (
            "{tenant_id: t, client_id: a, client_secret: env:SECRET, partner_center: {client_id: b}}",
            "without its client_secret",
        ),
        ("{tenant_id: 'a/b', client_id: a, client_secret: env:SECRET}", "sign_in.tenant_id"),
        ("5", "sign_in"),
    ],
)
def test_exactly_one_credential_is_named(tmp_path: Path, section: str, said: str) -> None:
    text = f"dataverse: {{url: https://contoso.crm4.dynamics.com}}\nsign_in: {section}\n"
    assert any(said in problem for problem in problems_of(tmp_path, text))


def test_a_managed_identity_needs_no_application_id() -> None:
    assert SignInSection(tenant_id="t", managed_identity=True).client_id is None


def test_sections_built_in_code_are_checked_too() -> None:
    with pytest.raises(ValidationError, match="names no credential"):
        SignInSection(tenant_id="t", client_id="a")


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("7d", 604800), ("10 m", 600)])
def test_time_spans_have_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "0s", "5", 5, "-5s", "1.5h", "5 minutes", "5M", None, True, "99999999d"])
def test_what_is_not_a_time_span_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not a time span"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("https://contoso.crm4.dynamics.com/", "https://contoso.crm4.dynamics.com"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("https://crm.contoso.com/Org", "https://crm.contoso.com/Org"),
    ],
)
def test_an_https_address_is_kept_without_its_last_slash(value: str, kept: str) -> None:
    assert parse_https_url(value) == kept


@pytest.mark.parametrize(
    "value",
    [
        "http://contoso.crm4.dynamics.com", "contoso.crm4.dynamics.com", "https://", "https:///x", "https://user:pw@contoso.com",
        "https://contoso.com@evil.example", "https://contoso.com\\@evil.example", "https://contoso.com?x=1",
        "https://contoso.com#x", "https://contoso.com/../x", "https://contoso.com:port", "https://contoso .com", " https://c.com",
        "https://contoso.crm4.dynamics.com/api/data/v9.2", "ftp://contoso.com", "https://[::1", 5, None,
    ],
)  # fmt: skip
def test_any_other_address_is_refused_without_repeating_it(value: object) -> None:
    with pytest.raises(ValueError, match=r"https|URL|address") as caught:
        parse_https_url(value)
    assert "pw" not in str(caught.value)


def test_a_database_address_may_not_hold_a_password(tmp_path: Path) -> None:
    assert parse_database_url("postgresql+psycopg://db.example/linksub") == SecretRef(
        "plain", "postgresql+psycopg://db.example/linksub"
    )
    assert parse_database_url("env:DATABASE_URL") == SecretRef("env", "DATABASE_URL")
    for refused in ("postgresql://u:planted@db/x", "postgresql://db/x?password=planted", "mysql://db/x", "sqlite:///x"):
        problem = only_problem(tmp_path, MINIMAL + f"state: {{url: '{refused}'}}\n")
        assert "state.url" in problem
        assert "planted" not in problem


# --- digest ----------------------------------------------------------------------------------------------------------


def test_the_digest_follows_what_decisions_depend_on_and_nothing_else(tmp_path: Path) -> None:
    def digest(extra: str = "", base: str = MINIMAL) -> str:
        return load_config(write(tmp_path, base + extra), environ=ENVIRON).digest()

    plain = digest()
    assert plain == digest("log: {level: debug}\nrun: {parallel: 9}\nstate: {directory: elsewhere}\n")
    assert plain == digest("policy: {netting: true}\n")
    assert plain != digest("policy: {netting: false}\n")
    assert plain != digest("policy: {limits: {seats_added: 5}}\n")
    assert plain != digest(base=MINIMAL.replace("contoso.crm4", "fabrikam.crm4"))


def test_a_configuration_cannot_be_changed_after_it_was_checked() -> None:
    section = DataverseSection(url="https://contoso.crm4.dynamics.com")
    with pytest.raises(ValidationError):
        section.url = "https://evil.example"  # type: ignore[misc]
