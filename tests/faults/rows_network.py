"""Faults of the network between the exporter and PostgreSQL."""

from typing import Final

from fault import NO_ANSWER, Fault
from process import RESOLVER, Launch
from proxy import BLACK_HOLE, CLOSE, GARBAGE, HALF_OPEN, REFUSE, RESET, SILENT, SLOW, Behaviour
from scene import MAX_AGE
from signals import certificate_expired, network, switched

BEYOND: Final = MAX_AGE + 1.5
"""Seconds of a fault that outlasts max_age: the numbers must be withdrawn."""
CUTS: Final = (40, 300, 900, 2_000, 3_500, 5_000, 7_000, 9_000, 11_000)
"""Bytes from the server after which a connection is cut: in the login, in a result, between two."""

NETWORK: Final = (
    Fault("port refuses", network(REFUSE), ("connect",), says="connection", is_brief=True),
    Fault("reset at accept", network(RESET), ("connect",)),
    Fault("accepted, closed at once", network(CLOSE), ("connect",)),
    Fault(
        "accepts, never answers",
        network(SILENT),
        ("connect",),
        says="no answer within",
        also=NO_ANSWER,
        said_within=4.0,
        green_for=4.0,
        lasts=BEYOND,
    ),
    Fault(
        "black hole, both ways",
        network(BLACK_HOLE),
        NO_ANSWER,
        said_within=MAX_AGE + 2,
        green_for=MAX_AGE + 1,
        lasts=BEYOND + 2,
        left_for=5.0,
        leaves_idle=True,
    ),
    Fault(
        "half open: the server's answers are lost",
        network(HALF_OPEN),
        NO_ANSWER,
        said_within=MAX_AGE + 2,
        green_for=MAX_AGE + 1,
        lasts=BEYOND + 2,
    ),
    Fault(
        "slow: 1 byte/s from the server",
        network(SLOW),
        NO_ANSWER,
        said_within=MAX_AGE + 2,
        green_for=MAX_AGE + 1,
        lasts=BEYOND + 2,
    ),
    Fault("garbage instead of the protocol", network(GARBAGE), ("connect",)),
    Fault("latency 5 ms each way", network(Behaviour(delay=0.005)), also=NO_ANSWER, right_within=8.0, green_for=5.0),
    Fault(
        "cut in mid-result",
        network(Behaviour(ends_open=True, accepts="pass", cuts=CUTS)),
        ("connect",),
        also=("internal",),
        lasts=4.0,
        is_brief=True,
    ),
    Fault(
        "the name does not resolve",
        switched("fails"),
        ("connect",),
        says="name of the host is unknown",
        launch=Launch(system=RESOLVER),
    ),
    Fault("certificate expired", certificate_expired, ("connect",), says="certificate has expired", place="tls"),
)
