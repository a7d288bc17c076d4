"""Tools for operators: captures, dead letters, the state of a ticket."""
