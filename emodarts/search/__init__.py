"""Search: the bilevel steps and the loop that turns a fold's train part into a genotype."""
