"""The formats of `check`."""

from collections.abc import Mapping
from typing import Final

from exporter.present.check import Check, as_blocks, as_junit
from exporter.text.format import Format


def _as_json(check: Check) -> str:
    from exporter.present.check_document import as_json  # noqa: PLC0415 - loads the models of the report's document

    return as_json(check)


FORMATS: Final[Mapping[str, Format[Check]]] = {
    "text": Format(lambda check: tuple(as_blocks(check)), for_people=True),
    "json": Format(_as_json),
    "junit": Format(lambda check: as_junit(check.statuses, check.fail_on)),
}
"""By name."""
