"""python -m migician.cli is the same as the command."""

from migician.cli import main

main()
