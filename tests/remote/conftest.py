"""Shared stores of all tested kinds; S3 is moto's server on this machine, reached through s3fs."""

import os

import fsspec
import pytest
from team import Team

from rlhfc.remote.opening import open_place

S3_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_server():
    """URL of a running S3 server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path_factory):
    """URL below an empty bucket of the server, which this process and its children reach."""
    for name, value in {**S3_VARIABLES, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.lower() in ("http_proxy", "all_proxy")]:
        monkeypatch.delenv(name)
    bucket = tmp_path_factory.mktemp("bucket-").name.replace("_", "-").lower()
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/team"


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request, tmp_path):
    """URL of an empty shared store, one of each kind."""
    if request.param == "folder":
        (tmp_path / "shared").mkdir()
        return str(tmp_path / "shared")
    if request.param == "memory":
        return f"memory://{tmp_path.name}-{os.getpid()}"
    return request.getfixturevalue("s3")


@pytest.fixture
def place(url):
    """The shared store behind that URL."""
    return open_place(url)


@pytest.fixture
def team(tmp_path):
    """Machines with a store each, without a shared one yet."""
    return Team(tmp_path)
