"""How units run: what a worker does, Ray Tune over the queues, the same without Ray, progress and metrics."""
