"""The data of a sweep: corpora are read, labelled, divided into folds and extracted, and features reach the workers."""
