"""Extractors: from clean samples to frames `(time, channels * bins)`.

`extractor.Extractor` is the interface and `make_extractor` chooses by `features.kind`: `spectra` (log_mel, mfcc),
`encoders` (pretrained) and `functionals` (egemaps), each imported when it is needed.
"""
