"""Protocols: how a corpus is divided into train, dev and test.

`rules` has the rules that a reader puts together under a name, `splits` reads a user's own split, `folds` makes the
folds of a protocol, checks that none leaks, and hashes them.
"""
