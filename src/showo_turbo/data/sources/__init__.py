"""Sources of samples, one file each. The interface of a source is `len(source)` and `source[index]`.

A source stores offsets into files, not contents, and opens a file when a sample is read. So its memory hardly grows
with the files, it can be read in any order, and it can be pickled for worker processes.
"""
