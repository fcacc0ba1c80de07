"""What the commands say of a url in a file, and of variables that decide nothing."""

from pathlib import Path

from conftest import TOUR, Database
from processes import COMMAND, run

WITH_FILE = TOUR.read_text().replace("url: ${DATABASE_URL}", "url_file: URL_FILE")


def checked(folder: Path, url: str | None, **environ: str) -> tuple[int, str, str]:
    """`config check` with the url in a file, None for none: the code, what it says and what it prints."""
    path, file = folder / "config.yaml", folder / "url"
    path.write_text(WITH_FILE.replace("URL_FILE", str(file)))
    if url is not None:
        file.write_text(url)
    done = run("config", "check", "--config.file", str(path), command=COMMAND, **environ)
    return done.returncode, done.stderr, done.stdout


def test_a_url_in_a_file_is_checked_where_the_file_can_be_read(tmp_path: Path) -> None:
    code, said, printed = checked(tmp_path, "postgresql://app:geheim%@db/shop?sslmod=require&ssl=true\n")

    assert (code, printed) == (2, "")
    assert [line for line in said.splitlines() if "databases.main: the url has" in line] == said.splitlines()[1:]
    for remedy in ("write %25", "did you mean sslmode?", "write sslmode=require"):
        assert remedy in said
    assert "geheim" not in said


def test_a_url_in_a_file_that_is_not_here_is_no_mistake_of_the_config(tmp_path: Path) -> None:
    assert checked(tmp_path, None)[0] == 0


def test_a_wrong_value_of_a_variable_is_a_mistake_like_one_of_the_url(tmp_path: Path) -> None:
    code, said, _ = checked(tmp_path, "postgresql://app@db/shop", PGSSLMODE="always")

    assert code == 2
    assert "databases.main: PGSSLMODE has a wrong value of sslmode (known: disable" in said


def test_a_variable_that_is_not_read_is_named_once(tmp_path: Path) -> None:
    environ = {"PGOPTIONS": "-c search_path=x", "PGSERVICE": "x", "PGHOST": "db"}
    code, said, _ = checked(tmp_path, "postgresql://app@/shop", **environ)

    assert code == 0
    [line] = said.splitlines()
    assert "environment.unread" in line
    assert "PGOPTIONS is set and not read: write options=" in line
    assert "PGSERVICE is set and not read: copy the parameters of the service file into the url" in line
    assert "PGHOST is set" not in line


def test_a_variable_that_is_not_read_is_named_by_whoever_measures_too(healthy: Database) -> None:
    done = run(
        "check",
        "--config.file",
        str(TOUR),
        DATABASE_URL=healthy.dsn,
        PGOPTIONS="-c search_path=x",
        PGCHANNELBINDING="require",
    )

    assert done.stderr.count("environment.unread") == 1
    assert "PGCHANNELBINDING is set and not read" in done.stderr
    assert "measured at" in done.stdout
