"""The commands of the command line, one module each.

A module has `declare`, which adds the arguments to the parser of its command, and one function for each command.
`exporter.cli` imports only the module of the command that is run.
"""
