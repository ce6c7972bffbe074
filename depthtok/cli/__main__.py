"""`python -m depthtok.cli`: what torchrun starts."""

from depthtok.cli.main import main

if __name__ == "__main__":
    main()
