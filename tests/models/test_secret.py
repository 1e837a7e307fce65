"""Secrets by name: where they are looked for, who may read them, and that nobody hears their value."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest
from click.testing import CliRunner, Result

from aip import secret
from aip.cli.main import aip
from aip.cli.session import Session
from aip.errors import Denied, NotFound, UsageError
from aip.settings import Home

VALUE = "sk-4711"


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.kept:
            raise keyring.errors.PasswordDeleteError("not there")
        del self.kept[service, username]


@pytest.fixture(autouse=True)
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    one = Ring()
    before = keyring.get_keyring()
    keyring.set_keyring(one)
    monkeypatch.delenv("A_KEY", raising=False)
    yield one
    keyring.set_keyring(before)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def typed(home: Home, *words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(aip, ["secret", *words], obj=Session(home=home), input=stdin)


def test_the_environment_comes_before_the_file_and_the_file_before_the_keyring(
    home: Home, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret.keep_in_keyring("A_KEY", "of the keyring")
    assert secret.resolve("secret:A_KEY", home) == "of the keyring"
    secret.keep_in_file("A_KEY", "of the file", home)
    assert secret.resolve("secret:A_KEY", home) == "of the file"
    monkeypatch.setenv("A_KEY", "of the environment")
    assert secret.resolve("secret:A_KEY", home) == "of the environment"


def test_a_secret_that_is_nowhere_is_told_with_the_three_places_and_what_to_type(home: Home) -> None:
    with pytest.raises(NotFound) as caught:
        secret.resolve("secret:A_KEY", home)
    for place in ("environment variable A_KEY", str(home.root / "secrets" / "A_KEY"), "keyring"):
        assert place in caught.value.message
    assert "aip secret set A_KEY" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["A_KEY", "sk-4711", "secret:", "secret:../x", "secret:a/b", "secret:sk-4711"]
)
def test_what_is_no_reference_is_refused_and_not_repeated(text: str, home: Home) -> None:
    with pytest.raises(UsageError) as caught:
        secret.resolve(text, home)
    assert not secret.is_reference(text)
    assert "4711" not in f"{caught.value} {caught.value.hint} {caught.value.details}"


def test_a_file_is_for_its_owner_only(home: Home) -> None:
    path = secret.keep_in_file("A_KEY", VALUE, home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(Denied, match="others can read") as caught:
        secret.resolve("secret:A_KEY", home)
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_link_is_not_followed(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("x")
    elsewhere.chmod(0o600)
    path = secret.file_of("A_KEY", home)
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere)
    with pytest.raises(Denied, match="cannot be read"):
        secret.resolve("secret:A_KEY", home)


def test_a_file_that_is_no_text_is_refused_without_its_bytes(home: Home) -> None:
    path = secret.keep_in_file("A_KEY", "x", home)
    path.write_bytes(b"\xff4711")
    with pytest.raises(Denied) as caught:
        secret.resolve("secret:A_KEY", home)
    assert "4711" not in repr(caught.value.__dict__)
    assert caught.value.__context__ is None


def test_a_machine_without_a_keyring_looks_elsewhere(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(service: str, name: str) -> str:
        raise keyring.errors.NoKeyringError

    monkeypatch.setattr(keyring, "get_password", none)
    with pytest.raises(NotFound, match="no secret A_KEY"):
        secret.resolve("secret:A_KEY", home)


def test_a_value_is_set_from_stdin_and_never_shown(home: Home) -> None:
    result = typed(home, "set", "A_KEY", stdin=f"{VALUE}\n")
    assert result.exit_code == 0
    assert VALUE not in result.output + result.stderr
    assert secret.resolve("secret:A_KEY", home) == VALUE


def test_a_value_is_not_taken_as_an_argument(home: Home) -> None:
    result = typed(home, "set", "A_KEY", VALUE)
    assert result.exit_code == 2
    assert secret.names(home) == []


def test_the_keyring_is_an_option(home: Home, ring: Ring) -> None:
    assert typed(home, "set", "A_KEY", "--keyring", stdin=VALUE).exit_code == 0
    assert ring.kept == {("aip", "A_KEY"): VALUE}
    assert secret.names(home) == []


def test_the_names_are_listed_and_the_values_are_not(home: Home) -> None:
    typed(home, "set", "B_KEY", stdin=VALUE)
    typed(home, "set", "A_KEY", stdin=VALUE)
    result = typed(home, "list", "-o", "json")
    assert [row["name"] for row in json.loads(result.stdout)] == ["A_KEY", "B_KEY"]
    assert VALUE not in result.output


def test_a_secret_is_forgotten_wherever_it_was(home: Home, ring: Ring) -> None:
    typed(home, "set", "A_KEY", stdin=VALUE)
    typed(home, "set", "A_KEY", "--keyring", stdin=VALUE)
    assert typed(home, "rm", "A_KEY").exit_code == 0
    assert (secret.names(home), ring.kept) == ([], {})
    assert typed(home, "rm", "A_KEY").exit_code == 2


@pytest.mark.parametrize(("name", "stdin"), [("a-b", VALUE), ("A_KEY", ""), ("A_KEY", "x" * 70_000)])
def test_what_cannot_be_kept_is_refused(home: Home, name: str, stdin: str) -> None:
    assert typed(home, "set", name, stdin=stdin).exit_code == 2
    assert secret.names(home) == []
