"""The peer of benchmarks/tus.py: tuspyserver with its S3 backend, as its documentation shows it."""

import os

import boto3
from botocore.config import Config
from fastapi import FastAPI
from tuspyserver import create_tus_router  # type: ignore[import-not-found]
from tuspyserver.storage.s3 import S3Storage  # type: ignore[import-not-found]

s3 = boto3.client(
    "s3",
    endpoint_url=os.environ["S3_ENDPOINT"],
    region_name=os.environ["REGION"],
    config=Config(s3={"addressing_style": "path"}),
)

app = FastAPI()
app.include_router(create_tus_router(prefix="files", storage=S3Storage(os.environ["BUCKET"], client=s3)))


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
