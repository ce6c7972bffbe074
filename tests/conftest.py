"""Every test runs with the packages' annotations checked, in the processes that it starts as well.

DEPTHTOK_CHECK_CALLS=0 turns it off. How it works is in tests/checked/.
"""

import os
import sys
from pathlib import Path

CHECKED = str(Path(__file__).parent / "checked")

if os.environ.setdefault("DEPTHTOK_CHECK_CALLS", "0") == "1":
    paths = [CHECKED, os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    sys.path.append(CHECKED)

    import checked_calls

    checked_calls.install()


def pytest_configure(config):
    if os.environ["DEPTHTOK_CHECK_CALLS"] == "1":
        # beartype draws which items of a list it looks at, also where hypothesis watches.
        config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside")
