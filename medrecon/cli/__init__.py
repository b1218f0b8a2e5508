"""The command line. `main` is the entry point; no command holds maths or knows a file format."""

from medrecon.cli.app import main

__all__ = ["main"]
