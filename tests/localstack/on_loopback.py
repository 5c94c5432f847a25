"""LocalStack without a container, reachable from this machine alone; run by the Python it is installed in.

Of an address in GATEWAY_LISTEN its web server takes the port only, and listens everywhere. Here it is told
the other half; all else is as in its image.
"""

from functools import partial
from importlib import import_module
from typing import Any

endpoints: Any = import_module("twisted.internet.endpoints")
endpoints.TCP4ServerEndpoint = partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")

import_module("localstack.runtime.main").main()
