"""Networks: operations, cells, the supernet, the discrete network of a genotype."""
