"""Results: the Arrow tables of a sweep, the only state that matters."""
