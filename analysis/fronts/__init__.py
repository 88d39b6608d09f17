"""Fronts with what is not sure about them, and the `frontier` command."""
