"""The rules of docs/measurement.md, each applied anew to what a results directory holds. Pure."""
