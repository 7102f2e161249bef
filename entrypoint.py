"""PID 1 of the box: services without arguments, else that command (docs/architecture.md)."""

import gc
import time

gc.disable()  # what is imported stays; collected again once the box runs

STARTED = time.monotonic()  # before the imports: they are part of the start

import signal  # noqa: E402

# A signal that nobody waits for yet is lost on PID 1; a blocked one is kept until
# launcher.process.init asks for it.  So `docker stop` right after `docker run` does not take ten
# seconds.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})

import os  # noqa: E402
import sys  # noqa: E402

from launcher.cli.main import entrypoint  # noqa: E402

if __name__ == "__main__":
    status = entrypoint(sys.argv[1:], STARTED)
    try:
        if sys.stdout:  # none where it was closed
            sys.stdout.flush()
    except OSError:
        pass  # nobody reads it any more
    # Nothing else is left to be tidied up, which is what Python would spend its last 15 ms on.
    os._exit(status)
