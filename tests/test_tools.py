"""How promtool, prometheus and the like are found and fetched; stand-ins play apt and dpkg."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tools import NEWER_SUITE, find_tool, not_checked_summary
from waiting import at_most

SCRIPT = Path(__file__).parents[1] / "scripts" / "debian-tools"
COMMANDS = ("cat", "cp", "flock", "ln", "mkdir", "mktemp", "mv", "readlink", "rm", "sed", "sleep", "sort", "touch")
TOOLS = ("prometheus", "promtool")

APT = """#!/bin/sh
if [ "$1" = indextargets ]; then
    [ -z "${NO_MIRROR:-}" ] && echo https://mirror.test/debian/
    exit
fi
while [ "$1" != update ] && [ "$1" != download ]; do
    case $1 in Dir::Etc::sourcelist=*) cat "${1#*=}" >>"$CALLS" ;; esac
    shift
done
echo "$*" >>"$CALLS"
[ "$1" = download ] || exit 0
sleep "${SLOW:-0}"
if [ -n "${OFFLINE:-}" ]; then
    printf 'W: noise\\nE: Unable to   locate package\\n' >&2
    exit 100
fi
touch "$2_1_all.deb"
"""
APT_CACHE = """#!/bin/sh
printf 'prometheus\\n  Depends: libc6\\n'
[ -z "${SPLIT:-}" ] || printf '  Depends: promtool\\n'
[ -z "${PAGES:-}" ] || printf '  Depends: libjs-d3\\n  Depends: node-d3\\nlibjs-rickshaw\\n  Depends: libjs-d3\\n'
"""
DPKG = """#!/bin/sh
[ -f "$2" ] && mkdir -p "$3/usr/bin" "$3/usr/share/prometheus/web" "$3/usr/share/prometheus/alertmanager" || exit 1
case ${2##*/} in
    prometheus-alertmanager_*) names='prometheus-alertmanager amtool' reads=alertmanager ;;
    *) names='promtool prometheus' reads=web ;;
esac
echo "files of $reads" >"$3/usr/share/prometheus/$reads/file"
for name in $names; do
    printf '#!/bin/sh\\n[ %s != %s ] || exit 1\\ncat /usr/share/prometheus/%s/file 2>&1 || :\\n' \\
        "$name" "${BROKEN:-none}" "$reads" >"$3/usr/bin/$name"
    chmod +x "$3/usr/bin/$name"
done
"""


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def outcome(name: str, suite: str | None = None) -> Path | str:
    """Look for a tool; a skip must come out as a value here, or it would skip the test itself."""
    try:
        return find_tool(name, suite)
    except pytest.skip.Exception as skipped:
        return f"skip: {skipped.msg}"
    except pytest.fail.Exception as failed:
        return f"fail: {failed.msg}"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Take the tools and CI away; the only folder on PATH is returned."""
    for name in ("CI", "SESSION_HEALTH_REQUIRE_TOOLS", "PROMTOOL", "PROMETHEUS", "ALERTMANAGER"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr("tools.CACHE", tmp_path / "cache" / "bin")
    return path


def test_the_variable_wins_over_path_and_path_over_the_cache(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = executable(tmp_path / "cache" / "bin" / "promtool")
    assert outcome("promtool") == cached
    on_path = executable(bare / "promtool")
    assert outcome("promtool") == on_path
    named = executable(tmp_path / "my own" / "promtool-3")
    monkeypatch.setenv("PROMTOOL", str(named))
    assert outcome("promtool") == named


def test_alertmanager_goes_by_debians_name_too(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "cache" / "bin" / "alertmanager")
    of_debian = executable(bare / "prometheus-alertmanager")
    assert outcome("alertmanager") == of_debian
    on_path = executable(bare / "alertmanager")
    assert outcome("alertmanager") == on_path
    named = executable(tmp_path / "my own" / "alertmanager")
    monkeypatch.setenv("ALERTMANAGER", str(named))
    assert outcome("alertmanager") == named


def test_a_variable_that_names_nothing_fails_even_when_the_tool_is_there(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(bare / "promtool")
    monkeypatch.setenv("PROMTOOL", "/nowhere/promtool")
    assert outcome("promtool") == "fail: PROMTOOL=/nowhere/promtool is not a command: correct it or unset it"


@pytest.mark.parametrize("ci", ["", "0", "false", "False"])
@pytest.mark.usefixtures("bare")
def test_a_missing_tool_skips_with_the_remedy(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    assert outcome("prometheus") == "skip: needs prometheus; run: make tools"


@pytest.mark.parametrize(("variable", "value"), [("CI", "true"), ("SESSION_HEALTH_REQUIRE_TOOLS", "1")])
@pytest.mark.usefixtures("bare")
def test_a_missing_tool_fails_where_it_is_required(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert outcome("prometheus") == "fail: needs prometheus; run: make tools"


def test_a_tool_of_another_suite_is_that_one_or_none_and_its_absence_never_fails(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = executable(tmp_path / "cache" / "bin" / "promtool")
    executable(bare / "promtool")
    monkeypatch.setenv("PROMTOOL", str(named))
    monkeypatch.setenv("CI", "true")
    assert outcome("promtool", "forky") == "skip: needs promtool of forky; run: make tools"
    newer = executable(tmp_path / "cache" / "forky" / "bin" / "promtool")
    assert outcome("promtool", "forky") == newer
    newer = executable(tmp_path / "cache" / "forky-alertmanager" / "bin" / "amtool")
    assert outcome("amtool", "forky") == newer


class Terminal:
    def __init__(self, *reasons: str) -> None:
        self.lines: list[str] = []
        self.stats = {
            "skipped": [
                pytest.TestReport(
                    f"test_{number}",
                    ("", 0, ""),
                    {},
                    "skipped",
                    ("f.py", 1, f"Skipped: {reason}"),
                    "call",
                )
                for number, reason in enumerate(reasons)
            ]
        }

    def write_line(self, line: str, **_: bool) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    ("reasons", "lines"),
    [
        ((), []),
        (("not on Windows",), []),
        (
            (
                "needs promtool; run: make tools",
                "not on Windows",
                "needs prometheus; run: make tools",
            ),
            ["NOT CHECKED: 2 test(s) need promtool, prometheus, alertmanager or pgbouncer; run: make tools"],
        ),
        (
            (f"needs prometheus of {NEWER_SUITE}; run: make tools", "needs promtool; run: make tools"),
            [
                "NOT CHECKED with Prometheus 3: 1 test(s); run: make tools",
                "NOT CHECKED: 1 test(s) need promtool, prometheus, alertmanager or pgbouncer; run: make tools",
            ],
        ),
    ],
)
def test_the_last_line_counts_only_tests_that_missed_a_tool(reasons: tuple[str, ...], lines: list[str]) -> None:
    terminal = Terminal(*reasons)
    not_checked_summary(terminal)  # type: ignore[arg-type]
    assert terminal.lines == lines


class Checkout:
    """A copy of the script in a folder with an awkward name, and the only PATH it sees."""

    def __init__(self, root: Path) -> None:
        self.script = root / "a b $HOME" / "scripts" / "debian-tools"
        self.script.parent.mkdir(parents=True)
        shutil.copy(SCRIPT, self.script)
        self.tools = self.script.parents[1] / ".cache" / "tools"
        self.path = root / "bin"
        self.path.mkdir()
        self.calls = root / "calls"
        for command in (*COMMANDS, "chmod"):
            if found := shutil.which(command):
                (self.path / command).symlink_to(found)

    def with_apt(self) -> None:
        executable(self.path / "apt-get", APT)
        executable(self.path / "apt-cache", APT_CACHE)
        executable(self.path / "dpkg", DPKG)

    def start(self, *packages: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.script, *packages],
            env={"PATH": str(self.path), "CALLS": str(self.calls), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            text=True,
            encoding="utf-8",
        )

    def run(self, *packages: str, **env: str) -> tuple[int, str, str]:
        with self.start(*packages, **env) as process:
            out, err = process.communicate(timeout=at_most(30))
            return process.returncode, out, err

    def state(self) -> dict[str, tuple[int, int]]:
        """Identity and time of change of everything that is installed."""
        return {
            str(file.relative_to(self.tools)): (file.stat().st_ino, file.stat().st_mtime_ns)
            for file in sorted(self.tools.rglob("*"))
            if file.name != ".lock" and not file.is_dir()
        }


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


needs_flock = pytest.mark.skipif(not shutil.which("flock"), reason="fetching is for Debian, which has flock")


@needs_flock
def test_the_second_run_does_nothing(checkout: Checkout) -> None:
    checkout.with_apt()
    assert checkout.run(CI="true") == (0, "fetching prometheus from Debian's packages…\n", "")
    assert [os.access(checkout.tools / "bin" / name, os.X_OK) for name in TOOLS] == [True, True]
    before = checkout.state()
    (checkout.path / "apt-get").unlink()
    assert checkout.run(CI="true") == (0, "", "")
    assert checkout.state() == before
    assert checkout.calls.read_text(encoding="utf-8").split("\n") == [
        "update",
        "download prometheus",
        "",
    ]
    assert not list(checkout.tools.glob(".fetch.*"))


@needs_flock
def test_runs_side_by_side_fetch_once(checkout: Checkout) -> None:
    checkout.with_apt()
    runs = [checkout.start(SLOW="0.3") for _ in range(3)]
    said = [run.communicate(timeout=at_most(30)) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert sorted(said) == [
        ("", ""),
        ("", ""),
        ("fetching prometheus from Debian's packages…\n", ""),
    ]
    assert checkout.calls.read_text(encoding="utf-8").count("download") == 1


@needs_flock
def test_what_a_killed_run_left_is_cleared_and_a_lost_file_fetched_again(
    checkout: Checkout,
) -> None:
    checkout.with_apt()
    checkout.run()
    (checkout.tools / "bin" / "promtool").resolve().unlink()
    (checkout.tools / ".fetch.killed" / "root").mkdir(parents=True)
    assert checkout.run()[0] == 0
    assert os.access(checkout.tools / "bin" / "promtool", os.X_OK)
    assert not list(checkout.tools.glob(".fetch.*"))


@needs_flock
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"OFFLINE": "1"}, "Unable to locate package"),
        ({"BROKEN": "promtool"}, "the package does not unpack or run"),
        ({"BROKEN": "prometheus"}, "the package does not unpack or run"),
    ],
)
def test_a_failed_fetch_installs_nothing(checkout: Checkout, fault: dict[str, str], cause: str) -> None:
    checkout.with_apt()
    code, _, err = checkout.run(**fault)
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("NOT INSTALLED: ")
    assert cause in err
    code, _, err = checkout.run(**fault, CI="true")
    assert code == 1
    assert cause in err
    assert checkout.state() == {}


@pytest.mark.parametrize("env", [{}, {"CI": ""}, {"CI": "false"}])
def test_without_apt_one_line_tells_what_will_be_skipped(checkout: Checkout, env: dict[str, str]) -> None:
    code, out, err = checkout.run(**env)
    assert (code, out, err.count("\n")) == (0, "", 1)
    assert err.startswith("NOT INSTALLED: promtool and prometheus (there is no apt-get here); tests that need them")
    assert "Remedy: put both on PATH or name them in PROMTOOL= and PROMETHEUS=" in err


@pytest.mark.parametrize("env", [{"CI": "true"}, {"SESSION_HEALTH_REQUIRE_TOOLS": "1"}])
def test_without_apt_it_fails_where_the_tools_are_required(checkout: Checkout, env: dict[str, str]) -> None:
    assert checkout.run(**env) == (
        1,
        "",
        "cannot install promtool and prometheus: there is no apt-get here\n",
    )


def test_tools_from_elsewhere_need_nothing(checkout: Checkout, tmp_path: Path) -> None:
    named = executable(tmp_path / "my own" / "promtool-3")
    executable(checkout.path / "prometheus")
    assert checkout.run(CI="true", PROMTOOL=str(named)) == (0, "", "")
    assert checkout.run(CI="true")[0] == 1
    executable(checkout.path / "promtool")
    assert checkout.run(CI="true") == (0, "", "")
    assert not checkout.tools.exists()


def test_a_variable_that_names_nothing_stops_the_script(checkout: Checkout) -> None:
    wrong = "PROMTOOL=/nowhere/promtool is not a command: correct it or unset it\n"
    assert checkout.run(PROMTOOL="/nowhere/promtool") == (1, "", wrong)
    for tool in TOOLS:  # even when the tools are there
        executable(checkout.tools / "bin" / tool)
    assert checkout.run() == (0, "", "")
    assert checkout.run(PROMTOOL="/nowhere/promtool") == (1, "", wrong)


@needs_flock
@pytest.mark.parametrize(
    ("package", "archive", "program", "tool", "files"),
    [
        ("alertmanager", "prometheus-alertmanager", "alertmanager", "amtool", "files of alertmanager\n"),
        ("prometheus", "prometheus libjs-d3", "prometheus", "promtool", "files of web\n"),
    ],
)
def test_a_program_finds_its_files_without_root_wherever_the_folder_is_moved(
    checkout: Checkout, tmp_path: Path, package: str, archive: str, program: str, tool: str, files: str
) -> None:
    checkout.with_apt()
    said = f"fetching {package} from Debian's packages…\n"
    assert checkout.run(package, PAGES="1", CI="true") == (0, said, "")
    assert checkout.calls.read_text(encoding="utf-8").split("\n") == ["update", f"download {archive}", ""]
    assert sorted(file.name for file in (checkout.tools / "bin").iterdir()) == [program, tool]
    before = checkout.state()
    assert checkout.run(package, CI="true") == (0, "", "")
    assert checkout.state() == before
    moved = checkout.tools.rename(tmp_path / "moved $HOME")
    assert subprocess.check_output([moved / "bin" / program], cwd="/", text=True) == files


@needs_flock
def test_a_failed_fetch_of_alertmanager_installs_nothing(checkout: Checkout) -> None:
    checkout.with_apt()
    code, _, err = checkout.run("alertmanager", BROKEN="amtool", CI="true")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("cannot install alertmanager and amtool: the package does not unpack or run")
    assert checkout.state() == {}


def test_alertmanager_of_an_installed_package_needs_nothing(checkout: Checkout, tmp_path: Path) -> None:
    executable(checkout.path / "prometheus-alertmanager")
    named = executable(tmp_path / "my own" / "amtool")
    assert checkout.run("alertmanager", CI="true", AMTOOL=str(named)) == (0, "", "")
    assert checkout.run("alertmanager", CI="true")[0] == 1
    wrong = "ALERTMANAGER=/nowhere is not a command: correct it or unset it\n"
    assert checkout.run("alertmanager", ALERTMANAGER="/nowhere") == (1, "", wrong)


@needs_flock
def test_another_suite_has_a_folder_of_its_own_and_comes_from_the_same_mirror_signed(checkout: Checkout) -> None:
    checkout.with_apt()
    for tool in TOOLS:
        executable(checkout.path / tool)
    assert checkout.run("prometheus/forky", CI="true", SPLIT="1") == (
        0,
        "fetching prometheus of forky from Debian's packages…\n",
        "",
    )
    assert [os.access(checkout.tools / "forky" / "bin" / name, os.X_OK) for name in TOOLS] == [True, True]
    assert not list((checkout.tools / "bin").iterdir())
    source = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://mirror.test/debian/ forky main"
    calls = ["update", "download prometheus promtool"]
    said = checkout.calls.read_text(encoding="utf-8").splitlines()
    assert [line for line in said if line != source] == calls
    assert said[0] == source
    assert checkout.run("prometheus/forky", CI="true") == (0, "", "")
    assert checkout.calls.read_text(encoding="utf-8").splitlines() == said


@needs_flock
def test_alertmanager_of_another_suite_lies_beside_prometheus_of_that_suite(checkout: Checkout) -> None:
    checkout.with_apt()
    said = "fetching alertmanager of forky from Debian's packages…\n"
    assert checkout.run("alertmanager/forky", PAGES="1", CI="true") == (0, said, "")
    folder = checkout.tools / "forky-alertmanager" / "bin"
    assert [os.access(folder / name, os.X_OK) for name in ("alertmanager", "amtool")] == [True, True]
    assert not list((checkout.tools / "bin").iterdir())
    assert checkout.run("alertmanager/forky", CI="true") == (0, "", "")


@needs_flock
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"OFFLINE": "1"}, "Unable to locate package"),
        ({"BROKEN": "prometheus"}, "the package does not unpack or run"),
        ({"NO_MIRROR": "1"}, "this machine names no mirror of Debian"),
    ],
)
def test_another_suite_that_cannot_be_had_is_said_loudly_and_fails_nowhere(
    checkout: Checkout, fault: dict[str, str], cause: str
) -> None:
    checkout.with_apt()
    for required in ({}, {"CI": "true"}):
        code, _, err = checkout.run("prometheus/forky", **fault, **required)
        assert (code, err.count("\n")) == (0, 1)
        assert err.startswith(f"NOT CHECKED with the prometheus of forky ({cause}")
    assert checkout.state() == {}
    # The machine's own suite is as required as ever.
    assert checkout.run("prometheus", "prometheus/forky", **fault | {"OFFLINE": "1"}, CI="true")[0] == 1


@pytest.mark.parametrize(
    "wrong", ["prometheus/bin", "prometheus/../x", "prometheus/a/b", "pgbouncer/forky", "alertmanager/bin", "x"]
)
def test_a_wrong_name_is_refused_and_the_usage_shown(checkout: Checkout, wrong: str) -> None:
    usage = "usage: debian-tools [prometheus[/SUITE]] [alertmanager[/SUITE]] [pgbouncer]\n"
    assert checkout.run(wrong) == (2, "", usage)
    assert not checkout.tools.exists()
