"""Trained networks to take away: ONNX, safetensors, a model card and a small program that predicts with them."""
