"""Python imports a file of this name at its start, where its folder is on PYTHONPATH.

tests/conftest.py puts it there, so that the commands and Ray's workers that tests start are checked
like the tests' own process.
"""

import os

if os.environ.get("DEPTHTOK_CHECK_CALLS") == "1":
    import checked_calls

    checked_calls.install()
