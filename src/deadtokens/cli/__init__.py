"""The command line: parse, call, print. Results go to stdout, everything else to stderr."""

import os
import signal
import sys
import threading
from typing import Any

from deadtokens.interrupts import held_back


def run() -> None:
    """Run the program; Ctrl-C ends it with exit status 130, also while its modules are loaded."""
    shown = sys.unraisablehook

    def come_again(dropped: Any) -> None:
        """Where Python would print Ctrl-C and drop it, as in a finalizer, send it once more."""
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            shown(dropped)

    sys.unraisablehook = come_again
    try:
        # While Python compiles a module Ctrl-C may come out as another error.
        with held_back():
            from deadtokens.cli.app import run as run_app

        run_app()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        sys.unraisablehook = shown


__all__ = ["run"]
