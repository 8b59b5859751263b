"""Optuna's part of a sweep: the search space, the studies, samplers, pruners, importances."""
