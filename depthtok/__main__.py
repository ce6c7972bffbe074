"""`python -m depthtok`: the command line."""

from depthtok.cli.main import main

main()
