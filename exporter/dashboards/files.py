"""Dimensions -> Grafana dashboards, as files.  Only `exporter.artefacts` comes here; no command does."""

from pathlib import Path
from typing import Final

from exporter.dashboards.exporter import EXPORTER
from exporter.dashboards.overview import OVERVIEW
from exporter.dashboards.timeliness import TIMELINESS
from exporter.dashboards.versions import VERSIONS

FOLDER: Final = Path("grafana/dashboards")

PAGES: Final = {"overview": OVERVIEW, "versions": VERSIONS, "timeliness": TIMELINESS, "exporter": EXPORTER}


def dashboard_files() -> dict[Path, str]:
    """Every dashboard, by its path below the root."""
    return {FOLDER / f"{name}.json": page.text for name, page in PAGES.items()}
