"""Words -> calls.

Exit codes: 0 done, 1 a limit is broken or not all is fixed (only `check` and `verify`), 2 usage or configuration,
3 could not measure, 4 no data.
"""

import argparse
import asyncio
import io
import logging
import os
import re
import shlex
import signal
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar, get_args

from exporter import __version__, logs, streams
from exporter.alerting import Surroundings, as_operator, as_prometheus, groups
from exporter.check import as_annotations, as_blocks, as_json, as_junit, exit_code, look
from exporter.config import ConfigError, Problem, load_config, parse_database
from exporter.connection.parameters import UrlError
from exporter.connection.target import target, unread
from exporter.database import CollectionError, url_of
from exporter.demo.scenarios import SCENARIOS
from exporter.dimensions import DIMENSIONS
from exporter.gaps import (
    Form,
    Format,
    Heard,
    Listing,
    NoRoomError,
    UntoldGapsError,
    UnwrittenError,
    Writer,
    count_gaps,
    form,
    list_gaps,
    narrowed,
    temporary_file,
    unheard,
)
from exporter.listen import DEFAULT_ADDRESS, Address, ListenError, parse_address
from exporter.names import known_names
from exporter.plan import Plan, compile_plans
from exporter.preflight import has_errors, preflight, render
from exporter.proposal import NoProposalError
from exporter.queries import NOTE, explained, script
from exporter.report.account import Past, report_on
from exporter.report.document import Document, DocumentError, read_document
from exporter.report.formats import FORMATS
from exporter.report.past import PastError, pasts_of_document
from exporter.report.shell import Shell
from exporter.schema import SEVERITIES, Config, Database, parse_duration, parse_moment
from exporter.sql import TableName, parse_table_name
from exporter.states import GAP_REASONS, GapReason, gap_reasons
from exporter.survey import survey
from exporter.terminal import Block, is_colourful, is_watched, plain
from exporter.terms import names_of
from exporter.verify import Allowed, unwritten, verify
from exporter.verify import as_blocks as verified_as_blocks
from exporter.verify import as_json as verified_as_json
from exporter.worklist import (
    BATCH_SIZE,
    LARGEST_BATCH,
    Author,
    FilterPart,
    Header,
    UnkeptError,
    Worklist,
    WorklistError,
    new_file,
    pipeline_of,
)

if TYPE_CHECKING:
    from exporter.serve import WebOptions

DONE: Final = 0
USAGE: Final = 2
NOT_MEASURED: Final = 3

T = TypeVar("T")
log = logging.getLogger(__name__)

Command = Callable[[argparse.Namespace], int]


class UsageError(Exception):
    """The words of a command do not fit the config; the message names those that would."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    streams.settle()
    options = _parser().parse_args(arguments)
    logs.configure(options.log_level, options.log_format)
    command: Command = options.command
    try:
        code = command(options)
        # A short output leaves only here; at exit nobody would catch that its reader is gone.
        sys.stdout.flush()
    except ConfigError as error:
        _say(str(error))
        return USAGE
    except (ListenError, UsageError, PastError, UnkeptError) as error:
        _say(f"session-health-exporter: {error}")
        return USAGE
    except (CollectionError, NoProposalError, NoRoomError, UnwrittenError) as error:
        _say(f"session-health-exporter: {error}")
        return NOT_MEASURED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _give_up_output()
        return DONE
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        return _die_of(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
    except Exception:
        # Python would exit with 1, which says that a limit is broken.
        log.exception("command.crashed")
        return NOT_MEASURED
    return code


def _give_up_output() -> None:
    """Else Python would try to write the rest at exit, and complain once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _die_of(number: signal.Signals) -> int:
    """End as whoever sent the signal expects, a shell's loop too: by the signal itself, without a traceback.

    https://www.cons.org/cracauer/sigint.html
    """
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    return 128 + number


def _serve(options: argparse.Namespace) -> int:
    from exporter.serve import serve  # noqa: PLC0415 - the web server is loaded only where there is one

    return _run(
        lambda stop: serve(
            lambda: _config(options),
            _web(options),
            stop,
            reload_on_hangup=True,
        )
    )


def _check(options: argparse.Namespace) -> int:
    standings = _await(look(compile_plans(_config(options), DIMENSIONS).values()))
    code = exit_code(standings, options.fail_on)
    if options.format == "text":
        _show(as_blocks(standings))
    elif options.format == "json":
        _hand_over(as_json(standings, code) + "\n")
    else:
        _hand_over(as_junit(standings, options.fail_on))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # Its runner reads both streams, and nobody else takes them for the answer here.
        sys.stderr.write(as_annotations(standings, options.fail_on))
    return code


def _report(options: argparse.Namespace) -> int:
    if (options.prometheus is None) != (options.at is None):
        raise UsageError("--prometheus and --at belong together: where the history is, and which moment of it")
    if options.baseline and options.prometheus:
        raise UsageError("--baseline and --prometheus exclude each other: name one past to compare with")
    baseline = _baseline(options.baseline) if options.baseline else None
    standings = _await(look(compile_plans(_config(options), DIMENSIONS).values()))
    pasts: Mapping[str, Past] = {}
    if baseline is not None:
        pasts = pasts_of_document(baseline, options.baseline.name, standings, DIMENSIONS)
    elif options.prometheus:
        from exporter.report.prometheus import pasts_of_prometheus  # noqa: PLC0415 - the HTTP client is loaded only for this

        pasts = _await(pasts_of_prometheus(options.prometheus, options.at, dict(options.match), standings, DIMENSIONS))
    shell = _shell(options.config_file)
    text = FORMATS[options.format](report_on(standings, DIMENSIONS, time.time(), pasts, shell))
    # It is written whatever it says; a job must not take one without a number for a success.
    code = DONE if all(standing.snapshot for standing in standings) else NOT_MEASURED
    if options.output is None:
        if options.format == "markdown":
            sys.stdout.write(text)
        else:
            _hand_over(text)
        return code
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{options.output} cannot be written ({error.strerror}): name another with --output") from None
    return code


def _baseline(path: Path) -> Document:
    try:
        return read_document(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"--baseline {path} cannot be read ({why})") from None
    except DocumentError as error:
        raise UsageError(f"--baseline {path}: {error}") from None


def _gaps(options: argparse.Namespace) -> int:
    config = _config(options)
    name = _pipeline(config, options.pipeline)
    records = config.pipelines[name].records
    if options.record is not None and options.record not in records:
        raise UsageError(f"--record {options.record} is no record of {name}{known_names(options.record, records)}")
    wanted = [records[options.record]] if options.record else [*records.values()]
    if options.reason and not any(options.reason in gap_reasons(record) for record in wanted):
        which = f"{options.record} is" if options.record else "every record is"
        raise UsageError(f"--reason {options.reason} never makes a gap here: {which} satisfied by any_version")
    if options.worklist is not None and (options.count or options.format):
        raise UsageError("--worklist has a form of its own: leave out --count and --format")
    if options.batch_size is not None and options.worklist is None:
        raise UsageError("--batch-size is of --worklist: name the file as well")
    plan = compile_plans(narrowed(config, name, [options.record] if options.record else ()), DIMENSIONS)[name]
    reasons = (options.reason,) if options.reason else GAP_REASONS
    try:
        if options.count:
            found = _await(count_gaps(plan, reasons))
            _hand_over(f"{found.sessions}\n")
        elif options.worklist is not None:
            found = _write_worklist(plan, reasons, options)
        else:
            found = _list_gaps(plan, reasons, form(options.format or "csv", on_terminal=sys.stdout.isatty()))
    except UntoldGapsError as error:
        alone = "" if options.record or len(records) == 1 else "; --record NAME asks for those of one record alone"
        return _untold(error, f"nothing is listed: which sessions are a gap cannot be told without it{alone}")
    _say_what_is_hidden(found, "only what they show is listed")
    # Whoever sees the code alone must not take a part for the whole.
    return NOT_MEASURED if found.restricted else DONE


def _untold(error: UntoldGapsError, consequence: str) -> int:
    for fault in error.faults:
        _say(f"session-health-exporter: {fault.message}")
    _say(consequence)
    return NOT_MEASURED


def _say_what_is_hidden(found: Listing, consequence: str) -> None:
    if found.restricted:
        tables = ", ".join(found.restricted)
        _say(f"session-health-exporter: policies may hide rows of {tables}: {consequence}")


def _list_gaps(plan: Plan, reasons: Sequence[GapReason], shape: Form) -> Listing:
    with temporary_file() as file:
        writer = Writer(file, plan, shape)
        with _progress("listing") as heard:
            found = _await(list_gaps(plan, writer.take, reasons, heard))
        writer.end()
        file.seek(0)
        # The transaction is over: whoever reads may take all the time there is.
        _write_out(file)
    return found


def _write_worklist(plan: Plan, reasons: Sequence[GapReason], options: argparse.Namespace) -> Listing:
    path: Path = options.worklist
    with new_file(path) as target, temporary_file() as body:
        author = Author(body, plan, options.batch_size or BATCH_SIZE)
        with _progress("listing") as heard:
            found = _await(list_gaps(plan, author.take, reasons, heard))
        header = author.publish(target, found, FilterPart(record=options.record, reason=options.reason))
    _say_what_is_listed(path, header, options.config_file)
    return found


def _say_what_is_listed(path: Path, header: Header, config_file: Path) -> None:
    batches = "a batch" if header.batches == 1 else f"{header.batches} batches of at most {header.batch_size}"
    _say(f"{path}: {_count(header.sessions, 'session')}" + (f" in {batches}" if header.batches else ""))
    for part in header.records:
        _say(f"  {part.record}: {part.changes.create} to create, {part.changes.derive_anew} to derive anew")
    if header.unnamed:
        _say(f"  beside {header.unnamed} that no list can name, for their key has a NULL")
    if header.sessions:
        _say(f"next: the backfill, then {_shell(config_file).command('verify', str(path.absolute()))}")


def _shell(config_file: Path) -> Shell:
    """Writes commands that work in any folder."""
    return Shell(str(config_file.absolute()))


def _verify(options: argparse.Namespace) -> int:
    path: Path = options.worklist
    config = _config(options)
    try:
        with _opened(path) as file:
            return _verify_worklist(Worklist(file), config, options)
    except WorklistError as error:
        raise UsageError(f"{path}: {error}") from None
    except UntoldGapsError as error:
        return _untold(error, "nothing is verified: which sessions are a gap cannot be told without it")


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): name a file that `gaps --worklist` wrote"
        ) from None


def _verify_worklist(worklist: Worklist, config: Config, options: argparse.Namespace) -> int:
    header, still = worklist.header, options.still
    pipeline_of(header, config.pipelines)
    of_the_list = narrowed(config, header.pipeline, [part.record for part in header.records])
    plan = compile_plans(of_the_list, DIMENSIONS)[header.pipeline]
    allowed = Allowed(options.allow_vanished, _allowed_keys(options.allow_changed, header, plan))
    with new_file(still) if still else nullcontext() as target, temporary_file() as body:
        author = Author(body, plan, header.batch_size)
        with _progress("verifying", header.sessions) as heard:
            found = _await(verify(plan, worklist, author.add if target else unwritten, heard))
        is_of_another_config = _say_what_changed(found.changed, allowed)
        if target and is_of_another_config:
            _say(f"{still} is not written: what another config calls fixed would be missing there")
        rest = author.publish(target, found.listing, header.filters) if target and not is_of_another_config else None
    if header.identity is None or found.listing.identity is None:
        _say("session-health-exporter: whether this is the database of the list cannot be told, for it has no identity")
    _say_what_is_hidden(found.listing, "only what they show is verified")
    if rest is not None:
        _say_what_is_listed(still, rest, options.config_file)
    if options.format == "json":
        _hand_over(verified_as_json(found, allowed) + "\n")
    else:
        _show(verified_as_blocks(found, options.worklist.name, allowed))
    return found.exit_code(allowed)


def _allowed_keys(names: Sequence[str], header: Header, plan: Plan) -> frozenset[str]:
    known = {*header.terms, *names_of(plan.pipeline, plan.database)}
    for name in names:
        if name not in known:
            raise UsageError(f"--allow-changed {name} is no key that decides what is a gap{known_names(name, known)}")
    return frozenset(names)


def _say_what_changed(changed: Sequence[str], allowed: Allowed) -> bool:
    """Name the keys of the config with another value; whether any of them keeps the list from being proved."""
    if kept := [name for name in changed if name in allowed.keys]:
        _say(f"session-health-exporter: changed since the list was made, as allowed: {', '.join(kept)}")
    if refused := [name for name in changed if name not in allowed.keys]:
        flags = shlex.join(word for name in refused for word in ("--allow-changed", name))
        _say(
            f"session-health-exporter: changed since the list was made: {', '.join(refused)}; nothing is proved by "
            f"another config: verify with that of then or, where the change is meant, with {flags}"
        )
    return bool(refused)


def _show(blocks: Iterable[Block]) -> None:
    if not is_colourful(sys.stdout, os.environ):
        sys.stdout.write(plain(blocks))
        return
    from exporter.display import show  # noqa: PLC0415 - where there is no terminal, nothing of it is loaded

    show(blocks)


@contextmanager
def _progress(what: str, total: int | None = None) -> Iterator[Heard]:
    if not is_watched(sys.stderr, os.environ):
        yield unheard
        return
    from exporter.display import progress  # noqa: PLC0415 - where there is no terminal, nothing of it is loaded

    with progress(what, total) as heard:
        yield heard


def _hand_over(text: str) -> None:
    """Write what a program reads, which is UTF-8 whatever the locale."""
    _write_out(io.BytesIO(text.encode(errors="replace")))


def _write_out(file: IO[bytes]) -> None:
    try:
        streams.copy_to_stdout(file)
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise UnwrittenError(
            f"the output could not be written to its end ({error.strerror}): what is there is not all"
        ) from None


def _pipeline(config: Config, name: str | None) -> str:
    """The pipeline that is meant; the only one where none is named.  Raises UsageError."""
    known = config.pipelines
    if name is None:
        if len(known) > 1:
            raise UsageError(f"which pipeline? add --pipeline with one of {', '.join(known)}")
        return next(iter(known))
    if name not in known:
        raise UsageError(f"--pipeline {name} is not in the config{known_names(name, known)}")
    return name


def _queries(options: argparse.Namespace) -> int:
    plans = compile_plans(_config(options), DIMENSIONS).values()
    _hand_over(NOTE)
    if not options.explain:
        _hand_over(script(plans))
        return DONE
    for plan in plans:
        _hand_over(_await(explained(plan)))
    return DONE


def _rules(options: argparse.Namespace) -> int:
    at = Surroundings(
        options.job,
        options.interval,
        options.dashboard_url,
        options.runbook_url,
        options.config_file,
        tuple(options.passing_labels),
    )
    written = groups(DIMENSIONS, at)
    _hand_over(as_prometheus(written) if options.format == "prometheus" else as_operator(written))
    return DONE


def _config_check(options: argparse.Namespace) -> int:
    config = load_config(options.config_file, os.environ)
    found = _await(_looked_up(config.databases))
    _warn_of_unread(found.values())
    _refuse(str(options.config_file), found)
    records = sum(len(pipeline.records) for pipeline in config.pipelines.values())
    counts = (
        _count(len(config.databases), "database"),
        _count(len(config.pipelines), "pipeline"),
        _count(records, "record"),
    )
    sys.stdout.write(f"{options.config_file}: valid ({', '.join(counts)})\n")
    if not options.connect:
        return DONE
    groups = _await(preflight(config))
    sys.stdout.write(render(groups))
    return NOT_MEASURED if has_errors(groups) else DONE


async def _looked_up(databases: Mapping[str, Database]) -> dict[str, str | None]:
    """The url of each database; one whose file cannot be read here, as where secrets are elsewhere, is left out."""
    found = {}
    for name, database in databases.items():
        with suppress(CollectionError, OSError):
            async with asyncio.timeout(database.connect_timeout.total_seconds()):
                found[name] = await url_of(database)
    return found


def _refuse(source: str, urls: Mapping[str, str | None]) -> None:
    """What urls and variables say wrong about a database; raises ConfigError."""
    problems: list[Problem] = []
    for name, url in urls.items():
        try:
            target(url, os.environ)
        except UrlError as error:
            problems += (Problem(f"databases.{name}", str(mistake)) for mistake in error.mistakes)
    if problems:
        raise ConfigError(source, tuple(problems))


def _warn_of_unread(urls: Iterable[str | None]) -> None:
    """Name the variables that decide nothing here and might be thought to."""
    found = {variable: remedy for url in urls for variable, remedy in unread(url, os.environ).items()}
    if found:
        told = (f"{variable} is set and not read: {remedy}" for variable, remedy in found.items())
        log.warning("environment.unread", extra={"variables": ",".join(found), "error": "; ".join(told)})


def _init(options: argparse.Namespace) -> int:
    url = options.database_url or os.environ.get("DATABASE_URL") or None
    database = parse_database(url, "--database.url" if options.database_url else "DATABASE_URL")
    _warn_of_unread([url])
    output: Path | None = options.output
    if output is not None and output.exists():
        _say(f"session-health-exporter: {output} exists: name another file with --output, or remove it")
        return USAGE
    proposal = _await(survey(database, options.sessions, options.records or (), has_url=url is not None))
    for remark in proposal.said:
        _say(remark)
    if options.database_url:
        _say("set DATABASE_URL to the url before you use the config: it names the variable, and holds no secret")
    if output is None:
        _hand_over(proposal.text)
        return DONE
    try:
        output.write_text(proposal.text, encoding="utf-8")
    except OSError as error:
        _say(f"session-health-exporter: {output} cannot be written ({error.strerror}): name another with --output")
        return USAGE
    _say(f"next: read {output}, then {_shell(output).command('config', 'check', '--connect')}")
    return DONE


def _demo(options: argparse.Namespace) -> int:
    # The demo's needs are not the exporter's: its driver of a private server is looked for only here.
    from exporter.demo.platform import SampleError, sample_platform  # noqa: PLC0415
    from exporter.demo.run import demo  # noqa: PLC0415
    from exporter.embedded import EmbeddedPostgresError  # noqa: PLC0415

    try:
        return _run(
            lambda stop: demo(
                sample_platform(
                    SCENARIOS[options.scenario],
                    _say,
                    options.config_file or demo_config(),
                    options.postgres_url or os.environ.get("SESSION_HEALTH_POSTGRES_URL"),
                    options.postgres_bin,
                ),
                scenario=options.scenario,
                live=options.live,
                load=lambda environ: load_config(options.config_file or demo_config(), {**os.environ, **environ}),
                web=_web(options),
                stop=stop,
                report=_say,
            )
        )
    except (EmbeddedPostgresError, SampleError) as error:
        _say(f"session-health-exporter: {error}")
        return NOT_MEASURED


def demo_config() -> Path:
    """The commented tour: of the checkout, or the copy that the package carries."""
    checkout = Path(__file__).parent.parent / "config.yaml"
    return checkout if checkout.exists() else Path(str(files("exporter.demo").joinpath("config.yaml")))


def _run(work: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    from exporter.serve import stop_on_signals  # noqa: PLC0415

    async def until_stopped() -> None:
        await work(stop_on_signals())

    _await(until_stopped())
    return DONE


def _await(work: Coroutine[Any, Any, T]) -> T:
    async def unwaited() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        loop.set_default_executor(_UnwaitedThreads())
        if task is not None:
            # As SIGINT does: what runs on the server is cancelled before we end.
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    return asyncio.run(unwaited())


class _UnwaitedThreads(ThreadPoolExecutor):
    """Threads that nobody waits for at the end: one may look up a name in a DNS that does not answer."""

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        """Run `fn` in a thread of its own."""
        future: Future[T] = Future()
        # Whoever is cancelled asks no more; the future is the thread's until that has ended.
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
                future.set_exception(error)

        Thread(target=work, daemon=True).start()
        return future


def _config(options: argparse.Namespace) -> Config:
    config = load_config(options.config_file, os.environ)
    # Of a url in a file nobody waits here to be told.
    _warn_of_unread(database.url for database in config.databases.values() if database.url_file is None)
    return config


def _web(options: argparse.Namespace) -> "WebOptions":
    from exporter.page.view import Links  # noqa: PLC0415
    from exporter.serve import WebOptions  # noqa: PLC0415

    addresses = options.addresses or [parse_address(DEFAULT_ADDRESS)]
    name = (options.config_file or demo_config()).name
    return WebOptions(tuple(addresses), options.enable_lifecycle, Links(options.runbooks, options.dashboards, name))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="session-health-exporter",
        allow_abbrev=False,
        description="Prometheus exporter that answers: is our data whole?",
        epilog=_epilog("demo --scenario backfill"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"session-health-exporter {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serving = _command(
        commands,
        "serve",
        _serve,
        "collect on the interval and serve /metrics",
        example="serve --config.file shop.yaml --web.listen-address 127.0.0.1:10157",
    )
    _add_web(serving)

    demo = _command(
        commands,
        "demo",
        _demo,
        "the same on a private PostgreSQL with sample data",
        example="demo --scenario backfill --live",
        config_default=None,
    )
    _add_web(demo)
    demo.add_argument(
        "--scenario",
        choices=tuple(SCENARIOS),
        default="healthy",
        help="the state of the sample data (default: %(default)s)",
    )
    demo.add_argument("--live", action="store_true", help="keep writing sessions, so that graphs move")
    demo.add_argument(
        "--postgres.url",
        dest="postgres_url",
        metavar="URL",
        help="use this server: a database is created and dropped (or SESSION_HEALTH_POSTGRES_URL)",
    )
    demo.add_argument(
        "--postgres.bin",
        dest="postgres_bin",
        type=Path,
        metavar="FOLDER",
        help="PostgreSQL's programs (or SESSION_HEALTH_POSTGRES_BIN)",
    )

    check = _command(
        commands,
        "check",
        _check,
        "collect once and hold every number against its limit",
        example="check --fail-on critical --format junit > session-health.xml",
        notes="Exit codes, the first that holds: 1 a critical limit is broken, 3 something could not be measured, "
        "1 a warning limit is broken, 4 no session to judge, 0 healthy; 2 the config cannot be used.",
    )
    check.add_argument("--format", choices=("text", "json", "junit"), default="text", help="default: %(default)s")
    check.add_argument(
        "--fail-on",
        dest="fail_on",
        choices=SEVERITIES,
        default="warning",
        help="the least severe broken limit that makes the exit code 1 (default: %(default)s)",
    )

    _add_gaps(commands)
    _add_verify(commands)

    queries = _command(
        commands,
        "queries",
        _queries,
        "print exactly the SQL that a collection runs",
        example="queries --explain | less",
    )
    queries.add_argument("--explain", action="store_true", help="connect, and add the database's estimate of each")

    _add_report(commands)
    _add_rules(commands)
    _add_init(commands)

    config = commands.add_parser(
        "config",
        help="about the config file",
        epilog=_epilog("config check --connect"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    about = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = _command(
        about,
        "check",
        _config_check,
        "say every problem of the config file, without connecting",
        example="config check --connect --config.file shop.yaml",
    )
    check.add_argument(
        "--connect",
        action="store_true",
        help="connect as well: say everything in the databases that keeps us from measuring, and collect once",
    )
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Command,
    summary: str,
    *,
    example: str,
    notes: str = "",
    config_default: str | None = "config.yaml",
) -> argparse.ArgumentParser:
    parser = _command_without_config(commands, name, command, summary, example=example, notes=notes)
    shown = config_default or "the commented tour that comes with the exporter"
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        default=Path(config_default) if config_default else None,
        metavar="FILE",
        help=f"default: {shown}",
    )
    return parser


def _command_without_config(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Command,
    summary: str,
    *,
    example: str,
    notes: str = "",
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=_epilog(example, notes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command)
    parser.add_argument(
        "--log.level", dest="log_level", choices=tuple(logs.LEVELS), default="info", help="default: %(default)s"
    )
    parser.add_argument(
        "--log.format", dest="log_format", choices=("logfmt", "json"), default="logfmt", help="default: %(default)s"
    )
    return parser


def _epilog(example: str, notes: str = "") -> str:
    """What stands below the options: the notes in lines, and the example as one would type it."""
    return f"{textwrap.fill(notes, 78)}\n\n".lstrip() + f"example:\n  session-health-exporter {example}"


def _add_gaps(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    gaps = _command(
        commands,
        "gaps",
        _gaps,
        "list every session with a gap: the key, the record, the reason",
        example="gaps --record invoices --format ndjson | jq -r .session",
        notes="Nothing is printed before the whole list is known.  Exit codes: 0 the list is whole, 2 wrong usage or "
        "config, 3 something could not be measured, and nothing is listed.",
    )
    gaps.add_argument("--pipeline", metavar="NAME", help="needed where the config has several")
    gaps.add_argument("--record", metavar="NAME", help="only the gaps of this record; no other needs to be readable")
    gaps.add_argument("--reason", choices=GAP_REASONS, help="only gaps of this reason")
    gaps.add_argument(
        "--format",
        choices=get_args(Format),
        help="csv, ndjson (one JSON object per line) or json (one array); default: csv",
    )
    gaps.add_argument("--count", action="store_true", help="print how many sessions the list has, and not the list")
    gaps.add_argument(
        "--worklist",
        type=Path,
        metavar="FILE",
        help="write the list for a backfill, in batches, to a file that does not exist yet; see verify",
    )
    gaps.add_argument(
        "--batch-size",
        dest="batch_size",
        type=_batch_size,
        metavar="NUMBER",
        help=f"sessions of a batch of the worklist (default: {BATCH_SIZE})",
    )


def _batch_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_BATCH:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {LARGEST_BATCH}")
    return int(text)


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verify = _command(
        commands,
        "verify",
        _verify,
        "measure the sessions of a worklist again: fixed, still a gap, vanished, new since",
        example="verify before.jsonl --still rest.jsonl",
        notes="Exit codes: 0 every session of the list is fixed, 1 not every one is, or the config decides otherwise "
        "what is a gap, 2 wrong usage or config, or the file is no whole worklist of this database, pipeline and "
        "window, 3 something could not be measured.",
    )
    verify.add_argument("worklist", type=Path, metavar="FILE", help="what gaps --worklist wrote")
    verify.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    verify.add_argument(
        "--still",
        type=Path,
        metavar="FILE",
        help="write those that are still a gap as a new worklist, to a file that does not exist yet",
    )
    verify.add_argument(
        "--allow-vanished",
        dest="allow_vanished",
        action="store_true",
        help="exit with 0 also where sessions are gone, left the window or are not eligible any more",
    )
    verify.add_argument(
        "--allow-changed",
        dest="allow_changed",
        action="append",
        default=[],
        metavar="KEY",
        help="exit with 0 also where this key of the config has another value than when the list was made, such as "
        "records.invoices.version.current; may be repeated",
    )


def _add_init(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "connect, and propose a commented config for the tables there"
    init = _command_without_config(
        commands, "init", _init, summary, example="init --sessions public.orders --output shop.yaml"
    )
    init.add_argument(
        "--database.url",
        dest="database_url",
        metavar="URL",
        help="default: DATABASE_URL, else the PG* variables; never written into the config",
    )
    init.add_argument(
        "--sessions",
        type=_table,
        metavar="TABLE",
        help="the table of sessions (default: the one that looks most like it)",
    )
    init.add_argument(
        "--record",
        dest="records",
        action="append",
        type=_table,
        metavar="TABLE",
        help="a table of records; may be repeated (default: those that point at the sessions)",
    )
    init.add_argument("--output", type=Path, metavar="FILE", help="a file that does not exist yet (default: to stdout)")


def _add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    report = _command(
        commands,
        "report",
        _report,
        "collect once and write the health report",
        example="report --baseline before.json --output report.md",
    )
    report.add_argument("--format", choices=tuple(FORMATS), default="markdown", help="default: %(default)s")
    report.add_argument("--output", type=Path, metavar="FILE", help="default: to stdout")
    report.add_argument(
        "--baseline", type=Path, metavar="FILE", help="compare with an earlier report, written with --format json"
    )
    report.add_argument("--prometheus", type=_base_url, metavar="URL", help="compare with what it knows of a moment")
    report.add_argument(
        "--match",
        type=_matcher,
        action="append",
        default=[],
        metavar="LABEL=VALUE",
        help="of which exporter there, where several measure pipelines of one name; may be repeated",
    )
    report.add_argument(
        "--at", type=_past_moment, metavar="TIME", help="that moment: 2025-09-17T08:00:00Z, a date, or 7d back"
    )


def _matcher(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not equals or not label.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not a label and its value: write cluster=east")
    return label, value


def _past_moment(text: str) -> datetime:
    with suppress(ValueError):
        return datetime.now(UTC) - parse_duration(text)
    try:
        return parse_moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}; or write a duration back from now, as 7d") from None


def _add_rules(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "print the alerting rules for Prometheus, as they suit your job, interval and addresses"
    rules = _command_without_config(
        commands,
        "rules",
        _rules,
        summary,
        example="rules --runbook-url https://wiki.example/runbooks > session-health.yml",
    )
    usual = Surroundings()
    rules.add_argument("--job", default=usual.job, help="the job that scrapes the exporter (default: %(default)s)")
    rules.add_argument(
        "--interval",
        type=_interval,
        default=usual.interval,
        metavar="DURATION",
        help="the longest interval of collecting or scraping, by which all times are counted (default: 30s)",
    )
    rules.add_argument(
        "--dashboard-url",
        dest="dashboard_url",
        type=_base_url,
        default=usual.dashboards,
        metavar="URL",
        help="where Grafana is (default: %(default)s, a placeholder)",
    )
    rules.add_argument(
        "--runbook-url",
        dest="runbook_url",
        type=_base_url,
        default=usual.runbooks,
        metavar="URL",
        help="where docs/runbooks is (default: %(default)s, a placeholder)",
    )
    rules.add_argument(
        "--config.file",
        dest="config_file",
        type=_printed_path,
        default=usual.config_file,
        metavar="FILE",
        help="the exporter's config, as the commands in alerts name the file; not read (default: %(default)s)",
    )
    rules.add_argument(
        "--passing-label",
        dest="passing_labels",
        type=_label_name,
        action="append",
        default=[],
        metavar="NAME",
        help="a label of targets that a restart, a reschedule or a deploy changes; repeatable, beside instance, pod, "
        "node and the like",
    )
    rules.add_argument(
        "--format", choices=("prometheus", "operator"), default="prometheus", help="default: %(default)s"
    )


def _interval(text: str) -> timedelta:
    try:
        interval = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
    if not interval:
        raise argparse.ArgumentTypeError("is 0: write a duration such as 30s")
    return interval


def _printed_path(text: str) -> str:
    # Alerts are templates of Prometheus, where braces mean something, and one line each.
    if not text or any(sign in "{}" or not sign.isprintable() for sign in text):
        raise argparse.ArgumentTypeError(f"{text!r} is no path for an alert: write one without braces and line breaks")
    return text


def _label_name(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", text) or text in {"job", "database", "pipeline"}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no label to pass over: write a name as pod or alloc_id, of letters, digits and _; "
            "job, database and pipeline always count"
        )
    return text


def _base_url(text: str) -> str:
    if not text.startswith(("http://", "https://")) or any(sign in text for sign in "{}\"' "):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address: write https://host/path")
    return text.rstrip("/")


def _table(text: str) -> TableName:
    try:
        return parse_table_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_web(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        action="append",
        type=_address,
        metavar="ADDRESS",
        help="[::]:10157 is every interface, as :10157 is, 0.0.0.0:10157 those of IPv4; may be repeated; "
        f"default: {DEFAULT_ADDRESS}",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="enable_lifecycle",
        action="store_true",
        help="let POST /-/reload read the config again; `serve` also does at SIGHUP, always",
    )
    parser.add_argument(
        "--web.runbook-url",
        dest="runbooks",
        type=_base_url,
        metavar="URL",
        help="where docs/runbooks is, for the page to link to (default: it links to none)",
    )
    parser.add_argument(
        "--web.dashboard-url",
        dest="dashboards",
        type=_base_url,
        metavar="URL",
        help="where Grafana is, for the page to link to (default: it links to none)",
    )
