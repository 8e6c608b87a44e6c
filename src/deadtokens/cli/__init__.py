"""The command line: parse, call, print. Results go to stdout, everything else to stderr."""

from deadtokens.cli.app import run

__all__ = ["run"]
