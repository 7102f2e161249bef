"""What programs of ours do first, as children: end with who asked, and hide their neighbours."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def begin() -> None:
    # Whoever asks may be killed, and a device that hangs would keep us for ever.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # `import cuda` is the user's, never our cuda.py: this folder leaves the module path.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
