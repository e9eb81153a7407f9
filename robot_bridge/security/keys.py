"""Key pairs of the bridge's links: two small yaml files in a keys folder, of which the secret one is for its owner alone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
import zmq
from zmq.utils import z85

from opentau.errors import KeyFileError

SECRET_SUFFIX, PUBLIC_SUFFIX = ".secret.yaml", ".public.yaml"
OWN_STATIONS = "station"
"""Name of the key that a session makes for the stations it starts itself; no key of a person's may have it."""
NUMBER_MARK = "-"
"""Separates a key's name from what tells its links apart: 'arm' may come as 'arm' and 'arm-2', and as nothing else."""

_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_PUBLIC_MODE, _SECRET_MODE, _FOLDER_MODE = 0o644, 0o600, 0o700
_OF_OTHERS = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """One identity; keys are CURVE keys in Z85, 40 characters each."""

    name: str
    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """What the side that dials needs: who it is, and whom alone it talks to."""

    pair: KeyPair
    server_public: str


def keys_dir() -> Path:
    """Return the folder of keys and of the trust list: `OPENTAU_KEYS`, else ~/.config/opentau/keys."""
    return Path(os.environ.get("OPENTAU_KEYS", Path.home() / ".config" / "opentau" / "keys"))


def make_pair(name: str) -> KeyPair:
    """Return a new key pair that lies nowhere yet."""
    require_name(name)
    public, secret = zmq.curve_keypair()
    return KeyPair(name=name, public=public.decode(), secret=secret.decode())


def save_pair(pair: KeyPair, folder: Path) -> tuple[Path, Path]:
    """Write secret and public file and return their paths; raises `KeyFileError` where the name is taken."""
    secret_file, public_file = folder / f"{pair.name}{SECRET_SUFFIX}", folder / f"{pair.name}{PUBLIC_SUFFIX}"
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    for path in (secret_file, public_file):
        if path.exists():
            raise KeyFileError(f"{path} exists; a key is never overwritten. Choose another name, or move that file away")
    write_yaml(secret_file, {"name": pair.name, "public": pair.public, "secret": pair.secret}, mode=_SECRET_MODE)
    write_yaml(public_file, {"name": pair.name, "public": pair.public}, mode=_PUBLIC_MODE)
    return secret_file, public_file


def load_pair(path: Path) -> KeyPair:
    """Read a secret file; raises `KeyFileError` where others may read it and where it holds no pair."""
    path = path.expanduser()
    if not path.is_file():
        raise KeyFileError(f"there is no key {path}; make one with `opentau keys new NAME`, or set OPENTAU_KEYS")
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & _OF_OTHERS:
        raise KeyFileError(f"{path} has the mode {mode:o}, so that others may use this key; run `chmod 600 {path}`")
    plain = _mapping(path, "name", "public", "secret")
    pair = KeyPair(name=plain["name"], public=plain["public"], secret=plain["secret"])
    require_name(pair.name)
    for key in (pair.public, pair.secret):
        require_key(key, where=str(path))
    if zmq.curve_public(pair.secret.encode()) != pair.public.encode():
        raise KeyFileError(f"{path} is damaged: its public key is not that of its secret key. Make a new pair")
    return pair


def load_public(path: Path) -> tuple[str, str]:
    """Return name and key of a public file; raises `KeyFileError` for anything else."""
    plain = _mapping(path, "name", "public")
    if "secret" in plain:
        raise KeyFileError(
            f"{path} holds a secret key, which stays on the machine it was made on; use the {PUBLIC_SUFFIX} file"
        )
    require_name(plain["name"])
    require_key(plain["public"], where=str(path))
    return plain["name"], plain["public"]


def secret_path(name: str) -> Path:
    """Return where the pair of this name lies in the keys folder."""
    require_name(name)
    return keys_dir() / f"{name}{SECRET_SUFFIX}"


def require_name(name: str) -> None:
    """Raise `KeyFileError` for what cannot name a key."""
    if not _NAME.fullmatch(name):
        raise KeyFileError(f"{name!r} cannot name a key; use up to 64 letters, digits and underscores, for example arm_1")


def require_key(key: str, *, where: str) -> None:
    """Raise `KeyFileError` for what is no CURVE key in Z85."""
    try:
        is_key = len(key) == 40 and len(z85.decode(key)) == 32
    except (KeyError, ValueError, UnicodeError):
        is_key = False
    if not is_key:
        raise KeyFileError(f"{where} holds no key: it must have 40 characters of Z85, as `opentau keys new` writes them")


def write_yaml(path: Path, plain: Any, *, mode: int) -> None:
    """Write a file atomically that has its mode before it has its content."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(handle, "w", encoding="utf-8") as file:
        yaml.safe_dump(plain, file, sort_keys=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _mapping(path: Path, *names: str) -> dict[str, str]:
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        kind = type(error).__name__  # its words would quote the file, and with it the secret
        raise KeyFileError(f"{path} cannot be read as a key ({kind}); it must be a yaml file of `opentau keys new`") from None
    if not isinstance(plain, dict) or any(not isinstance(plain.get(name), str) for name in names):
        raise KeyFileError(f"{path} is no key file: it must hold the texts {', '.join(names)}")
    return plain
