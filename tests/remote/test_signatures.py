"""Signed results: who has no trusted key can neither make nor change what others pull."""

import base64
import json
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from team import files_of, published

from rlhfc.errors import UserError
from rlhfc.remote.place import FolderPlace, action_path
from rlhfc.remote.record import RECORD_LIMIT, RefusedError
from rlhfc.remote.sign import read_signer, read_signers


class Keys:
    """Private keys by name in files of OpenSSH, and files of those who are trusted."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def signer(self, name: str):
        """The signer of this name; its key is made once."""
        path = self.folder / name
        if not path.exists():
            self.write(path, Ed25519PrivateKey.generate())
        return read_signer(path)

    def write(self, path, key):
        """Write a private key."""
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        return path

    def write_locked(self, path):
        """Write a key with a passphrase: its outer form, for to lock it in earnest takes one more library."""

        def field(data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + data

        public = base64.b64decode(self.signer("ada").name.split()[1])
        lock = (
            field(b"aes256-ctr")
            + field(b"bcrypt")
            + field(field(b"0123456789abcdef") + struct.pack(">I", 16))
        )
        data = b"openssh-key-v1\0" + lock + struct.pack(">I", 1) + field(public) + field(b"x" * 64)
        text = base64.b64encode(data).decode()
        path.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n")
        return path

    def trust(self, *names: str):
        """Trust in these, as a file with comments and blank lines says it."""
        path = self.folder / "trusted"
        lines = [f"{self.signer(name).name} {name}@example.org" for name in names]
        path.write_text("\n".join(["# the team", "", *lines, ""]))
        return read_signers(path)


@pytest.fixture
def keys(tmp_path):
    """Nobody's keys yet."""
    return Keys(tmp_path)


@pytest.fixture
def place(tmp_path):
    """An empty shared folder."""
    (tmp_path / "shared").mkdir()
    return FolderPlace(tmp_path / "shared")


def refused(team, place, key, trust) -> str:
    """Pull with trust; say why it was refused."""
    with pytest.raises(RefusedError) as told:
        team.pull("b", place, key, trust)
    assert [] == published(team.store("b"))
    return str(told.value)


def test_signed_result_is_pulled(team, place, keys):
    """A result that one of the trusted has signed is pulled; who asks for no signatures pulls it as well."""
    result = team.result("a")
    team.push("a", place, result, keys.signer("ada"))
    team.pull("b", place, result.key, keys.trust("bob", "ada"))
    team.pull("c", place, result.key)
    assert result == team.store("b").lookup(result.key) == team.store("c").lookup(result.key)


def test_unsigned_result_is_refused(team, place, keys):
    """Without a signature a result does not count where signatures are asked for."""
    result = team.result("a")
    team.push("a", place, result)
    expected = f"the record of `{result.key}` in `{place.name}`: nobody has signed it"
    assert expected == refused(team, place, result.key, keys.trust("ada"))


def test_stranger_is_refused(team, place, keys):
    """A signature of somebody who is not trusted does not count, and the key is named."""
    result, eve = team.result("a"), keys.signer("eve")
    team.push("a", place, result, eve)
    assert f"`{eve.name}`, who signed it, is not trusted" in refused(
        team, place, result.key, keys.trust("ada")
    )


@pytest.mark.parametrize("change", ["outputs", "seconds", "summary", "document", "signer", "value"])
def test_changed_record_is_refused(team, place, keys, change):
    """Whatever is changed in a signed record, it is not what was signed."""
    result = team.result("a")
    team.push("a", place, result, keys.signer("ada"))
    trust = keys.trust("ada", "bob")
    record = json.loads(place.read(action_path(result.key), 0, RECORD_LIMIT))
    match change:
        case "outputs":
            record["result"]["outputs"]["thing"] = "b3:" + "0" * 64
        case "seconds" | "summary":
            record["result"][change] = {"seconds": 2.0, "summary": {"loss": 0.25}}[change]
        case "document":
            record["document"]["size"] += 1
        case "signer":
            record["signature"]["signer"] = keys.signer("bob").name
        case "value":
            record["signature"]["value"] = record["signature"]["value"][4:]
    place.replace(action_path(result.key), json.dumps(record).encode())
    assert "its signature does not fit" in refused(team, place, result.key, trust)


def test_signature_of_another_result_is_refused(team, place, keys):
    """A signature cannot be taken from one record to another."""
    first, second = team.result("a", value=1), team.result("a", value=2)
    for result in (first, second):
        team.push("a", place, result, keys.signer("ada"))
    records = [json.loads(place.read(action_path(each.key), 0, RECORD_LIMIT)) for each in (first, second)]
    records[1]["signature"] = records[0]["signature"]
    place.replace(action_path(second.key), json.dumps(records[1]).encode())
    assert "its signature does not fit" in refused(team, place, second.key, keys.trust("ada"))


def test_unsigned_record_is_signed_later(team, place, keys):
    """A push with a key signs what is there unsigned, when it says the same, and only once."""
    result = team.result("a")
    team.push("a", place, result)
    assert ["signed", "there already"] == [
        team.push("a", place, result, keys.signer("ada"))[0] for _ in range(2)
    ]
    team.pull("b", place, result.key, keys.trust("ada"))


def test_private_key_goes_nowhere(team, place, keys, tmp_path):
    """No file of store or shared folder holds any line of the private key."""
    result = team.result("a")
    team.push("a", place, result, keys.signer("ada"))
    secret = [line for line in (tmp_path / "ada").read_bytes().splitlines() if not line.startswith(b"---")]
    places = [*(tmp_path / "shared").rglob("*"), *team.store("a").layout.root.rglob("*")]
    assert len(files_of(tmp_path / "shared")) == 7
    assert [] == [p for p in places if p.is_file() and any(line in p.read_bytes() for line in secret)]


def test_keys_that_are_none(keys, tmp_path):
    """A missing file, one with a passphrase, of another type, or without any key: each has its remedy."""
    locked = keys.write_locked(tmp_path / "locked")
    rsa = keys.write(tmp_path / "rsa", generate_private_key(65537, 2048))
    (tmp_path / "empty").write_text("# nobody\n")
    (tmp_path / "wrong").write_text("ssh-rsa AAAA\n")
    (tmp_path / "torn").write_text("ssh-ed25519 AAAA\n")
    told = []
    for read, name in (
        (read_signer, "missing"),
        (read_signer, locked.name),
        (read_signer, rsa.name),
        (read_signer, "empty"),
        (read_signers, "missing"),
        (read_signers, "empty"),
        (read_signers, "wrong"),
        (read_signers, "torn"),
    ):
        with pytest.raises(UserError) as error:
            read(tmp_path / name)
        told.append(error.value.diagnostics[0].message.replace(str(tmp_path), "."))
    assert [
        "cannot read the key `./missing`: No such file or directory",
        "the key `./locked` has a passphrase",
        "the key `./rsa` is not of type Ed25519",
        "`./empty` is no private key of OpenSSH",
        "cannot read `./missing`, which has the keys that are trusted",
        "`./empty` has no key that is trusted",
        "`./wrong:1` is no public key of type `ssh-ed25519`",
        "`./torn:1` is no public key of type `ssh-ed25519`",
    ] == told
