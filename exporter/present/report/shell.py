"""What is to be typed: commands of this program, for the config that the report is about."""

import shlex
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class Shell:
    """`config_file` is the path as it is to be typed: whole for whoever may know it, else the name alone."""

    config_file: str = "config.yaml"

    def command(self, *words: str) -> str:
        """A command with its options, quoted for a shell; it names the config."""
        return shlex.join(["session-health-exporter", *words, "--config.file", self.config_file])

    @property
    def note(self) -> str:
        """Where commands are to be typed, in Markdown; empty where that is anywhere."""
        if PurePath(self.config_file).is_absolute():
            return ""
        return "Type commands where the exporter runs, in the folder of its config file."
