"""`python -m tsbench` is the `tsbench` command."""

from tsbench.cli import main

main()
