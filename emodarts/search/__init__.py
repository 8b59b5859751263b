"""Search for an architecture: by a supernet (DARTS, single level or bilevel), or by the controls beside it."""
