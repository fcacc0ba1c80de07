"""The readers under atheris, which looks for inputs that reach new code: https://github.com/google/atheris.

`python atheris_readers.py SECONDS` runs every reader for so long, each in a process of its own.  Without atheris,
nothing runs, and the last line says so: the library has no wheel for every Python that the exporter supports.
"""

import importlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

WORKLIST: Final = (
    b'{"worklist":2,"made_at":"2026-11-24T13:16:04Z","exporter":"0","database":"main","identity":null,"pipeline":'
    b'"assessments","window":{"since":"2025-08-01T00:00:00Z","last_seconds":null},"key":["id"],"terms":{},"records":'
    b'[{"record":"profiles","satisfied_by":"any_version","current":null,"accepted":[],"changes":{"create":1,'
    b'"derive_anew":0}}],"filters":{"record":null,"reason":null},"sessions":1,"unnamed":0,"batch_size":1,"batches":1}\n'
    b'{"batch":1,"size":1,"sessions":[{"session":"a","reasons":{"profiles":"missing"}}]}\n'
)

SEEDS: Final = {
    "config": (b"",),
    "worklist": (WORKLIST,),
    "address": (b":1", b"[::1]:10157", b"a.b:1"),
    "url": (b"postgresql://u:p@h:5432,i/d?sslmode=require&connect_timeout=5", b"postgres:///d?host=/tmp"),
}
"""Right inputs to begin with, by reader."""


def main() -> int:
    """Run all readers for some seconds each, or with a name one of them in this process."""
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("!! NOT RUN: the readers under atheris; install it: .venv/bin/pip install atheris\n")
        return 0
    if len(sys.argv) > 2:  # a name, and the arguments of libFuzzer
        run(sys.argv.pop(1))
    failed = [name for name in SEEDS if not is_clean(name, int(sys.argv[1]))]
    if failed:
        sys.stderr.write(f"the inputs above break: {', '.join(failed)}\n")
    return 1 if failed else 0


def is_clean(name: str, seconds: int) -> bool:
    """Run one reader in a process of its own; what breaks the reader is on standard error."""
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS[name]):
            (Path(folder) / str(number)).write_bytes(seed)
        if name == "config":
            (Path(folder) / "tour").write_bytes((Path(__file__).parents[2] / "config.yaml").read_bytes())
        command = [
            sys.executable,
            __file__,
            name,
            f"-max_total_time={seconds}",
            "-max_len=16384",
            "-print_final_stats=1",
        ]
        done = subprocess.run([*command, f"-artifact_prefix={folder}/", folder], check=False)
    return done.returncode == 0


def run(name: str) -> None:
    """Give one reader inputs until libFuzzer ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["exporter", "yaml"]):
        readers = importlib.import_module("readers")
    signed = importlib.import_module("inputs").signed
    own = {
        "config": readers.reads_config(Path(tempfile.mkdtemp())),
        # Else the digest of nearly every input is wrong.
        "worklist": lambda data: readers.read_worklist(signed([data])),
    }
    atheris.Setup(sys.argv, own.get(name) or readers.READERS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
