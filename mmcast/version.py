"""The version: the only place that says it (setup.py reads this file as text)."""

__version__ = '0.1.0'
