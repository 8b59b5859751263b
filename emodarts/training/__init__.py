"""Training of one network from scratch, prediction, and the support vector machine on functionals."""
