"""One unit of work: search, derivation, training and prediction on one fold, in one process (`unit.run_fold`)."""
