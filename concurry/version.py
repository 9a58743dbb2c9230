"""The version, written here and nowhere else: pyproject.toml reads this line when a wheel is built."""

__version__ = "0.1.0"
"""The version, as text."""
