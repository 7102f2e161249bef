"""Commands about the launcher itself: its version, its pages, its own completion."""

from __future__ import annotations

import json
from argparse import Namespace


def version(options: Namespace) -> int:
    from launcher import __version__
    from launcher.detect import user_python
    from launcher.model.printable import printable
    from launcher.settings import load

    found = user_python.read_versions(load.user_python())
    if options.json:
        print(json.dumps({"launcher": __version__, **found._asdict()}, indent=2))
        return 0
    print(f"launcher {__version__}")
    for name, value in (("Python", found.python), ("PyTorch", found.pytorch), ("CUDA", found.cuda)):
        if value:
            print(printable(f"{name} {value}"))
    return 0


def explain(options: Namespace) -> int:
    from launcher.doctor import pages

    if options.list:
        print("\n".join(pages.findings()))
    else:
        print(pages.explain(" ".join(options.what)))
    return 0
