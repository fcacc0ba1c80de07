"""The table of contents: every health dimension, in the order of report, dashboard and docs."""

from typing import Final

from exporter.dimension import Dimension
from exporter.dimensions.conformance import CONFORMANCE
from exporter.dimensions.coverage import COVERAGE
from exporter.dimensions.integrity import INTEGRITY
from exporter.dimensions.volume import VOLUME

DIMENSIONS: Final[tuple[Dimension, ...]] = (VOLUME, COVERAGE, CONFORMANCE, INTEGRITY)
