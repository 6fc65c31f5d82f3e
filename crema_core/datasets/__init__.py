"""Named data sets: official annotation files in, lines of a data file out.

A data set is a `DatasetSpec` under the entry-point group `crema.datasets`, so a package of anybody can add one. One
file per data set; `spec.py` states what it declares, `prepare.py` writes the data file.
"""
