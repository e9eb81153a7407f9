"""Key files and the trust list: modes, damage, names, records of what was revoked."""

from __future__ import annotations

import pytest
import yaml

from opentau.cli.main import main
from opentau.errors import KeyFileError
from robot_bridge.security.keys import load_pair, load_public, make_pair, save_pair
from robot_bridge.security.trust import Role, TrustList


def test_a_pair_comes_back_from_its_file_which_only_its_owner_reads(tmp_path):
    pair = make_pair("arm_1")
    secret_file, public_file = save_pair(pair, tmp_path)
    assert secret_file.stat().st_mode & 0o777 == 0o600
    assert load_pair(secret_file) == pair
    assert load_public(public_file) == ("arm_1", pair.public)
    assert pair.secret not in public_file.read_text() + repr(pair)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_secret_file_that_others_may_open_is_refused(tmp_path, mode):
    secret_file, _ = save_pair(make_pair("arm"), tmp_path)
    secret_file.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:o}.*chmod 600"):
        load_pair(secret_file)


def test_a_key_is_never_overwritten(tmp_path):
    save_pair(make_pair("arm"), tmp_path)
    with pytest.raises(KeyFileError, match="never overwritten"):
        save_pair(make_pair("arm"), tmp_path)


def test_a_public_key_of_another_pair_is_noticed(tmp_path):
    secret_file, _ = save_pair(make_pair("arm"), tmp_path)
    plain = yaml.safe_load(secret_file.read_text()) | {"public": make_pair("b").public}
    secret_file.write_text(yaml.safe_dump(plain))
    with pytest.raises(KeyFileError, match="damaged"):
        load_pair(secret_file)


def test_the_error_about_a_damaged_file_does_not_quote_the_secret(tmp_path):
    secret_file, _ = save_pair(make_pair("arm"), tmp_path)
    secret_file.write_text("secret: &{hidden")
    with pytest.raises(KeyFileError) as caught:
        load_pair(secret_file)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a-b", "../a", "a b", "x" * 65])
def test_names_are_plain_words(name):
    with pytest.raises(KeyFileError, match="cannot name a key"):
        make_pair(name)


def test_a_secret_file_is_not_taken_for_a_public_one(tmp_path):
    secret_file, _ = save_pair(make_pair("arm"), tmp_path)
    with pytest.raises(KeyFileError, match="secret key"):
        load_public(secret_file)


def test_revoking_keeps_the_line_and_the_key_does_not_come_back(tmp_path):
    trusted, pair = TrustList(tmp_path), make_pair("arm")
    trusted.trust("arm", pair.public, "robot", now=0.0)
    assert trusted.entry(pair.public).role == Role.ROBOT
    trusted.revoke("arm", now=60.0)
    assert trusted.entry(pair.public) is None
    (line,) = trusted.entries()
    assert (line.trusted_at, line.revoked_at) == ("1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z")
    with pytest.raises(KeyFileError, match="was revoked"):
        trusted.trust("arm", pair.public, "robot")


def test_a_name_belongs_to_one_key_at_a_time(tmp_path):
    trusted = TrustList(tmp_path)
    trusted.trust("arm", make_pair("arm").public, "robot")
    with pytest.raises(KeyFileError, match="trusted already"):
        trusted.trust("arm", make_pair("arm").public, "viewer")
    with pytest.raises(KeyFileError, match="starts itself"):
        trusted.trust("station", make_pair("arm").public, "robot")


def test_a_trust_list_that_others_may_change_is_refused(tmp_path):
    trusted = TrustList(tmp_path)
    trusted.trust("arm", make_pair("arm").public, "robot")
    trusted.path.chmod(0o622)
    with pytest.raises(KeyFileError, match="others may change"):
        trusted.entries()


def test_the_commands_make_trust_list_and_revoke(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENTAU_KEYS", str(tmp_path / "keys"))
    assert main(["keys", "new", "arm"]) == 0
    public = load_public(tmp_path / "keys" / "arm.public.yaml")[1]
    assert main(["keys", "trust", str(tmp_path / "keys" / "arm.public.yaml"), "--role", "robot"]) == 0
    assert main(["keys", "revoke", "arm"]) == 0
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    shown = capsys.readouterr().out
    assert public in shown
    assert "revoked 2" in shown
    assert main(["keys", "revoke", "nobody"]) == 2
    assert "no trusted key is named 'nobody'" in capsys.readouterr().err
