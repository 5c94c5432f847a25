"""What AWS Lambda calls: each module's `handler` unpacks an event and calls the domain.

An execution environment begins with what a module does when it is imported, which makes no request: with
SnapStart it is frozen then, and what was connected would be dead when it is thawed.
"""

import gc
import os

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # What is imported stays: to look for garbage in it takes a tenth of a cold start. `invocation` begins to.
    gc.disable()
