"""`python -m depthtok`: the command line."""

from depthtok.cli import main

main()
