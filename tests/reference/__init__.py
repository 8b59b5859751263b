"""Reference figures: small units whose every digit is recorded, so that a change that should change no figure is seen
to change none.

`units.toml` says what is run, `digests.json` what came out, in names of its own. Names of the product (modules,
settings, columns, dimensions) stand in `units.toml` and `product.py` alone: a renamed one is followed up there.
"""
