"""Embedders: text and pictures to unit vectors, by a CLIP model run in PyTorch or ONNX Runtime."""
