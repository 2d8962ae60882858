"""Formats of data sets, to COCO's and from it: a file for each, and what they share."""
