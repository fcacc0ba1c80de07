"""Commands of the exporter for a report, with the path of the config."""

import shlex
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class Shell:
    """`config_file` is the path in printed commands: the full path for the operator, else only the name."""

    config_file: str = "config.yaml"

    def command(self, *words: str) -> str:
        """A command with options and the config, quoted for a shell."""
        return shlex.join(["session-health-exporter", *words, "--config.file", self.config_file])

    @property
    def note(self) -> str:
        """Where to run the commands, in Markdown; empty if the place does not matter."""
        if PurePath(self.config_file).is_absolute():
            return ""
        return "Run the commands on the exporter's host, in the folder of the config file."
