"""`serve`: collect on the interval, and answer over HTTP."""

import argparse
from pathlib import Path

from exporter.commands.arguments import add_config_file, base_url, describe
from exporter.commands.loading import load
from exporter.commands.process import serve_until_stopped
from exporter.present.page.view import Links
from exporter.serve.listen import DEFAULT_ADDRESS, Address, parse_address
from exporter.serve.run import WebOptions, serve
from exporter.text.exits import ExitCode


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    describe(parser, "serve --config.file shop.yaml --web.listen-address 127.0.0.1:10157")
    add_config_file(parser)
    add_web(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> ExitCode:
    """Serve until a signal ends the process."""
    serve_until_stopped(
        lambda stop: serve(
            lambda: load(options), web_options(options, options.config_file), stop, reload_on_hangup=True
        )
    )
    return ExitCode.DONE


def web_options(options: argparse.Namespace, config_file: Path) -> WebOptions:
    """Where to listen, and what the page shows."""
    addresses = options.addresses or [parse_address(DEFAULT_ADDRESS)]
    links = Links(options.runbooks, options.dashboards, config_file.name)
    return WebOptions(tuple(addresses), options.enable_lifecycle, links)


def add_web(parser: argparse.ArgumentParser) -> None:
    """Where to listen, and what the page links to."""
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
        type=base_url,
        metavar="URL",
        help="where docs/runbooks is, for the page to link to (default: it links to none)",
    )
    parser.add_argument(
        "--web.dashboard-url",
        dest="dashboards",
        type=base_url,
        metavar="URL",
        help="where Grafana is, for the page to link to (default: it links to none)",
    )


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
