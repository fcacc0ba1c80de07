"""A terminal or a locale whose encoding lacks a sign: every command ends as it does elsewhere, and says the same."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Database
from processes import COMMAND, Exporter, environment, read_terminal
from test_gaps import CLOCK
from waiting import START_SECONDS, at_most, soon

from exporter.text.streams import spelt

ENCODINGS = ("ascii", "cp1252")

TABLES = """
create table visits (id text primary key, status text, started_at timestamptz, completed_at timestamptz, "größe" int);
create table scores (visit_id text references visits, version text, art text);
insert into visits values ('ä€😀', 'größer → 5', '2025-05-29', '2025-05-30', 1),
  ('ø', 'größer → 5', '2025-05-29', '2025-05-30', 1);
insert into scores values ('ø', 'v≤ä', 'š');
"""
CONFIG = """
database: {url: "${DATABASE_URL}", allow_superuser: true}
pipelines:
  care:
    window: {since: 2025-01-01}
    sessions: {table: visits, key: id, status: status, started_at: started_at, completed_at: completed_at,
      eligible: "\\"größe\\" > 0 and status <> 'ü€😀'"}
    records:
      scores: {table: scores, session_key: visit_id, version: {column: version, current: "v≤ä"},
        accepted_values: {art: ["š", "€"]}}
    limits: {sessions_with_gap: {critical: 0}, orphaned_records: {warning: 0}}
"""

FOR_PEOPLE = {
    "check": 1,
    "report": 0,
    "verify LIST": 1,
    "config check": 0,
    "config check --connect": 0,
    "--help": 0,
}
"""Commands that write text, with their exit codes."""

FOR_PROGRAMS = {
    "check --format json": 1,
    "check --format junit": 1,
    "report --format json": 0,
    "report --format html": 0,
    "verify LIST --format json": 1,
    "gaps": 0,
    "queries": 0,
    "rules": 0,
    "init --sessions visits": 0,
}

TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?|\d+\.\d+|time=\"\d+\"|\d+ (ms|s|bytes)")


@dataclass(frozen=True)
class Place:
    """A database, a config and a worklist of it whose texts few encodings have."""

    folder: Path
    dsn: str

    def run(self, command: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
        if "LIST" in command and not (self.folder / "list").exists():
            assert_well(self.run(f"gaps --worklist {self.folder / 'list'}"), 0)
        words = command.replace("LIST", str(self.folder / "list")).split()
        config = [] if {"--help", "rules", "init"} & set(words) else ["--config.file", str(self.folder / "c.yaml")]
        return subprocess.run(
            [*COMMAND, *words, *config],
            capture_output=True,
            env=environment(DATABASE_URL=self.dsn, **environ),
            timeout=at_most(START_SECONDS),
            check=False,
        )


@pytest.fixture
async def place(empty: Database, tmp_path: Path) -> Place:
    await empty.execute(TABLES)
    await empty.stop_clock(CLOCK)
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    return Place(tmp_path, empty.dsn)


def without_times(text: str) -> str:
    return TIMES.sub("T", text)


def as_far_as(text: str, encoding: str) -> str:
    """The text with those signs spelt that an encoding lacks."""
    return "".join(spelt(sign) if not sign.encode(encoding, "ignore") else sign for sign in text)


def assert_well(done: subprocess.CompletedProcess[bytes], code: int) -> None:
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"crashed" not in done.stderr
    assert b"UnicodeEncodeError" not in done.stderr


# --- What is printed


@pytest.mark.parametrize("command", FOR_PEOPLE)
def test_text_is_in_the_encoding_of_the_locale_with_what_it_lacks_spelt(place: Place, command: str) -> None:
    usual = place.run(command, PYTHONIOENCODING="utf-8")
    assert_well(usual, FOR_PEOPLE[command])
    for encoding in ENCODINGS:
        done = place.run(command, PYTHONIOENCODING=encoding)

        assert_well(done, FOR_PEOPLE[command])
        assert without_times(done.stdout.decode(encoding)) == without_times(as_far_as(usual.stdout.decode(), encoding))


def test_what_people_read_has_signs_that_encodings_lack(place: Place) -> None:
    """Else the test above would prove nothing."""
    usual, shown = (place.run("check", PYTHONIOENCODING=name).stdout.decode() for name in ("utf-8", "ascii"))
    assert ("≤" in usual, "<=" in usual) == (True, False)
    assert ("≤" in shown, "<=" in shown) == (False, True)
    assert place.run("report", PYTHONIOENCODING="utf-8").stdout.decode().startswith("# ❌ ")


@pytest.mark.parametrize("command", FOR_PROGRAMS)
def test_what_programs_read_is_utf_8_whatever_the_locale(place: Place, command: str) -> None:
    printed = set()
    for encoding in ENCODINGS:
        done = place.run(command, PYTHONIOENCODING=encoding)

        assert_well(done, FOR_PROGRAMS[command])
        printed.add(without_times(done.stdout.decode()))
    assert len(printed) == 1
    if command in ("check --format junit", "report --format html", "gaps", "queries"):
        assert re.search(r"ä|ü|≤|š", printed.pop())


def test_documents_are_well_formed_and_whole(place: Place) -> None:
    junit, gaps, queries = (
        place.run(command, PYTHONIOENCODING="ascii").stdout
        for command in ("check --format junit", "gaps --format json", "queries")
    )

    assert "≤" in ET.tostring(ET.fromstring(junit), "unicode")  # noqa: S314 - it is ours
    assert json.loads(gaps)[0]["session"] == "ä€😀"
    assert "ü€😀" in queries.decode()


def test_a_file_is_utf_8_whatever_the_locale(place: Place) -> None:
    report, config, rest = (place.folder / name for name in ("report", "config", "rest"))

    for command, encoding, code in (
        (f"report --output {report}", "ascii", 0),
        (f"init --sessions visits --output {config}", "latin-1", 0),
        (f"verify LIST --still {rest}", "cp1252", 1),
    ):
        assert_well(place.run(command, PYTHONIOENCODING=encoding), code)

    assert report.read_text(encoding="utf-8").startswith("# ❌")
    assert "größ" in config.read_text(encoding="utf-8")
    assert "ä€😀" in rest.read_text(encoding="utf-8")


# --- What is said beside it


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_fault_is_said_with_its_exit_code(place: Place, encoding: str) -> None:
    (place.folder / "c.yaml").write_text(CONFIG.replace('\\"größe\\" > 0', '\\"größe→\\" > 0'), encoding="utf-8")

    for command in ("check", "gaps"):
        done = place.run(command, PYTHONIOENCODING=encoding)

        assert_well(done, 3)
        assert "größe->".encode(encoding, "backslashreplace") in done.stdout + done.stderr


def test_a_wrong_word_or_name_of_a_file_that_no_encoding_has_is_a_usage_error(place: Place) -> None:
    for encoding in ("ascii", "utf-8"):
        for words in (["check", "--format", "größe→"], ["config", "check", "--config.file", b"\xff\xe2.yaml"]):
            done = subprocess.run(
                [*COMMAND, *words], capture_output=True, env=environment(PYTHONIOENCODING=encoding), check=False
            )

            assert_well(done, 2)
    odd = os.fsencode(place.folder) + b"/\xff.yaml"
    shutil.copy(os.fsencode(place.folder / "c.yaml"), odd)
    done = subprocess.run(
        [*COMMAND, "config", "check", "--config.file", odd],
        capture_output=True,
        env=environment(DATABASE_URL=place.dsn),
        check=False,
    )
    assert_well(done, 0)
    assert b"\\udcff.yaml: valid" in done.stdout


@pytest.mark.parametrize(("encoding", "style"), [("latin-1", "json"), ("ascii", "json"), ("cp1252", "logfmt")])
def test_the_log_is_well_formed(place: Place, encoding: str, style: str) -> None:
    text = CONFIG.replace('\\"größe\\" > 0', '\\"größe→\\" > 0')
    (place.folder / "c.yaml").write_text(text, encoding="utf-8")
    words = ("--config.file", str(place.folder / "c.yaml"), "--web.listen-address", "127.0.0.1:0")
    environ = environment(DATABASE_URL=place.dsn, PYTHONIOENCODING=encoding)
    with Exporter("serve", *words, "--log.format", style, environ=environ) as it:
        assert soon(lambda: it.events("collection.failing"), START_SECONDS)
        assert it.end(signal.SIGTERM, 5) == 0
        [line] = it.events("collection.failing")

    assert line.isascii()
    if style == "json":
        assert "größe→" in json.loads(line)["error"]
    else:
        [error] = re.findall(r' error=("(?:[^"\\]|\\.)*")', line)
        assert "größe→" in json.loads(error)


# --- A terminal, and a locale


def on_a_terminal(place: Place, *words: str, encoding: str) -> tuple[int, str]:
    """Exit code, and what a terminal of an encoding shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words, "--config.file", str(place.folder / "c.yaml")],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment(
            DATABASE_URL=place.dsn, PYTHONIOENCODING=encoding, TERM="xterm-256color", COLUMNS="200", CI="", NO_COLOR=""
        ),
    )
    os.close(theirs)
    shown = read_terminal(ours).decode(encoding)
    return process.wait(at_most(START_SECONDS)), shown


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_terminal_gets_every_command_in_its_own_encoding(place: Place, encoding: str) -> None:
    listed, (_, queries) = (
        on_a_terminal(place, "gaps", encoding=encoding),
        on_a_terminal(place, "queries", encoding=encoding),
    )
    checked = on_a_terminal(place, "check", encoding=encoding)

    assert listed[0] == 0
    assert as_far_as("ä€😀,scores,missing", encoding) in listed[1]
    assert as_far_as("'ü€😀'", encoding) in queries
    assert checked[0] == 1
    assert as_far_as("≤", encoding) in checked[1]
    assert "─" not in checked[1]


def test_a_locale_that_is_not_utf_8_is_as_such_a_terminal(place: Place) -> None:
    if not (localedef := shutil.which("localedef")):
        pytest.skip("needs localedef; run: apt-get install locales")
    made = subprocess.run(
        [localedef, "-i", "de_DE", "-f", "ISO-8859-1", str(place.folder / "de_DE.ISO-8859-1")],
        capture_output=True,
        text=True,
        check=False,
    )
    if not (place.folder / "de_DE.ISO-8859-1").exists():
        pytest.skip(f"needs the sources of locales ({made.stderr.strip()[:80]}); run: apt-get install locales")
    environ = {"LOCPATH": str(place.folder), "LC_ALL": "de_DE.ISO-8859-1"}

    done, usual = place.run("check", **environ), place.run("check", PYTHONIOENCODING="latin-1")
    junit, report = place.run("check --format junit", **environ), place.run("report", **environ)

    assert_well(done, 1)
    assert without_times(done.stdout.decode("latin-1")) == without_times(usual.stdout.decode("latin-1"))
    assert_well(junit, 1)
    assert "≤" in junit.stdout.decode()
    assert_well(report, 0)
    assert report.stdout.startswith(b"# [critical] ")
