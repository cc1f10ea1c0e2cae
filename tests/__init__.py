"""The suite. tests/cases.py is the table of what it is about."""
