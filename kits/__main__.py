"""`python -m kits` is `tandem`."""

from kits.cli import main

main()
