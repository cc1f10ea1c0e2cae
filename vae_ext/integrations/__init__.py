"""Entry points for code that has its own names for these things; each imports the other package."""
