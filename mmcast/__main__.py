"""Run the command as ``python -m mmcast``."""

from mmcast.cli import main

main()
