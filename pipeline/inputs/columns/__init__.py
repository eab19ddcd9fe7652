"""Rows -> texts, by the columns that a data set has."""
