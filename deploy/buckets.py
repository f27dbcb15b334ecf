"""Creates buckets with versioning, unless they exist: ``python buckets.py NAME...``."""

from __future__ import annotations

import sys
import time
from typing import Any

ATTEMPTS = 60
"""Attempts to reach the server, one per second."""


def create(client: Any, name: str) -> None:
    """Create a bucket and enable versioning; wait until the server responds.

    Raises:
        ConnectionError: the server does not respond.
    """
    from botocore.exceptions import ConnectionError as Unreachable

    for _ in range(ATTEMPTS):
        try:
            if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=name)
            status = {"Status": "Enabled"}
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration=status)
            return
        except Unreachable:
            time.sleep(1)
    raise ConnectionError(f"{name}: the server does not respond. Check AWS_ENDPOINT_URL.")


if __name__ == "__main__":
    import boto3

    for bucket_name in sys.argv[1:]:
        create(boto3.client("s3"), bucket_name)
