"""Features: from recordings to batches.

`audio` decodes and cleans, `extractors` turn samples into frames, `store` keeps the frames of a corpus in Arrow shards,
`normalisation` and `batches` hand them to the networks; `resident` keeps a fold's frames on a GPU.
"""
