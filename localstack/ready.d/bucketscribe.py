"""What LocalStack does as soon as it is ready: bucket, rules and queues, as `bucketscribe setup` makes them.

LocalStack executes this in its own Python at every start, without a `__name__` or a `__file__`
(https://docs.localstack.cloud/references/init-hooks); it can be repeated, and goes on from what is there.
`compose.yaml` mounts our source, of which it takes the one file that needs nothing but boto3. What goes wrong
stands in LocalStack's log, and as ERROR at /_localstack/init.
"""

import os
import sys

import boto3

sys.path.append("/opt/bucketscribe")

from bucketscribe.setup import set_up_bucket, set_up_queues

port = os.environ.get("GATEWAY_LISTEN", "4566").split(",")[0].rpartition(":")[2]
origins = os.environ.get("BUCKETSCRIBE_ALLOWED_ORIGINS", "").split(",")
here = {
    "endpoint_url": f"http://127.0.0.1:{port}",
    "region_name": os.environ.get("BUCKETSCRIBE_REGION", "us-east-1"),
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}

for step in (
    *set_up_bucket(
        boto3.client("s3", **here),
        os.environ.get("BUCKETSCRIBE_BUCKET", "bucketscribe"),
        [origin.strip() for origin in origins if origin.strip()],
    ),
    *set_up_queues(boto3.client("sqs", **here)),
):
    sys.stdout.write(f"bucketscribe: {step.name}: {step.seen}; {step.lacking or 'ok'}\n")
sys.stdout.flush()
