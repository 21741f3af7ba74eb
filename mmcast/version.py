"""The package's version, defined only here (setup.py reads this file as text)."""

__version__ = '0.1.0'
