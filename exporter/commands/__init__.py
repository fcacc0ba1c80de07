"""The commands of the command line, one module each.

A module has `declare`, which adds the arguments of the command to a parser, and one function for each command.
`exporter.cli` imports only the module of the running command.
"""
