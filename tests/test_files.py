"""Files of the commands: a file is complete or unchanged, and only regular files are read."""

import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import at_most

from exporter.text import files
from exporter.text.exits import OutputError, UsageError

SMALL = 4096
"""Bytes of the largest file of a full disk."""


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond SMALL: the write fails with EFBIG, as with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- Writing


def test_a_file_that_cannot_be_completed_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_bytes(b"the earlier one")

    with full_disk(), pytest.raises(OutputError, match=r"report is not written \(File too large\), and no file has"):
        files.save(path, b"x" * (SMALL + 1))
    with full_disk(), pytest.raises(OutputError, match="name a file on a disk with more space"):
        files.save_new(tmp_path / "new", b"x" * (SMALL + 1))

    assert path.read_bytes() == b"the earlier one"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a file of another user")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_bytes(b"before")
    os.chown(path, 4321, 1234)

    files.save(path, b"after")

    assert (path.read_bytes(), path.stat().st_uid, path.stat().st_gid) == (b"after", 4321, 1234)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "report"
    path.write_bytes(b"before")
    path.chmod(mode)

    files.save(path, b"after")

    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"after", mode)


@pytest.mark.parametrize("write", [files.save, files.save_new])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path, write: object) -> None:
    assert callable(write)
    before = os.umask(0o027)
    try:
        write(tmp_path / "new", b"content")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every file")
def test_a_file_without_the_right_to_write_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_bytes(b"mine")
    path.chmod(0o444)

    with pytest.raises(UsageError, match="Permission denied"):
        files.save(path, b"after")

    assert path.read_bytes() == b"mine"


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link, dangling = tmp_path / "folder" / "report", tmp_path / "latest", tmp_path / "next"
    target.write_bytes(b"before")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "folder" / "new")

    files.save(link, b"after")
    files.save(dangling, b"new")

    assert link.is_symlink()
    assert dangling.is_symlink()
    assert (target.read_bytes(), (tmp_path / "folder" / "new").read_bytes()) == (b"after", b"new")


def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()

    files.save(path, b"content")
    reader.join(at_most(10))

    assert got == [b"content"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)

    files.save(path, b"content")

    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_or_a_full_device_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be written \(Is a directory\): name another file"):
        files.save(tmp_path, b"content")
    with pytest.raises(OutputError, match=r"/dev/full is not written \(No space left on device\)"):
        files.save(Path("/dev/full"), b"content")


# --- Reading


def test_only_regular_files_are_read_and_no_writer_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(files.FileRefusedError, match="not a regular file"):
            files.read_bytes(path, 10)
    with pytest.raises(IsADirectoryError):
        files.read_bytes(tmp_path, 10)
    with pytest.raises(OSError, match="Invalid argument"):
        files.read_bytes(Path("a\0b"), 10)


def test_a_file_is_read_up_to_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(files.FileRefusedError, match="larger than 1 MB"):
        files.read_bytes(path, files.MB)

    os.truncate(path, files.MB)
    assert len(files.read_bytes(path, files.MB)) == files.MB


def test_every_line_of_a_text_ends_alike(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("ä\r\nb\rc\n".encode())

    assert files.read_text(tmp_path / "text", 10) == "ä\nb\nc\n"
