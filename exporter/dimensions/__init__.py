"""Every health dimension, in the order of the report, the dashboards and the docs."""

from typing import Final

from exporter.dimensions.conformance import CONFORMANCE
from exporter.dimensions.conversion import CONVERSION
from exporter.dimensions.coverage import COVERAGE
from exporter.dimensions.detachment import DETACHMENT
from exporter.dimensions.freshness import FRESHNESS
from exporter.dimensions.integrity import INTEGRITY
from exporter.dimensions.segments import SEGMENTS
from exporter.dimensions.stuck import STUCK
from exporter.dimensions.timeliness import TIMELINESS
from exporter.dimensions.uniqueness import UNIQUENESS
from exporter.dimensions.validity import VALIDITY
from exporter.dimensions.volume import VOLUME
from exporter.model.dimension import Dimension

DIMENSIONS: Final[tuple[Dimension, ...]] = (
    VOLUME,
    COVERAGE,
    SEGMENTS,
    CONFORMANCE,
    VALIDITY,
    UNIQUENESS,
    INTEGRITY,
    DETACHMENT,
    TIMELINESS,
    CONVERSION,
    STUCK,
    FRESHNESS,
)
