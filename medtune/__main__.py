"""`python -m medtune`."""

from medtune.cli import main

main()
