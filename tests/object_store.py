"""A real S3 server on loopback (moto's), and servers that misbehave as object stores do."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import SecretStr

from candlewick.lake import Lake
from candlewick.lake_opening import open_lake
from candlewick.settings import LakeSettings

BUCKET = "lake"


def lake_settings(endpoint: str, url: str = f"s3://{BUCKET}/desk", timeout_s: float = 10) -> LakeSettings:
    """A lake on that server; every prefix of its bucket is a lake of its own."""
    return LakeSettings(
        url=url,
        endpoint=endpoint,
        region="us-east-1",
        access_key_id=SecretStr("loopback-key"),
        secret_access_key=SecretStr("loopback-secret"),
        timeout_s=timeout_s,
    )


def lake_at(endpoint: str, prefix: str) -> Lake:
    """A lake below a prefix of the bucket."""
    return open_lake(lake_settings(endpoint, f"s3://{BUCKET}/{prefix}"))


@contextmanager
def s3_server() -> Iterator[str]:
    """Address of an S3 server with the empty bucket BUCKET."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        credentials = {"aws_access_key_id": "loopback-key", "aws_secret_access_key": "loopback-secret"}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **credentials).create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()


@contextmanager
def strange_server(status: int, body: str = "", delay_s: float = 0) -> Iterator[tuple[str, list[str]]]:
    """Address of a server that answers everything alike, and the requests that came."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            requests.append(self.command)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(delay_s)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = do_DELETE = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
