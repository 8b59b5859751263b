"""emodarts: differentiable architecture search for speech emotion recognition, evaluated honestly."""

__version__ = "0.2.0"
