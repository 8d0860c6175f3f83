"""Training for the models that `streamer` serves: see docs/training.md."""

import streamer  # noqa: F401  # before anything else: it keeps ONNX Runtime from reporting to its makers
