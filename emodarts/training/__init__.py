"""Training and prediction of discrete networks."""
