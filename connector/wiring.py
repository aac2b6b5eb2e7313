"""The composition root: the only module that sees both the pass (``sync``) and the edges.

``connect`` turns a configuration into everything that a pass needs; ``run_once`` runs one pass with it. What a caller lends
(:class:`Parts`: clock, observer, session, tokens, journal …) takes the place of what would be made here, so that a rehearsal
has its own time and a simulator no sockets; everything in between is put together in the same way for everybody.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib import metadata
from time import sleep as really_sleep
from typing import Protocol
from uuid import uuid4

import requests

from connector import __version__
from connector.config import resolve_secret, resolve_url
from connector.crm.meanings import classify_dataverse, parse_dataverse_error
from connector.crm.repository import DataverseCrm, Memory
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
from connector.journal import Holder, hold_run_lock, open_journal, open_rehearsal
from connector.mapping import CrmMapping, load_mapping
from connector.precautions import precautions
from connector.providers.plugin import ProviderPlugin, RemoteService
from connector.providers.registry import connect_plugins, load_plugins
from connector.report.document import run_document
from connector.report.file import report_path, write_report
from connector.settings import Config, SignInSection
from connector.sync.families import mistake
from connector.sync.outcome import Progress, RunResult
from connector.sync.ports import Clock, Journal, ProviderHandle, RunInfo
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


class RunJournal(Journal, Protocol):
    """The journal of a run: it also lets go of what a dead run of the same host held."""

    def drop_leases(self, now: datetime, holder_prefix: str = "") -> object:
        """Release the leases whose holder's name begins so."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a caller lends to a run. What is None the composition root makes itself, as for a real one."""

    clock: Clock | None = None
    observer: Observer | None = None
    """Watches every exchange of a session that is made here."""
    session: requests.Session | None = None
    """Carries every request; stays open. It is not observed, so the run's time is the clock's alone."""
    tokens: Callable[[str], TokenSource] | None = None
    """Scope → who signs in for it."""
    journal: RunJournal | None = None
    """Stays open, and no lock of the state directory is taken: whoever lends it says who may use it when."""
    memory: Memory | None = None
    """Where the organisation's metadata is kept between runs; the journal unless given."""
    metadata_max_age: timedelta = timedelta(hours=1)
    mapping: CrmMapping | None = None
    """The mapping that ``config.mapping`` names, when it was read before."""
    plugins: Mapping[str, ProviderPlugin] | None = None
    """The provider plug-ins of the installed packages, when they were loaded before."""
    rules: RuleBook | None = None
    jitter: Callable[[], float] | None = None
    """From 0 to 1: how far a retry's pause is spread; drawn by lot unless given."""


class Connection:
    """Everything that talks to the outside, for the time of one run. Also the ``ProviderServices`` of plug-ins."""

    def __init__(self, config: Config, parts: Parts | None = None) -> None:
        self.config = config
        self.parts = parts or Parts()
        self.counter = RequestCounter()
        self.stop_before: datetime | None = None
        self._clock = ServiceClock(self.parts.clock or SystemClock(), self.parts.observer)
        self.session = self.parts.session or self._own_session()
        self._tokens: dict[tuple[str, bool], TokenSource] = {}

    def _own_session(self) -> requests.Session:
        http = self.config.http
        pool = max(self.config.run.parallel, http.dataverse_parallel) + 2
        return make_session(
            ca_bundle=str(http.ca_bundle) if http.ca_bundle else None, pool_size=pool, observer=self._clock
        )

    def close(self) -> None:
        """Close what was opened here; what was lent stays open."""
        if self.parts.session is None:
            self.session.close()

    def mapping(self) -> CrmMapping:
        """How the organisation names things. Raises MappingError."""
        return self.parts.mapping or load_mapping(self.config.mapping)

    def rules(self) -> RuleBook:
        """The rules that decide. Raises ConfigError."""
        return self.parts.rules or rule_book()

    def crm(self, mapping: CrmMapping, memory: Memory, *, count_linked: bool = False) -> DataverseCrm:
        """The CRM as a pass sees it; sends nothing yet."""
        return DataverseCrm(
            self.dataverse(),
            mapping,
            clock=self._clock,
            time_zone=self.config.policy.time_zone,
            memory=self.parts.memory or memory,
            count_linked=count_linked,
            metadata_max_age=self.parts.metadata_max_age,
        )

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
        return self._transport(service, for_provider=True, concurrency=self.config.run.parallel)

    def dataverse(self) -> Transport:
        """Requests to the Dataverse Web API of the configured environment."""
        section = self.config.dataverse
        service = RemoteService(
            "dataverse",
            f"{section.url}/api/data/{section.api_version}/",
            f"{section.url}/.default",
            parse_dataverse_error,
            classify_dataverse,
            "x-ms-client-request-id",
        )
        return self._transport(service, for_provider=False, concurrency=self.config.http.dataverse_parallel)

    def _transport(self, service: RemoteService, *, for_provider: bool, concurrency: int) -> Transport:
        http, clock = self.config.http, self._clock
        return Transport(
            service=service.name,
            origin=Origin(service.base_url),
            session=self.session,
            auth=self._token_source(service.scope, for_provider=for_provider),
            gate=RateGate(clock, concurrency=concurrency, requests_per_minute=service.requests_per_minute),
            clock=clock,
            counter=self.counter,
            settings=TransportSettings(
                connect_timeout=http.connect_timeout.total_seconds(),
                read_timeout=http.read_timeout.total_seconds(),
                max_bytes=http.max_response_mb * 1024 * 1024,
                attempts=http.attempts,
            ),
            parse_error=service.parse_error,
            classify=service.classify,
            correlation_header=service.correlation_header,
            stop_before=self.stop_before,
            jitter=self.parts.jitter,
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
        return connect_plugins(self.parts.plugins or load_plugins(), {"partner_center": settings}, self)

    def requests(self) -> Mapping[str, Mapping[str, int]]:
        """Requests made so far: service → kind → count."""
        counts: dict[str, dict[str, int]] = {}
        for (service, kind), count in sorted(self.counter.counts().items()):
            counts.setdefault(service, {})[kind] = count
        return counts

    def _token_source(self, scope: str, *, for_provider: bool) -> TokenSource:
        """The identity for one scope, shared so that a run signs in once for each."""
        if self.parts.tokens is not None:
            return self.parts.tokens(scope)
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


def connect(config: Config, parts: Parts | None = None) -> Connection:
    """Everything that a pass over this configuration needs, with what is lent in place. Sends nothing yet."""
    return Connection(config, parts)


__all__ = ["Connection", "Parts", "RunRequest", "StopRequest", "connect", "redact", "rule_book", "run_once"]


def new_request_id() -> str:
    """A request id for one sending: random, so that no pass and no host can ever send it again."""
    return str(uuid4())


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
    parts: Parts | None = None,
) -> RunResult:
    """One pass, from lock to report. Errors that end it early come back in the result.

    Once ``stop`` is asked for, the families in hand are finished and no other is started. ``clock`` and ``observer`` are
    short for the ``parts`` of that name.
    """
    run_id = uuid4().hex
    lent = parts or Parts()
    lent = replace(lent, clock=clock or lent.clock, observer=observer or lent.observer)
    try:
        result = _run(config, request, run_id, lent, progress or Progress(), stop or StopRequest())
    except Exception as error:
        now = (lent.clock or SystemClock()).now()
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
    config: Config, request: RunRequest, run_id: str, parts: Parts, progress: Progress, stop: StopRequest
) -> RunResult:
    connection = connect(config, parts)
    time = connection.clock()
    started = time.now()
    try:
        mapping = connection.mapping()
        guards = precautions(config, mapping, operator(), request.saved, request.allow)
        rules = connection.rules()
        connection.sign_in()
        started = time.now()
        providers = connection.providers()
        with _journal(config, request, run_id, time, parts.journal) as journal:
            counted = guards.limits is not None and guards.limits.source_shrunk_percent is not None
            crm = connection.crm(mapping, journal, count_linked=counted)
            options = RunOptions(
                dry_run=request.dry_run,
                only=SubscriptionId(request.only.lower()) if request.only else None,
                parallel=request.parallel or config.run.parallel,
                lease_seconds=config.run.lease.total_seconds(),
                stop_before=connection.stop_before,
                stop=stop,
                keep_inputs=request.keep_inputs,
                parent_log=config.work365.parent_log,
                pushes=config.work365.pushes,
            )
            if not request.dry_run:
                journal.begin_run(RunInfo(run_id, operator(), request.command, started, __version__))
                # The lock of this state directory is ours, so whoever held a lease from here is dead.
                journal.drop_leases(started, _place(config))
            holder, policy = f"{_place(config)}{run_id}", config.policy
            work = Pass(
                run_id, holder, crm, providers, journal, time, policy, rules, options, progress, new_request_id, guards
            )
            result = replace(work.run(), requests=connection.requests())
            return result if request.dry_run else _record(journal, result, request)
    except ConnectorError as error:
        return RunResult.ended_early(run_id, started, time.now(), error, request.dry_run, connection.requests())
    finally:
        connection.close()


def _record(journal: RunJournal, result: RunResult, request: RunRequest) -> RunResult:
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
def _journal(
    config: Config, request: RunRequest, run_id: str, clock: Clock, lent: RunJournal | None
) -> Iterator[RunJournal]:
    """The journal of a run: under the host's lock for a real one, a copy in memory for a dry one, or the one lent."""
    if lent is not None:
        yield lent
        return
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
