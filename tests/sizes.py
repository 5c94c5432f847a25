"""How large a large upload is: what BUCKETSCRIBE_TEST_MIB says, a gibibyte unless it says anything."""

import os

MIB = 1024**2
LARGE_MIB = int(os.environ.get("BUCKETSCRIBE_TEST_MIB", "1024"))
LARGE_BYTES = LARGE_MIB * MIB
