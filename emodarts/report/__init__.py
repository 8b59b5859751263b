"""Reports: what the result tables say, computed from Parquet alone."""
