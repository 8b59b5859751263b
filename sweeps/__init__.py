"""Sweeps: many complete searches under Optuna, as Ray Tune trials. Only this package knows Ray, Optuna and Hydra."""
