"""Export: chosen networks as one ONNX graph, from samples to probabilities, with a card and a program that predicts.

Weights are not in the result tables, so the networks are trained again, and compared with what the tables hold.
"""
