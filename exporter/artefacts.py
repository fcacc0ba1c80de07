"""Dimensions and schema -> the generated files: `make generate` writes, `make check` compares.

A generated file has a note at the top, and is committed: users can read the file without Python.
"""

import json
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from exporter.config.editor import config_schema
from exporter.config.read import load_config
from exporter.config.reference import reference_page
from exporter.dashboards.files import dashboard_files
from exporter.dimensions import DIMENSIONS
from exporter.mend.worklist import worklist_schema
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit
from exporter.model.metric import Metric
from exporter.model.sections import Pipeline
from exporter.present.report.document import document_schema
from exporter.rules import runbooks
from exporter.rules.formats import as_grafana, as_operator, as_prometheus, as_sloth
from exporter.rules.groups import groups
from exporter.rules.settings import RuleSettings
from exporter.state.self_metrics import PROGRAM_METRICS, SELF_METRICS

ROOT: Final = Path(__file__).parent.parent


def metrics_page(dimensions: tuple[Dimension, ...]) -> str:
    """docs/metrics.md: every family of the page, by dimension."""
    parts = [
        "<!-- Generated from exporter/dimensions by `make generate`: change it there. -->",
        "# Metrics",
        "",
        "All metrics are gauges unless the name ends in `_total`.  Besides the labels below, all metrics have the",
        "labels `database` and `pipeline`, except the metrics of the config and the build.  The values of a pipeline",
        "come from one snapshot of the database, refreshed every `collection.interval`.  A scrape never waits for the",
        "database.  A failed measurement has no series, never the value 0.",
        "",
    ]
    for dimension in dimensions:
        parts += [f"## {dimension.name.capitalize()}", "", dimension.question, "", *_HEADER]
        parts += [_row(metric, is_counter=False) for metric in dimension.metrics]
        parts.append("")
        if dimension.limits:
            parts += [*_LIMITS_HEADER, *map(_limit, dimension.limits), ""]
    parts += [*_CARDINALITY, ""]
    parts += [
        "## The exporter itself",
        "",
        "Did the exporter measure everything, when, and at which cost?",
        "",
        *_HEADER,
    ]
    parts += [_row(own.metric, is_counter=own.is_counter) for own in SELF_METRICS]
    parts += [_row(program.metric, is_counter=False) for program in PROGRAM_METRICS]
    parts.append("")
    return "\n".join(parts)


_LIMITS_HEADER: Final = ("| limit | judged value | per | broken |", "|---|---|---|---|")

_CARDINALITY: Final = (
    "## Number of series",
    "",
    "The values of a capped label come from the data.  Each metric has at most `collection.max_label_values` (50)",
    "series per pipeline: first the classes current and accepted, then the largest values.  The exporter adds up the",
    "remaining series in `<other>`, one series per combination of the other labels; `session_health_folded_series`",
    "counts the series in `<other>`.  Values with the same first 256 characters are one value.  All other labels come",
    "from closed sets or from the config.  No id, address, user or error text is ever a label.",
)

_HEADER: Final = ("| metric | labels | meaning |", "|---|---|---|")


def _row(metric: Metric, *, is_counter: bool) -> str:
    labels = ", ".join(f"`{label}`" + " (capped)" * (label == metric.open_label) for label in metric.labels)
    kind = "Counter: " if is_counter else ""
    return f"| `{metric.full_name}` | {labels} | {kind}{metric.help} |"


def _limit(limit: Limit) -> str:
    per = {"part": "check"}.get(limit.per, limit.per)
    unit = {"count": "", "ratio": " (0 to 1)", "seconds": " (duration)"}[limit.unit]
    return f"| `{limit.name}` | {limit.what}{unit} | {per} | {'below' if limit.below else 'above'} |"


def recipes_page(folder: Path) -> str:
    """docs/recipes.md: every config of a folder; the comment on top of a config is its text, with the title first."""
    parts = [
        "<!-- Generated from docs/recipes by `make generate`: change it there. -->",
        "# Recipes",
        "",
        "Complete configs for common needs.  Tests run each config on a real PostgreSQL: healthy, broken and mended.",
        "The SQL file beside the config has the tables and rows.  To add a recipe, add both files to `docs/recipes`,",
        "and run `make generate`.",
        "",
    ]
    for config in sorted(folder.glob("*.yaml")):
        lines = config.read_text(encoding="utf-8").splitlines()
        text = list(takewhile(lambda line: line.startswith("#"), lines))
        title, *words = (line.removeprefix("#").strip() for line in text)
        files = f"[config](recipes/{config.name}), [tables and rows](recipes/{config.stem}.sql)"
        parts += [f"## {title}", *words, "", "```yaml", *lines[len(text) :], "```", "", f"Files: {files}", ""]
    return "\n".join(parts)


_NOTE: Final = "# Generated from exporter/dimensions and exporter/rules by `make generate`: change it there.\n"
_RULES_NOTE: Final = (
    _NOTE + "# For another job, interval, Grafana or place of the runbooks: session-health-exporter rules --help\n"
)


def artefacts() -> dict[Path, str]:
    """Every generated file, by its path below the root."""
    rules = groups(DIMENSIONS, RuleSettings())
    return {
        Path("docs/metrics.md"): metrics_page(DIMENSIONS),
        Path("docs/config.md"): reference_page(config_schema()),
        Path("docs/recipes.md"): recipes_page(ROOT / "docs" / "recipes"),
        Path("docs/config.schema.json"): json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n",
        Path("docs/report.schema.json"): json.dumps(document_schema(), indent=2, ensure_ascii=False) + "\n",
        Path("docs/worklist.schema.json"): json.dumps(worklist_schema(), indent=2, ensure_ascii=False) + "\n",
        Path("alerts/rules.yml"): _RULES_NOTE + as_prometheus(rules),
        Path("alerts/prometheusrule.yml"): _RULES_NOTE + as_operator(rules),
        Path("grafana/provisioning/alerting/session-health.yaml"): _RULES_NOTE + as_grafana(DIMENSIONS, RuleSettings()),
        Path("alerts/slo/sloth.yml"): _NOTE + as_sloth(RuleSettings()),
        **{Path("docs/runbooks") / name: page for name, page in runbooks.pages(DIMENSIONS, _tour()).items()},
        **dashboard_files(),
    }


def _tour() -> Pipeline:
    [pipeline] = load_config(ROOT / "config.yaml", {"DATABASE_URL": "postgresql://"}).pipelines.values()
    return pipeline


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with --check only list stale files; returns the exit code."""
    stale = []
    for path, text in artefacts().items():
        target = ROOT / path
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path))
        if "--check" not in arguments:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    if stale and "--check" in arguments:
        sys.stderr.write(f"stale: {', '.join(stale)}; run: make generate\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
