"""Live captions: see docs/architecture.md."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or ONNX Runtime, from 1.32 on, reports to its makers
