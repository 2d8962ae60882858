"""The check of a data set: its files, its annotations, copies among them, and a repaired copy of it."""
