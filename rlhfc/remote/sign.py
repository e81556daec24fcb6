"""Signatures of records: Ed25519, with keys in the files of OpenSSH.

    ssh-keygen -t ed25519 -N '' -f team-key      # team-key signs, team-key.pub is what others trust

See docs/decisions/0015-shared-store.md. ``cryptography`` is needed only where records are signed or
signatures are asked for.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfc.errors import Diagnostic, UserError
from rlhfc.remote.record import RefusedError, Shared, Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_TYPE = "ssh-ed25519"
MAKE = "make a pair with `ssh-keygen -t ed25519 -N '' -f FILE`"


class Signer:
    """Signs records with one private key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._private = private
        public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.name = public.decode()

    def signed(self, record: Shared) -> Shared:
        """The record with our signature."""
        value = base64.b64encode(self._private.sign(record.to_sign())).decode()
        return record.model_copy(update={"signature": Signature(signer=self.name, value=value)})


class Signers:
    """Whose signatures count."""

    def __init__(self, keys: dict[str, Ed25519PublicKey]) -> None:
        self._keys = keys

    def check(self, record: Shared) -> None:
        """Let a record pass that one of the trusted has signed.

        Raises:
            RefusedError: nobody, or nobody trusted, has signed it, or it is not what was signed.
        """
        from cryptography.exceptions import InvalidSignature

        if record.signature is None:
            raise RefusedError("nobody has signed it")
        key = self._keys.get(record.signature.signer)
        if key is None:
            raise RefusedError(f"`{record.signature.signer[:100]}`, who signed it, is not trusted")
        try:
            key.verify(base64.b64decode(record.signature.value, validate=True), record.to_sign())
        except (InvalidSignature, binascii.Error) as error:
            raise RefusedError("its signature does not fit: it is not what was signed") from error


def read_signer(path: Path) -> Signer:
    """Read a private key without a passphrase.

    Raises:
        UserError: the file is none, or cannot be read.
    """
    _check_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        private = load_ssh_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise UserError(Diagnostic(f"cannot read the key `{path}`: {error.strerror}", hint=MAKE)) from error
    except TypeError as error:
        hint = "sign with a key of its own that has none; " + MAKE
        raise UserError(Diagnostic(f"the key `{path}` has a passphrase", hint=hint)) from error
    except Exception as error:  # ValueError, UnsupportedAlgorithm, and what bcrypt raises
        raise UserError(Diagnostic(f"`{path}` is no private key of OpenSSH", hint=MAKE)) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise UserError(Diagnostic(f"the key `{path}` is not of type Ed25519", hint=MAKE))
    return Signer(private)


def read_signers(path: Path) -> Signers:
    """Read the public keys of those who are trusted: one a line, as in ``authorized_keys``.

    Raises:
        UserError: the file cannot be read, holds no key, or a line that is none.
    """
    _check_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(Diagnostic(f"cannot read `{path}`, which has the keys that are trusted")) from error
    found: dict[str, Ed25519PublicKey] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name = " ".join(words[:2])
        try:
            if words[0] != KEY_TYPE:
                raise ValueError(f"its type is not `{KEY_TYPE}`")
            key = load_ssh_public_key(name.encode())
            assert isinstance(key, Ed25519PublicKey)
            found[name] = key
        except Exception as error:  # as above
            message = f"`{path}:{number}` is no public key of type `{KEY_TYPE}`"
            raise UserError(Diagnostic(message, hint="copy the line from the `.pub` file")) from error
    if not found:
        raise UserError(Diagnostic(f"`{path}` has no key that is trusted", hint=MAKE))
    return Signers(found)


def _check_library() -> None:
    if importlib.util.find_spec("cryptography") is None:
        message = "signatures need `cryptography`, which is not installed here"
        raise UserError(Diagnostic(message, hint="`pip install 'rlhfc[sign]'`"))
