"""The composition root: the only module that sees both the pass (``sync``) and the edges.

``connect`` turns a configuration into everything that a pass needs; ``run_once`` runs one pass with it. Clock and session
observer come from the caller, so that a rehearsal can lend its own time and end the process where it likes.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from time import sleep as really_sleep
from uuid import uuid4

import requests

from connector import __version__
from connector.config import resolve_secret, resolve_url
from connector.crm.meanings import classify_dataverse, parse_dataverse_error
from connector.crm.repository import DataverseCrm
from connector.crm.repository import DataverseCrm
from connector.domain.model import SubscriptionId
from connector.domain.rules.builtin import BUILTIN
from connector.domain.rules.registry import Rule, RuleBook
from connector.domain.saved import SavedPlan
from connector.errors import ConfigError, ConnectorError, JournalError, Transient
from connector.http.auth import (
    ClientCertificate,
    ClientSecret,
    Credential,
    ManagedIdentity,
    MsalTokenSource,
    TokenSource,
)
from connector.http.clock import ServiceClock
from connector.http.counter import RequestCounter
from connector.http.gate import RateGate
from connector.http.origin import Origin
from connector.http.redaction import redact, register_secrets
from connector.http.retry import Again, RetryPolicy
from connector.http.session import Observer, make_session
from connector.http.transport import Transport, TransportSettings
from connector.journal import Holder, MemoryJournal, SqlJournal, hold_run_lock, open_journal, open_rehearsal
from connector.mapping import load_mapping
from connector.precautions import precautions
from connector.providers.plugin import RemoteService
from connector.providers.registry import connect_plugins, load_plugins
from connector.report.document import run_document
from connector.report.file import report_path, write_report
from connector.settings import Config, SignInSection
from connector.sync.families import mistake
from connector.sync.outcome import Progress, RunResult
from connector.sync.ports import Clock, ProviderHandle, RunInfo
from connector.sync.run import Pass, RunOptions
from connector.sync.stopping import StopRequest

logger = logging.getLogger(__name__)

RULE_GROUP = "linksub.rules"
"""Entry point group through which another package adds rules: each entry is a :class:`Rule` or an iterable of them."""


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait for real."""
        really_sleep(seconds)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the caller asks of one pass. ``only`` is the id of a parent or child; ``parallel`` wins over the file."""

    dry_run: bool = False
    only: str | None = None
    command: str = "run"
    parallel: int | None = None
    keep_inputs: bool = False
    """Let the result carry what a plan file needs."""
    saved: SavedPlan | None = None
    """Apply exactly this plan."""
    allow: Mapping[str, str] = field(default_factory=dict)
    """Limit → what is allowed for this run only."""


class Connection:
    """Everything that talks to the outside, for the time of one run. Also the ``ProviderServices`` of plug-ins."""

    def __init__(self, config: Config, clock: Clock, observer: Observer | None = None) -> None:
        self.config = config
        self.counter = RequestCounter()
        self.stop_before: datetime | None = None
        self._clock = ServiceClock(clock, observer)
        bundle = config.http.ca_bundle
        self.session: requests.Session = make_session(
            ca_bundle=str(bundle) if bundle is not None else None,
            pool_size=max(config.run.parallel, config.http.dataverse_parallel) + 2,
            observer=self._clock,
        )
        self._tokens: dict[tuple[str, bool], TokenSource] = {}

    def clock(self) -> Clock:
        """Time as the run sees it."""
        return self._clock

    def sign_in(self) -> None:
        """Sign in for Dataverse, which also sets the run's clock; its deadline counts from here. Raises AuthError.

        A passing fault of the sign-in service is waited out here: nothing can be in hand yet.
        """
        tokens = self._token_source(f"{self.config.dataverse.url}/.default", for_provider=False)

        def attempt(number: int) -> str:
            try:
                return tokens.token()
            except Transient as error:
                raise Again(error, reason=str(error), wait=error.retry_after) from error

        deadline = self._clock.now() + self.config.run.deadline
        RetryPolicy(self._clock, attempts=self.config.http.attempts).run(attempt, stop_before=deadline)
        self.stop_before = self._clock.now() + self.config.run.deadline

    def open_transport(self, service: RemoteService) -> Transport:
        """Requests to a provider's service with origin guard, sign-in, retry and rate gate."""
        return Transport(
            service=service.name,
            origin=Origin(service.base_url),
            session=self.session,
            auth=self._token_source(service.scope, for_provider=True),
            gate=RateGate(
                self._clock, concurrency=self.config.run.parallel, requests_per_minute=service.requests_per_minute
            ),
            clock=self._clock,
            counter=self.counter,
            settings=self._transport_settings(),
            parse_error=service.parse_error,
            classify=service.classify,
            correlation_header=service.correlation_header,
            stop_before=self.stop_before,
        )

    def dataverse(self) -> Transport:
        """Requests to the Dataverse Web API of the configured environment."""
        section = self.config.dataverse
        return Transport(
            service="dataverse",
            origin=Origin(f"{section.url}/api/data/{section.api_version}/"),
            session=self.session,
            auth=self._token_source(f"{section.url}/.default", for_provider=False),
            gate=RateGate(self._clock, concurrency=self.config.http.dataverse_parallel),
            clock=self._clock,
            counter=self.counter,
            settings=self._transport_settings(),
            parse_error=parse_dataverse_error,
            classify=classify_dataverse,
            stop_before=self.stop_before,
        )

    def providers(self) -> Mapping[str, ProviderHandle]:
        """Every provider plug-in, connected. Raises ConfigError."""
        section, sign_in = self.config.partner_center, self.config.sign_in
        settings: dict[str, object] = {
            "base_url": section.url,
            "requests_per_minute": self.config.http.partner_center_per_minute,
        }
        if sign_in.partner_center is not None and sign_in.partner_center.scope is not None:
            settings["scope"] = sign_in.partner_center.scope
        return connect_plugins(load_plugins(), {"partner_center": settings}, self)

    def requests(self) -> Mapping[str, Mapping[str, int]]:
        """Requests made so far: service → kind → count."""
        counts: dict[str, dict[str, int]] = {}
        for (service, kind), count in sorted(self.counter.counts().items()):
            counts.setdefault(service, {})[kind] = count
        return counts

    def _token_source(self, scope: str, *, for_provider: bool) -> TokenSource:
        """The identity for one scope, shared so that a run signs in once for each."""
        key = (scope, for_provider)
        if key not in self._tokens:
            sign_in = self.config.sign_in
            other = sign_in.partner_center if for_provider else None
            self._tokens[key] = MsalTokenSource(
                authority=sign_in.authority,
                tenant=(other.tenant_id if other else None) or sign_in.tenant_id,
                client_id=(other.client_id if other else None) or sign_in.client_id or "",
                credential=_credential(sign_in, for_provider=for_provider),
                scope=scope,
                http_client=self.session,
                clock=self._clock,
                validate_authority=sign_in.validate_authority,
                counter=self.counter,
            )
        return self._tokens[key]

    def _transport_settings(self) -> TransportSettings:
        http = self.config.http
        return TransportSettings(
            connect_timeout=http.connect_timeout.total_seconds(),
            read_timeout=http.read_timeout.total_seconds(),
            max_bytes=http.max_response_mb * 1024 * 1024,
            attempts=http.attempts,
        )


def _credential(sign_in: SignInSection, *, for_provider: bool) -> Credential:
    other = sign_in.partner_center if for_provider else None
    reference = (other.client_secret if other else None) or sign_in.client_secret
    if reference is not None:
        secret = resolve_secret(reference)
        register_secrets([secret])
        return ClientSecret(secret)
    if sign_in.certificate is not None:
        passphrase = resolve_secret(sign_in.certificate.passphrase) if sign_in.certificate.passphrase else None
        if passphrase is not None:
            register_secrets([passphrase])
        return ClientCertificate(sign_in.certificate.path, passphrase)
    return ManagedIdentity(sign_in.client_id)


def rule_book() -> RuleBook:
    """The rules that ship and those that installed packages add. Raises ConfigError for a broken or clashing one."""
    rules: list[Rule] = []
    for entry in sorted(metadata.entry_points(group=RULE_GROUP), key=lambda entry: (entry.name, entry.value)):
        try:
            found = entry.load()
            rules.extend([found] if isinstance(found, Rule) else list(found))
        except Exception as error:  # somebody else's module may fail in any way while it is imported
            raise ConfigError(
                f"the rules of {entry.name} = {entry.value} cannot be loaded ({type(error).__name__}: {error})",
                hint="remove or repair the package that brings them (pip list)",
            ) from error
    strangers = [rule for rule in rules if not isinstance(rule, Rule)]
    if strangers:
        raise ConfigError(f"{strangers[0]!r} is registered as a rule and is none")
    try:
        return BUILTIN.extended(rules)
    except ValueError as error:
        raise ConfigError(str(error), hint="two packages register the same rule id; remove one") from error


__all__ = ["Connection", "RunRequest", "StopRequest", "redact", "rule_book", "run_once"]


def operator() -> str:
    """Who runs this: ``user@host``, for the audit trail."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        user = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def run_once(
    config: Config,
    request: RunRequest,
    *,
    clock: Clock | None = None,
    observer: Observer | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> RunResult:
    """One pass, from lock to report. Errors that end it early come back in the result.

    Once ``stop`` is asked for, the families in hand are finished and no other is started.
    """
    run_id = uuid4().hex
    try:
        result = _run(config, request, run_id, clock, observer, progress, stop or StopRequest())
    except Exception as error:
        now = (clock or SystemClock()).now()
        _leave_report(config, request, RunResult.ended_early(run_id, now, now, mistake(error), request.dry_run, {}))
        raise
    _leave_report(config, request, result)
    return result


def _leave_report(config: Config, request: RunRequest, result: RunResult) -> None:
    """Write ``run.report_directory``'s file. That it cannot be written is said, and changes nothing about the run."""
    if config.run.report_directory is None or request.dry_run:
        return
    path = report_path(config.run.report_directory, result.run_id, result.started_at)
    try:
        write_report(path, run_document(result, request.command))
    except OSError as error:
        logger.error("the report %s cannot be written: %s", path, error)
    else:
        logger.info("report: %s", path)


def _run(
    config: Config,
    request: RunRequest,
    run_id: str,
    clock: Clock | None,
    observer: Observer | None,
    progress: Progress | None,
    stop: StopRequest,
) -> RunResult:
    connection = Connection(config, clock or SystemClock(), observer)
    time = connection.clock()
    started = time.now()
    try:
        mapping = load_mapping(config.mapping)
        guards = precautions(config, mapping, operator(), request.saved, request.allow)
        rules = rule_book()
        connection.sign_in()
        started = time.now()
        providers = connection.providers()
        with _journal(config, request, run_id, time) as journal:
            crm = DataverseCrm(
                connection.dataverse(),
                mapping,
                clock=time,
                time_zone=config.policy.time_zone,
                memory=journal,
                count_linked=guards.limits is not None and guards.limits.source_shrunk_percent is not None,
            )
            options = RunOptions(
                dry_run=request.dry_run,
                only=SubscriptionId(request.only.lower()) if request.only else None,
                parallel=request.parallel or config.run.parallel,
                lease_seconds=config.run.lease.total_seconds(),
                stop_before=connection.stop_before,
                stop=stop,
                keep_inputs=request.keep_inputs,
            )
            if not request.dry_run:
                journal.begin_run(RunInfo(run_id, operator(), request.command, started, __version__))
                # The lock of this state directory is ours, so whoever held a lease from here is dead.
                journal.drop_leases(started, _place(config))
            work = Pass(
                run_id,
                f"{_place(config)}{run_id}",
                crm,
                providers,
                journal,
                time,
                config.policy,
                rules,
                options,
                progress or Progress(),
                guards,
            )
            result = replace(work.run(), requests=connection.requests())
            return result if request.dry_run else _record(journal, result, request)
    except ConnectorError as error:
        return RunResult.ended_early(run_id, started, time.now(), error, request.dry_run, connection.requests())
    finally:
        connection.session.close()


def _record(journal: SqlJournal | MemoryJournal, result: RunResult, request: RunRequest) -> RunResult:
    """Keep how the run ended in the journal; if even that cannot be written, the result says so."""
    try:
        report = run_document(result, request.command)
        journal.end_run(result.run_id, result.finished_at, int(result.exit_code), report)
    except JournalError as error:
        return result if isinstance(result.error, JournalError) else replace(result, error=error)
    return result


def _place(config: Config) -> str:
    """Prefix of the lease holders of this host and state directory."""
    return f"{socket.gethostname()}:{config.state.directory.resolve()} run "


@contextmanager
def _journal(config: Config, request: RunRequest, run_id: str, clock: Clock) -> Iterator[SqlJournal | MemoryJournal]:
    """The journal of a run: under the host's lock for a real one, a copy in memory for a dry one."""
    directory = config.state.directory
    url = resolve_url(config.state.url) if config.state.url is not None else None
    if request.dry_run:
        with open_rehearsal(url or directory / "journal.sqlite3", now=clock.now()) as journal:
            yield journal
        return
    with ExitStack() as stack:
        holder = Holder(run_id, socket.gethostname(), os.getpid(), request.command, clock.now())
        stack.enter_context(hold_run_lock(directory, holder))
        yield stack.enter_context(open_journal(url or directory / "journal.sqlite3", now=clock.now()))
