"""The CPU time that a command takes to start, beside the imports that no collection can do without.

    make bench-startup

The base is `import asyncpg, yaml, prometheus_client`: the driver, the reader of the config, the writer of metrics.
Each is started several times, in turn; the least time counts, as other work on the machine only adds.
"""

import os
import subprocess
import sys
from typing import Final

ROUNDS: Final = 7
BASE: Final = "import asyncpg, yaml, prometheus_client"
COMMANDS: Final = (["--version"], ["--help"], ["check", "--help"], ["gaps", "--help"], ["serve", "--help"])


def cpu_seconds(*words: str) -> float:
    """User and system time of one Python process."""
    before = os.times()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    """Print the least time of each, and the ratio to the base."""
    runs = {BASE: ["-c", BASE], **{" ".join(words): ["-m", "exporter", *words] for words in COMMANDS}}
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, words in runs.items():
            least[name] = min(least[name], cpu_seconds(*words))
    for name, seconds in least.items():
        sys.stdout.write(f"{seconds:6.3f} s  {seconds / least[BASE]:5.2f} x  {name}\n")


if __name__ == "__main__":
    main()
