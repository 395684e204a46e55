"""Which unlabelled images to label next: the ones that a model doubts, different from one another.

Nothing here reads a file: probabilities and features go in, rows come out.
"""
