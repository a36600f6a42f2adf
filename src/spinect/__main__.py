"""``python -m spinect``: the command line."""

from spinect.cli.main import main

main()
