"""Networks: operations, cells, the supernet, the discrete network of a genotype.

Axes: images `(batch, channels, frequency, time)` or, where memory counts, `(batch, frequency, time, channels)`;
sequences `(batch, time, channels)`; stacked recurrences `(rows, time, batch, channels)`. Lengths are in frames.
"""
