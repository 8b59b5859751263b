"""What a command runs: a search, the published protocol beside it, genotypes of another sweep, or a forecast alone."""
