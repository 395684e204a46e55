"""What is wrong with data, found before anything is trained: files, copies, labels, outliers, shortcuts, balance.

Nothing here reads a data source or changes a file: a table, its features and small grey pictures go in, a list of
:class:`~keras_transfer.checking.issues.Issue` comes out.
"""
