"""Sources of samples, one file each. A source is `len(source)` and `source[index]`, and nothing else.

A source keeps places in files, not contents, and opens a file when a sample is fetched. So its memory hardly grows with
the files, and it can be read from any index on, in any order and from several processes.
"""
