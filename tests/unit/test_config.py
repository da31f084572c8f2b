# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings: which source wins, and the one line that names the source of a mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import config
from harness.config import ENV_PREFIX, Accel
from harness.errors import UsageError


class Place:
    """A current folder and a user's configuration of the test's own, and no variable that is not the test's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.home = folder / "home"
        self.cwd = folder / "here"
        self.cwd.mkdir()
        self.user_folder = self.home / "config" / "iov-harness"
        self.user_folder.mkdir(parents=True)
        for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(self.home / "config"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.home / "cache"))
        monkeypatch.chdir(self.cwd)

    def project(self, text: str) -> None:
        (self.cwd / "iov-harness.toml").write_text(text)

    def user(self, text: str) -> None:
        (self.user_folder / "config.toml").write_text(text)

    def env(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(f"{ENV_PREFIX}{name}", value)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def mistake(**flags: object) -> str:
    """Give the one line that refuses the settings."""
    with pytest.raises(UsageError) as refusal:
        config.load(**flags)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_without_any_source_the_defaults_hold(place: Place) -> None:
    settings = config.load()
    assert (settings.kernel, settings.accel, settings.qemu, settings.profile_dir) == ("debian-6.12", "auto", None, ())
    assert settings.cache_dir == place.home / "cache" / "iov-harness"


@pytest.mark.parametrize(
    ("sources", "winner"),
    [
        ("user", "from-user"),
        ("user project", "from-project"),
        ("user project env", "from-env"),
        ("user project env flag", "from-flag"),
        ("user env", "from-env"),
        ("user flag", "from-flag"),
    ],
)
def test_a_flag_goes_before_the_environment_the_project_and_the_user(place: Place, sources: str, winner: str) -> None:
    flags = {}
    for source in sources.split():
        if source == "flag":
            flags["kernel"] = "from-flag"
        elif source == "env":
            place.env("KERNEL", "from-env")
        elif source == "project":
            place.project('kernel = "from-project"')
        else:
            place.user('kernel = "from-user"')
    assert config.load(**flags).kernel == winner


def test_each_setting_comes_from_the_first_source_that_has_it(place: Place) -> None:
    place.user('kernel = "from-user"\naccel = "kvm"\nboot_timeout = 5')
    place.project('kernel = "from-project"\naccel = "tcg"')
    place.env("KERNEL", "from-env")
    settings = config.load(qemu=Path("/q"))
    assert (settings.kernel, settings.accel, settings.boot_timeout) == ("from-env", Accel.TCG, 5)
    assert settings.qemu == Path("/q")


def test_a_flag_that_was_not_given_hides_nothing(place: Place) -> None:
    place.project('kernel = "mine"\nprofile_dir = ["p"]')
    settings = config.load(kernel=None, profile_dir=())
    assert (settings.kernel, settings.profile_dir) == ("mine", (place.cwd / "p",))


def test_an_empty_variable_is_as_good_as_none(place: Place) -> None:
    place.project('kernel = "mine"')
    for name in ("KERNEL", "MODULES", "PROFILE_DIR", "CACHE_DIR"):
        place.env(name, "")
    settings = config.load()
    assert (settings.kernel, settings.modules, settings.profile_dir) == ("mine", None, ())
    assert settings.cache_dir == place.home / "cache" / "iov-harness"


def test_a_variable_holds_several_folders_as_path_does(place: Place) -> None:
    place.env("PROFILE_DIR", "/a:b::~/c:")
    assert config.load().profile_dir == (Path("/a"), place.cwd / "b", place.home / "c")


def test_a_relative_path_starts_from_the_file_it_stands_in(place: Place) -> None:
    place.user('qemu = "bin/qemu"\nkernel = "./bzImage"\nprofile_dir = ["mine", "/others"]')
    place.project('modules = "mods"\ncache_dir = "../cache"')
    settings = config.load()
    assert settings.qemu == place.user_folder / "bin/qemu"
    assert settings.kernel == str(place.user_folder / "bzImage")
    assert settings.profile_dir == (place.user_folder / "mine", Path("/others"))
    assert settings.modules == place.cwd / "mods"
    assert settings.cache_dir.resolve() == (place.cwd / "../cache").resolve()


def test_one_folder_of_profiles_needs_no_list_in_a_file(place: Place) -> None:
    place.project('profile_dir = "a:b"')
    assert config.load().profile_dir == (place.cwd / "a:b",)


def test_a_flag_and_a_variable_start_from_the_current_folder_and_stay_right_in_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.env("CACHE_DIR", "cache")
    settings = config.load(qemu=Path("qemu"))
    monkeypatch.chdir("/")
    assert (settings.qemu, settings.cache_dir) == (place.cwd / "qemu", place.cwd / "cache")


@pytest.mark.parametrize("source", ["env", "project", "flag"])
def test_a_tilde_is_the_home_folder_everywhere(place: Place, source: str) -> None:
    if source == "env":
        place.env("KERNEL", "~/k/bzImage")
        place.env("QEMU", "~/qemu")
    elif source == "project":
        place.project('kernel = "~/k/bzImage"\nqemu = "~/qemu"')
    given = {"kernel": "~/k/bzImage", "qemu": Path("~/qemu")} if source == "flag" else {}
    settings = config.load(**given)
    assert (settings.kernel, settings.qemu) == (str(place.home / "k/bzImage"), place.home / "qemu")


def test_the_name_of_a_kernel_is_no_path(place: Place) -> None:
    place.user('kernel = "debian-7.2"')
    assert config.load().kernel == "debian-7.2"


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 1000**3), ("500 MiB", 500 * 2**20), ("0", 0)])
def test_a_size_is_written_as_people_do(place: Place, text: str, size: int) -> None:
    place.env("CACHE_LIMIT", text)
    assert config.load().cache_limit == size


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCEL", "fast", "'auto', 'tcg' or 'kvm' (got 'fast')"),
        ("BOOT_TIMEOUT", "soon", "number"),
        ("BOOT_TIMEOUT", "-1", "greater than 0 (got '-1')"),
        ("BOOT_TIMEOUT", "nan", "finite"),
        ("BOOT_TIMEOUT", "inf", "finite"),
        ("CACHE_LIMIT", "lots", "(got 'lots')"),
        ("CACHE_LIMIT", "-5", "(got '-5')"),
        ("QEMU", "~no-such-user/qemu", "home directory"),
    ],
)
def test_a_bad_value_in_the_environment_names_its_variable(place: Place, name: str, value: str, message: str) -> None:
    place.project('accel = "tcg"\nboot_timeout = 5')
    place.env(name, value)
    line = mistake()
    assert line.startswith(f"IOV_HARNESS_{name}: ")
    assert message in line


@pytest.mark.parametrize("which", ["project", "user"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boot_timeout = 0", "boot_timeout: Input should be greater than 0 (got 0)"),
        ('boot_timeout = "soon"', "boot_timeout: "),
        ("kernel = 6.12", "kernel: Input should be a valid string (got 6.12)"),
        ("profile_dir = 7", "profile_dir: "),
        ("profile_dir = [7]", "profile_dir: "),
        ('kernal = "x"', "unknown setting 'kernal'; did you mean 'kernel'?"),
        ("[settings]\nkernel = 1", "unknown setting 'settings' (there are: accel, "),
        ("kernel = ", "is not TOML: Invalid value (at end of document)"),
        ("kernel = \udcff", "is not TOML: "),
    ],
)
def test_a_mistake_in_a_file_names_the_file(place: Place, which: str, text: str, message: str) -> None:
    file = {"project": Path("iov-harness.toml"), "user": place.user_folder / "config.toml"}[which]
    file.write_bytes(text.encode(errors="surrogateescape"))
    line = mistake()
    assert line.startswith(f"settings file {file}")
    assert message in line


def test_of_two_bad_values_the_one_that_counts_is_named(place: Place) -> None:
    place.user('accel = "user"')
    place.project('accel = "project"')
    place.env("ACCEL", "")
    assert mistake().startswith("settings file iov-harness.toml: accel: ")
    place.env("ACCEL", "env")
    assert mistake().startswith("IOV_HARNESS_ACCEL: ")
    assert mistake(accel="flag").startswith("--accel: ")


def test_a_misspelt_variable_is_not_passed_over(place: Place) -> None:
    place.env("KERNAL", "debian-7.2")
    assert mistake().startswith("unknown environment variable 'IOV_HARNESS_KERNAL'; did you mean 'IOV_HARNESS_KERNEL'?")


def test_a_settings_file_that_is_a_folder_is_one_clear_line(place: Place) -> None:
    (place.cwd / "iov-harness.toml").mkdir()
    assert mistake() == "settings file iov-harness.toml: Is a directory"


def test_a_user_without_a_folder_for_settings_has_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.cwd / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place.cwd / "file"))
    assert config.load().kernel == "debian-6.12"
