"""`python -m aip.cli`: the same command without an installed script."""

from .main import main

main()
