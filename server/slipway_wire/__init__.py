"""Everything that crosses from one program to another: bytes <-> values, no program's insides."""

__version__ = "0.1.0"
