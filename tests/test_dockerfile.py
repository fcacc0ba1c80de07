"""The image, without a container engine: what it installs is installed, and run as it would be run.

Nobody but a real `docker build` can tell whether the base image exists and pip can be removed from it.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pytest
from conftest import SERVED, Database
from waiting import at_most

import exporter
from exporter.serve.listen import DEFAULT_ADDRESS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HOME = "/opt/session-health-exporter"
CONFIG = "/etc/session-health-exporter/config.yaml"
REVISION = "0123abc"

# As `docker run --read-only --cap-drop ALL --user 65532` does: no user of that number, nothing to write to, number 1.
_SEALED = """
while read -r _ place _; do
    case $place in
        /proc*) ;;
        *) mount -o remount,ro,bind "$place" 2>/dev/null || : ;;
    esac
done </proc/self/mounts
exec unshare --user --map-user=65532 --map-group=65532 -- "$@"
"""
CONTAINER = (
    *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-c", _SEALED, "sh"),
)


def instructions(text: str) -> list[tuple[str, str]]:
    """Every instruction of a Dockerfile with what follows it, however many lines that takes."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", "").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in whole)]


DOCKERFILE = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
BEGIN, *_, FINAL = [number for number, (word, _) in enumerate(DOCKERFILE) if word == "FROM"]


def said(word: str, stage: list[tuple[str, str]] = DOCKERFILE[FINAL:]) -> list[str]:
    """What follows an instruction, wherever the last stage has it."""
    return [rest for name, rest in stage if name == word]


def pairs(word: str) -> dict[str, str]:
    return {
        name: quoted or bare
        for rest in said(word)
        for name, quoted, bare in re.findall(r'([\w.]+)=(?:"([^"]*)"|(\S+))', rest)
    }


def context(target: Path) -> None:
    """What .dockerignore lets through."""
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert (first, rest[-1]) == ("*", "**/__pycache__")
    for line in rest[:-1]:
        assert line.startswith("!")
        source, copy = ROOT / line[1:], target / line[1:]
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)


def python() -> str:
    """The image's version of Python where this machine has it, else ours."""
    wanted = "python" + re.search(r"python:([0-9.]+)", DOCKERFILE[BEGIN][1])[1]  # type: ignore[index]
    runs = subprocess.run([shutil.which(wanted) or "false", "-c", "import pip, venv"], capture_output=True, check=False)
    return sys.executable if runs.returncode else wanted


def install(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Run what the builder stage runs."""
    [run] = said("RUN", DOCKERFILE[:FINAL])
    return subprocess.run(
        ["sh", "-c", run.replace(HOME, str(target))],
        cwd=source,
        env={**os.environ, "PYTHON": python(), "TMPDIR": str(source.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Image:
    """What the image's last stage has, in a folder of its own."""

    folder: Path

    def __call__(self, text: str) -> str:
        """A text of the Dockerfile, with the paths that are meant here."""
        return text.replace(HOME, str(self.folder / "release")).replace(CONFIG, str(self.folder / "config.yaml"))

    @property
    def environ(self) -> dict[str, str]:
        """The container's variables, and no other; an engine gives a user without an account this HOME."""
        given = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "REVISION": REVISION}
        for name, value in pairs("ENV").items():
            given[name] = re.sub(r"\$(\w+)", lambda found: given[found[1]], self(value))
        return {name: value for name, value in given.items() if name != "REVISION"}

    def command(self, *arguments: str) -> list[str]:
        """A command in the container."""
        return [*CONTAINER, *arguments]

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd="/",
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=at_most(30),
            check=False,
        )

    def check_health(self, port: int) -> int:
        """The exit code of the image's own check."""
        [check] = said("HEALTHCHECK")
        words = json.loads(check.partition("CMD ")[2].replace(DEFAULT_ADDRESS[1:], str(port)))
        return self.run(*words).returncode


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    folder = Path(tempfile.mkdtemp(prefix="image-")).resolve()
    try:
        (folder / "source").mkdir()
        context(folder / "source")
        answer = install(folder / "source", folder / "release")
        assert answer.returncode == 0, answer.stderr
        shutil.rmtree(folder / "source")
        (folder / "config.yaml").write_text(SERVED, encoding="utf-8")
        yield Image(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def contained(image: Image) -> Image:
    """The same, where this machine can play a container engine."""
    tried = image.run("sh", "-c", f"id -u; cat /proc/1/comm; touch /touched {image.folder}/touched; exit 0")
    if tried.returncode:
        reason = f"needs Linux that lets users have namespaces: {tried.stderr.strip()}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    assert tried.stdout.split() == ["65532", "sh"]
    assert tried.stderr.count("Read-only file system") == 2
    return image


# What the files say


def test_the_dockerfile_pleases_its_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    answer = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (answer.returncode, answer.stdout) == (0, "")


def test_the_image_says_what_the_project_says() -> None:
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in pairs("LABEL").items()}

    assert labels == {
        "title": PROJECT["name"],
        "description": PROJECT["description"],
        "licenses": PROJECT["license"],
        "revision": "$REVISION",
    }
    assert said("EXPOSE") == [DEFAULT_ADDRESS.removeprefix(":")]
    assert said("HEALTHCHECK")[0].count(DEFAULT_ADDRESS.removeprefix(":")) == 1
    assert [json.loads(words) for words in said("ENTRYPOINT")] == [list(PROJECT["scripts"])]


def test_the_image_is_not_roots_and_starts_from_a_tag() -> None:
    assert said("USER") == ["65532:65532"]
    assert said("STOPSIGNAL") == ["SIGTERM"]
    assert re.fullmatch(r"python:3\.\d+-slim-\w+ AS base", DOCKERFILE[BEGIN][1])
    assert all(rest.split()[0] == "base" for rest in said("FROM", DOCKERFILE)[1:])


def pins(name: str) -> dict[str, str]:
    """Every requirement of a lock with its hashes."""
    found = re.findall(r"^([\w.-]+)==(\S+.*?)(?=^\S|\Z)", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
    assert all("--hash=sha256:" in rest for _, rest in found)
    return dict(found)


def test_the_tools_that_build_it_are_those_of_development() -> None:
    build, dev = pins("requirements-build.txt"), pins("requirements-dev.txt")

    assert "hatchling" in build
    assert build.items() <= dev.items()


# What is installed


@pytest.mark.release
def test_nothing_is_installed_but_the_exporter_and_what_it_needs(image: Image) -> None:
    [packages] = (image.folder / "release" / "lib").glob("python3.*/site-packages")
    found = {found.name.lower().replace("_", "-"): found.version for found in distributions(path=[str(packages)])}
    wanted = {name: rest.split()[0] for name, rest in pins("requirements.txt").items()}

    assert found == wanted | {PROJECT["name"]: exporter.__version__}
    assert not [path for name in ("pip", "setuptools", "wheel", "hatchling") for path in packages.glob(f"{name}*")]
    assert not [path.name for path in (image.folder / "release" / "bin").glob("pip*")]


@pytest.mark.release
def test_installing_leaves_nothing_beside_it(image: Image) -> None:
    assert sorted(path.name for path in image.folder.iterdir()) == ["config.yaml", "release"]


@pytest.mark.release
def test_a_wheel_of_another_hash_is_not_installed(tmp_path: Path) -> None:
    context(tmp_path / "source")
    lock = tmp_path / "source" / "requirements-build.txt"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", lock.read_text()))
    answer = install(tmp_path / "source", tmp_path / "release")

    assert answer.returncode != 0
    assert "DO NOT MATCH THE HASHES" in answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_folder_that_is_there_is_not_installed_into(tmp_path: Path) -> None:
    answer = install(ROOT, tmp_path)

    assert answer.returncode == 1
    assert "is there already" in answer.stderr
    assert list(tmp_path.iterdir()) == []


# What runs


@pytest.mark.release
def test_the_installed_exporter_runs_without_its_source(contained: Image) -> None:
    answer = contained.run("python", "-c", "import exporter; print(exporter.__file__)")

    assert answer.stdout.startswith(str(contained.folder / "release"))
    assert contained.run(*PROJECT["scripts"], "--version").stdout == f"{PROJECT['name']} {exporter.__version__}\n"


@pytest.mark.release
def test_it_checks_a_config(contained: Image) -> None:
    check = (*PROJECT["scripts"], "config", "check", contained(f"--config.file={CONFIG}"))
    answer = contained.run(*check, DATABASE_URL="postgresql://shop.example/shop")

    assert (answer.returncode, answer.stderr) == (0, "")
    assert "valid" in answer.stdout
    assert contained.run(*check).returncode == 2


@pytest.mark.release
async def test_it_serves_is_healthy_and_stops_when_told(contained: Image, healthy: Database) -> None:
    port = free_port()
    with running(contained, healthy.dsn, port) as process:
        page = measured_page(port)
        health = contained.check_health(port)
        os.kill(first_process(process.pid), getattr(signal, said("STOPSIGNAL")[0]))
        _, log = process.communicate(timeout=at_most(10))

    assert f'revision="{REVISION}"' in page
    assert 'session_health_up{database="main",pipeline="assessments"} 1.0' in page
    assert health == 0
    assert process.returncode == 0, log
    assert "server.stopping" in log
    assert contained.check_health(port) == 1


def test_a_server_that_is_not_well_is_unhealthy() -> None:
    """The check asks for the status, not only for an answer."""
    [check] = said("HEALTHCHECK")
    *_, code = json.loads(check.partition("CMD ")[2])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(at_most(10))
        code = code.replace(DEFAULT_ADDRESS[1:], str(server.getsockname()[1]))
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            connection, _ = server.accept()
            with connection:
                asked = connection.recv(1000)
                connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")

    assert asked.startswith(b"GET /-/healthy ")
    assert process.returncode == 1


@contextmanager
def running(image: Image, dsn: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """What a container of the image runs when it is not told what."""
    words = [*json.loads(said("ENTRYPOINT")[0]), *json.loads(image(said("CMD")[0]))]
    with subprocess.Popen(
        image.command(*words, f"--web.listen-address=127.0.0.1:{port}"),
        cwd="/",
        env=image.environ | {"DATABASE_URL": dsn},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def first_process(parent: int) -> int:
    """The container's process number 1, by its number here."""
    [child] = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


def measured_page(port: int) -> str:
    """The metrics, as soon as everything was measured once."""
    deadline = time.monotonic() + at_most(20)
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=at_most(5))
        try:
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
            if "session_health_last_success_timestamp_seconds{" in page:
                return page
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    pytest.fail("it has measured nothing within 20 s")
