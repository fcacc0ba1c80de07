"""`serve`: collect at every interval, and answer over HTTP."""

import argparse
from pathlib import Path

from exporter.commands.arguments import add_config_file, base_url, describe
from exporter.commands.loading import loaded
from exporter.commands.process import serve_until_stopped
from exporter.present.report.links import Links
from exporter.present.report.shell import Shell
from exporter.serve.door import OPEN_DOOR, Door
from exporter.serve.listen import DEFAULT_ADDRESS, Address, parse_address
from exporter.serve.run import WebOptions, serve
from exporter.text.exits import ExitCode


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "serve --config.file shop.yaml --web.listen-address 127.0.0.1:10157")
    add_config_file(parser)
    add_web(parser, DEFAULT_ADDRESS)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> ExitCode:
    """Serve until a signal ends the process."""
    serve_until_stopped(
        lambda stop: serve(
            lambda: loaded(options), web_options(options, options.config_file), stop, reload_on_hangup=True
        )
    )
    return ExitCode.DONE


def web_options(options: argparse.Namespace, config_file: Path) -> WebOptions:
    """The addresses to listen on, who may come in, and the links of the page; raises ConfigError."""
    addresses = options.addresses or [parse_address(options.default_address)]
    links = Links(options.runbooks, options.dashboards, Shell(config_file.name))
    return WebOptions(tuple(addresses), options.enable_lifecycle, links, _door(options.web_config_file))


def add_web(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options for the addresses to listen on, for TLS and passwords, and for the links of the page."""
    parser.set_defaults(default_address=default)
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        action="append",
        type=_address,
        metavar="ADDRESS",
        help="the address to listen on: [::]:10157 or :10157 for every interface, 0.0.0.0:10157 for every IPv4 "
        f"interface; may be repeated (default: {default})",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config_file",
        type=Path,
        metavar="FILE",
        help="TLS and passwords, in the format of the Prometheus exporter toolkit (default: plain HTTP for everyone)",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="enable_lifecycle",
        action="store_true",
        help="allow POST /-/reload, which reads the config again; serve always reloads on SIGHUP",
    )
    parser.add_argument(
        "--web.runbook-url",
        dest="runbooks",
        type=base_url,
        metavar="URL",
        help="the URL of your copy of docs/runbooks, for links of the page (default: no links)",
    )
    parser.add_argument(
        "--web.dashboard-url",
        dest="dashboards",
        type=base_url,
        metavar="URL",
        help="the URL of Grafana, for links of the page (default: no links)",
    )


def _door(web_config_file: Path | None) -> Door:
    if web_config_file is None:
        return OPEN_DOOR
    from exporter.serve.secured import secured_door  # noqa: PLC0415 - only a server with TLS or passwords needs it

    return secured_door(web_config_file)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
