"""Tokens in a file: who is let in, and what is refused."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from src.access import AccessPolicy
from src.errors import ConfigError
from src.tokens import Token, Tokens, file_section
from tests.helpers import run_script

ALICE, BOB = "a-token-of-alice-0123", "a-token-of-bob-012345"
DIGEST = hashlib.sha256(ALICE.encode()).hexdigest()
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def tokens_of(path: Path, **others: str) -> Tokens:
    return Tokens.from_environment({"ORCHESTRATOR_TOKENS_FILE": str(path), **others})


def found(tokens: Tokens, secret: str) -> Token:
    token = tokens.find(secret)
    assert token is not None
    return token


def test_a_section_lets_its_holder_in_with_its_role_until_it_expires(tmp_path: Path) -> None:
    text = file_section("alice", ALICE, "operate", NEW_YEAR) + "\n" + file_section("b o.b", BOB, "read", None)
    tokens = tokens_of(private(tmp_path / "t", text))
    alice, bob = found(tokens, ALICE), found(tokens, BOB)
    assert (alice.name, alice.role, bob.name, bob.role) == ("alice", "operate", "b o.b", "read")
    at = NEW_YEAR.timestamp()
    assert (alice.has_expired(at - 1), alice.has_expired(at), bob.has_expired(1e12)) == (False, True, False)
    assert tokens.find(ALICE + "x") is None and ALICE not in text


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("2027-01-01", NEW_YEAR),
        ("2027-01-01T00:00:00Z", NEW_YEAR),
        ("2027-01-01T02:00:00+02:00", NEW_YEAR),
    ],
)
def test_the_end_of_a_token_is_a_day_in_utc_or_a_time_with_its_zone(
    tmp_path: Path, given: str, at: datetime
) -> None:
    path = private(tmp_path / "t", f'[alice]\nsha256 = "{DIGEST}"\nexpires = {given}\n')
    assert found(tokens_of(path), ALICE).expires_at == at.timestamp()
    assert found(tokens_of(path), ALICE).role == "submit", "without a role, it may do the least"


# What the file holds, and what the refusal says. No refusal repeats a value.
MALFORMED = {
    "": "holds no token",
    "# nothing\n": "holds no token",
    "alice = 1": "must be a section",
    f'alice = "{ALICE}"': "must be a section",
    "[alice": "not valid TOML",
    "[alice]\n": "sha256 of alice",
    f'[alice]\nsha256 = "{ALICE}"': "64 hexadecimal digits",
    f'[alice]\ntoken = "{ALICE}"': "unknown key 'token' of alice",
    f'[alice]\nsha256 = "{DIGEST}"\nrole = "admin"': "role of alice must be one of submit, read, operate",
    f'[alice]\nsha256 = "{DIGEST}"\nexpires = 2027-01-01T00:00:00': "time with its zone",
    f'[alice]\nsha256 = "{DIGEST}"\nexpires = "{ALICE}"': "time with its zone",
    f'[alice]\nsha256 = "{DIGEST}"\n[bob]\nsha256 = "{DIGEST}"': "alice and bob have the same token",
    f'[local]\nsha256 = "{DIGEST}"': "local is reserved",
    f'["a\\u001blice"]\nsha256 = "{DIGEST}"': "printable",
    f'[""]\nsha256 = "{DIGEST}"': "printable",
}


@pytest.mark.parametrize(("text", "why"), MALFORMED.items())
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        tokens_of(private(tmp_path / "t", text))
    assert ALICE not in str(refused.value)


def test_a_file_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "binary").chmod(0o600)
    for name, why in {"missing": "no such file", ".": "folder", "binary": "UTF-8"}.items():
        with pytest.raises(ConfigError, match=why):
            tokens_of(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o620, 0o660, 0o666])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "t", file_section("alice", ALICE, "submit", None), mode)
    with pytest.raises(ConfigError, match=rf"mode {mode:04o}.*chmod 600"):
        tokens_of(path)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_owner_and_group_may_read_it(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "t", file_section("alice", ALICE, "submit", None), mode)
    assert found(tokens_of(path), ALICE).name == "alice"


@pytest.mark.parametrize(
    ("other", "why"),
    [(f"alice:{BOB}", "alice occurs twice"), (f"bob:{ALICE}", "have the same token")],
)
def test_variables_and_file_are_one_list(tmp_path: Path, other: str, why: str) -> None:
    path = private(tmp_path / "t", file_section("alice", ALICE, "submit", None))
    both = tokens_of(path, ORCHESTRATOR_TOKENS=f"bob:{BOB}:read", ORCHESTRATOR_TOKEN="x" * 16)
    assert set(both.names) == {"alice", "bob", "owner"} and len(both) == 3
    with pytest.raises(ConfigError, match=why):
        tokens_of(path, ORCHESTRATOR_TOKENS=other)


def test_a_reload_takes_the_new_file_or_keeps_the_old_tokens(tmp_path: Path) -> None:
    path = private(tmp_path / "t", file_section("alice", ALICE, "submit", None))
    access = AccessPolicy.from_environment("0.0.0.0", {"ORCHESTRATOR_TOKENS_FILE": str(path)})
    private(path, file_section("bob", BOB, "read", None))
    assert access.reload() == 1
    assert access.tokens.find(ALICE) is None and found(access.tokens, BOB).role == "read"
    for text in ("", "[bob"):
        private(path, text)
        with pytest.raises(ConfigError):
            access.reload()
        assert found(access.tokens, BOB).name == "bob", "an emptied file does not open the server"


def test_a_file_of_tokens_opens_a_server_to_other_machines(tmp_path: Path) -> None:
    path = private(tmp_path / "t", file_section("alice", ALICE, "submit", None))
    assert AccessPolicy.from_environment("0.0.0.0", {"ORCHESTRATOR_TOKENS_FILE": str(path)}).tokens


def test_a_session_ends_with_its_token() -> None:
    digest = hashlib.sha256(ALICE.encode()).digest()
    tokens = Tokens([Token("alice", digest, "read", expires_at=100.0)])
    mark = tokens.mark("alice", b"secret")
    assert tokens.marked("alice", mark, b"secret", 99.0) is not None
    assert tokens.marked("alice", mark, b"secret", 100.0) is None
    assert tokens.marked("alice", "", b"secret", 99.0) is None
    assert tokens.marked("bob", mark, b"secret", 99.0) is None
    renewed = Tokens([Token("alice", hashlib.sha256(BOB.encode()).digest(), "read")])
    assert renewed.marked("alice", mark, b"secret", 99.0) is None


def test_the_command_makes_a_section_that_lets_its_token_in(tmp_path: Path) -> None:
    done = run_script("token", "alice", "--role", "read", "--expires-in", "90d", cwd=tmp_path)
    assert done.process.returncode == 0, done.err
    secret = done.err.split()[-1]
    token = found(tokens_of(private(tmp_path / "t", done.out)), secret)
    assert (token.name, token.role) == ("alice", "read") and secret not in done.out
    assert token.expires_at is not None
    assert token.expires_at - datetime.now(UTC).timestamp() == pytest.approx(90 * 86_400, abs=120)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("local",), "local is reserved"),
        (("",), "1 to 100 characters"),
        (("a", "--expires-in", "soon"), "--expires-in must be a duration such as"),
        (("a", "--expires-in", "999999999w"), "--expires-in must be at most 10 years"),
        (("a", "--role", "admin"), "'admin' is not one of"),
    ],
)
def test_the_command_refuses_what_no_file_may_hold(
    tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    done = run_script("token", *arguments, cwd=tmp_path)
    assert done.process.returncode == 2 and why in done.err and not done.out
