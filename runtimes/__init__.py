"""What runs a bundle: the manifest's types, the bundle, and one engine a runtime.

ONNX Runtime keeps a device id and usage events below the user's cache unless ``ORT_DISABLE_TELEMETRY`` is
set when it is imported: it is set here, unless the user has set it to something else.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
