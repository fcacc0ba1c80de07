"""Faults of the exporter's own process: signals, descriptors, load, log, config, clock."""

from typing import Final

from fault import NO_ANSWER, WITHDRAWN, Fault
from process import CLOCK, Launch
from rows_sql import CHANGED, PACED, STEADY
from scene import MAX_AGE
from signals import (
    burned,
    config_is_a_fifo,
    crowded_page,
    hung_up_at_the_start,
    idle_clients,
    reloads,
    slow,
    stopped_between,
    stopped_in_a_collection,
    switched,
    talkative,
)

FROZEN: Final = MAX_AGE + 2
FEW: Final = 64
PATIENT: Final = {"connect_timeout: 2s": "connect_timeout: 10s", "statement_timeout: 2s": "statement_timeout: 10s"}
NOT_RELOADED: Final = ("config_last_reload_successful", 0.0)

PROCESS: Final = (
    Fault(
        "SIGKILL in a statement",
        slow,
        (WITHDRAWN, *NO_ANSWER),
        also=CHANGED,
        before=STEADY,
        config={**PACED, "statement_timeout: 2s": "statement_timeout: 15s", "mode: auto": "mode: full"},
        said_within=MAX_AGE + 2,
        green_for=MAX_AGE + 1,
        right_within=20.0,
        ends_by="SIGKILL",
        ends_at_once=True,
        left_for=2.0,
    ),
    Fault(
        "SIGSTOP in a collection, SIGCONT",
        stopped_in_a_collection,
        also=(*CHANGED, *NO_ANSWER),
        before=STEADY,
        config=PACED,
        lasts=FROZEN,
        green_for=MAX_AGE + 1,
        is_mute=True,
    ),
    Fault(
        "SIGSTOP between two collections, SIGCONT",
        stopped_between,
        also=NO_ANSWER,
        lasts=FROZEN,
        green_for=MAX_AGE + 1,
        is_mute=True,
    ),
    Fault(
        f"200 idle clients, {FEW} descriptors",
        idle_clients,
        lasts=5.0,
        launch=Launch(descriptors=FEW),
        scrape_within=1.0,
    ),
    Fault(
        "processors busy with other work",
        burned,
        also=NO_ANSWER,
        config=PATIENT,
        scrape_within=2.0,
        right_within=10.0,
        green_for=MAX_AGE,
    ),
    Fault(
        "20 clients ask for the page all the time",
        crowded_page,
        also=NO_ANSWER,
        config=PATIENT,
        scrape_within=2.0,
        right_within=10.0,
        green_for=MAX_AGE,
    ),
    Fault("a log that is not read", talkative, launch=Launch(reads_log=False), lasts=2.0, shows=NOT_RELOADED),
    Fault("config is a named pipe at a reload", config_is_a_fifo, lasts=4.0, right_within=8.0, shows=NOT_RELOADED),
    Fault("1,000 SIGHUPs, then SIGTERM", reloads, scrape_within=1.0, lasts=0.0),
    Fault("SIGHUP in the first second", hung_up_at_the_start, lasts=1.0, is_mute=True),
    Fault("clock of the exporter 1 day ahead", switched("86400"), launch=Launch(system=CLOCK)),
    Fault("clock of the exporter 1 day behind", switched("-86400"), launch=Launch(system=CLOCK)),
)
