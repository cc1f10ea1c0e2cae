"""What checks the project, each with a target in the Makefile."""
