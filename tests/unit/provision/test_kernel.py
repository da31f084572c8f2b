# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels by name from a small distribution, by path from a folder, and recipes good and bad."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from makings import Distribution, bzimage, put

from harness import paths
from harness.errors import CouldNotRun, UsageError
from harness.provision import kernel
from harness.provision.apt import SUITES, FetchFailed
from harness.provision.headers import BuildTree, DistributionHeaders
from harness.provision.kbuild import fragments, series
from harness.provision.kernel import BuildRecipe, Kernel, Recipe

RECIPE = r"""
summary = "A kernel"
suite = "trixie"
release = '6\.1\.\d+\+x'
packages = ["image.{release}", "modules.{release}"]
image = "boot/vmlinuz-{release}"
modules = "usr/lib/modules/{release}"
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """Give a distribution, and `small` as the only recipe."""
    put(tmp_path / "recipes/small.toml", RECIPE)
    monkeypatch.setattr(paths, "kernels", lambda: tmp_path / "recipes")
    return Distribution(tmp_path / "world", monkeypatch)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Give the path of a kernel with its modules in `tree` beside it."""
    put(tmp_path / "own/tree/lib/modules/6.12.1/kernel/a.ko", "")
    put(tmp_path / "own/config", "CONFIG_PCI=y\nCONFIG_VFIO=m\n")
    return put(tmp_path / "own/bzImage", bzimage(), 0o755)


def add(world: Distribution, release: str) -> None:
    files: dict[str, str | bytes] = {f"boot/vmlinuz-{release}": bzimage(), f"boot/config-{release}": "CONFIG_PCI=y\n"}
    world.add(f"image.{release}", f"{release}-1", files)
    world.add(f"modules.{release}", f"{release}-2", {f"usr/lib/modules/{release}/kernel/a.ko": ""})


def provide(world: Distribution, wanted: str, modules: Path | None = None, *, refresh: bool = False) -> Kernel:
    return kernel.provide(world.cache, world.apt, wanted, modules, refresh=refresh)


def refused(world: Distribution, wanted: str, modules: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        provide(world, wanted, modules)
    assert "\n" not in str(caught.value)
    assert not world.asked
    return str(caught.value)


FETCHED = {name: recipe for name, recipe in kernel.recipes().items() if isinstance(recipe, Recipe)}
BUILT = {name: recipe for name, recipe in kernel.recipes().items() if isinstance(recipe, BuildRecipe)}


@pytest.mark.parametrize(("name", "recipe"), BUILT.items(), ids=BUILT)
def test_a_kernel_that_is_built_has_the_name_that_its_order_would_get(name: str, recipe: BuildRecipe) -> None:
    assert recipe.summary
    assert replace(recipe.order, series=()).default_name == name
    assert all(series.read(path) for path in recipe.order.series)
    assert set(recipe.config) <= set(fragments.known())


@pytest.mark.parametrize(("name", "recipe"), FETCHED.items(), ids=FETCHED)
def test_every_recipe_is_for_the_flavour_and_the_series_that_it_is_named_for(name: str, recipe: Recipe) -> None:
    distribution, series = name.split("-")
    assert distribution == "debian"
    assert recipe.suite in SUITES
    assert recipe.summary
    assert re.fullmatch(recipe.release, f"{series}.107+deb13-amd64")
    for other in (f"{series}.107+deb13-cloud-amd64", f"{series}.107+deb13-rt-amd64", f"{series}1.7+deb13-amd64"):
        assert not re.fullmatch(recipe.release, other)


def test_there_is_a_recipe_for_the_reference() -> None:
    assert kernel.REFERENCE in kernel.recipes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('suite = "trixie"', "", ": suite: Field required"),
        ("summary =", "summry =", ": summary: Field required"),
        ("suite = ", "suite ", " is not TOML: "),
        (r"6\.1\.\d+\+x", "6.(", ": release: Value error, '6.(' is no regular expression: "),
        ('["image.{release}", "modules.{release}"]', "[]", ": packages: Tuple should have at least 1 item"),
        ('"modules.{release}"]', '"modules"]', ": packages.1: String should match "),
        ("image.{release}", "{release}.{release}", ": packages.0: String should match "),
        ("vmlinuz-{release}", "vmlinuz-{version}", ": image: String should match "),
        ("modules/{release}", "modules/{", ": modules: String should match "),
    ],
)
def test_a_bad_recipe_is_named_in_one_line(
    world: Distribution, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = put(tmp_path / "recipes/bad.toml", RECIPE.replace(old, new, 1))
    assert refused(world, "small").startswith(f"kernel recipe {path}{message}")


@pytest.mark.parametrize("name", ["", "smal", "small.toml", ".", "x" * 300])
def test_an_unknown_name_is_told_with_those_there_are(world: Distribution, tmp_path: Path, name: str) -> None:
    put(tmp_path / "recipes/large.toml", RECIPE)
    message = refused(world, name)
    assert message.startswith(f"unknown kernel {name!r}")
    assert message.endswith(": choose from large, small, or give a path with a '/'")


def test_a_name_that_is_a_file_here_is_told_how_to_be_written(
    world: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "write" not in refused(world, "bzImage")
    put(tmp_path / "bzImage", bzimage())
    assert "unknown kernel 'bzImage' (a file? write ./bzImage): choose" in refused(world, "bzImage")
    assert provide(world, "./bzImage").image == tmp_path / "bzImage"


def test_modules_go_with_no_name(world: Distribution, own: Path) -> None:
    message = refused(world, "small", own.parent / "tree")
    assert message == "--modules goes with a kernel given by path; 'small' is a name and brings its own"


def test_a_kernel_of_ones_own_is_taken_as_it_is(world: Distribution, own: Path) -> None:
    found = provide(world, str(own))
    assert (found.name, found.image, found.release, found.modules) == (str(own), own, "6.12.1", None)
    assert found.config == {"PCI": "y", "VFIO": "m"}
    assert not found.is_reference
    assert not world.asked
    assert not world.left("kernels")


def test_in_its_build_tree_a_kernel_of_ones_own_has_its_headers(world: Distribution, own: Path) -> None:
    assert provide(world, str(own)).headers is None
    for name in ("Makefile", "Module.symvers", "include/config/auto.conf"):
        put(own.parent / name, "")
    image = put(own.parent / "arch/x86/boot/bzImage", bzimage())
    assert provide(world, str(image)).headers == BuildTree(own.parent, "gcc")


def test_its_modules_count_only_where_they_are_given(world: Distribution, own: Path) -> None:
    options = frozenset({"VFIO", "XEN", "PCI"})
    lacking = ["CONFIG_VFIO (a module: give --modules)", "CONFIG_XEN"]
    assert provide(world, str(own)).missing(options) == lacking
    assert provide(world, str(own), own.parent / "tree").missing(options) == ["CONFIG_XEN"]


def test_a_kernel_that_does_not_tell_its_config_lacks_nothing_known(world: Distribution, own: Path) -> None:
    (own.parent / "config").unlink()
    assert provide(world, str(own)).missing(frozenset({"XEN"})) == []


@pytest.mark.parametrize("name", ["none", "bzImage", "bzImage/x", "x" * 300])
def test_modules_that_are_no_folder_are_named(world: Distribution, own: Path, name: str) -> None:
    modules = own.parent / name
    assert refused(world, str(own), modules).startswith(f"--modules {modules}: no such folder; expected ")


def test_modules_of_another_kernel_are_refused_before_anything_is_fetched(world: Distribution, own: Path) -> None:
    (own.parent / "tree/lib/modules/6.12.1").rename(own.parent / "tree/lib/modules/6.12.2")
    assert "expected lib/modules/6.12.1" in refused(world, str(own), own.parent / "tree")


def test_a_path_to_no_kernel_is_named(world: Distribution, tmp_path: Path) -> None:
    assert refused(world, f"{tmp_path}/none").startswith(f"kernel {tmp_path}/none: No such file or directory; ")
    assert refused(world, "~nobody/none").startswith("kernel ~nobody/none: No such file or directory; ")


def test_a_kernel_or_a_module_that_is_built_again_is_another(world: Distribution, own: Path) -> None:
    tree = own.parent / "tree"
    release = tree / "lib/modules/6.12.1"
    contents = [provide(world, str(own)).content, provide(world, str(own), tree).content]
    assert provide(world, str(own), tree).content == contents[-1]
    for path in (own, release / "kernel/a.ko"):
        os.utime(path, (1, 1))
        contents.append(provide(world, str(own), tree).content)
    for name in ("kernel/b.ko.xz", "modules.builtin"):
        put(release / name, "")
        contents.append(provide(world, str(own), tree).content)
    assert len(set(contents)) == len(contents)


def test_a_module_that_is_a_link_to_nowhere_keeps_no_kernel_from_being_taken(world: Distribution, own: Path) -> None:
    (own.parent / "tree/lib/modules/6.12.1/kernel/b.ko").symlink_to("none")
    assert provide(world, str(own), own.parent / "tree").modules == own.parent / "tree"


def test_the_newest_release_of_the_series_is_fetched_once(world: Distribution) -> None:
    for release in ("6.1.9+x", "6.1.10+x"):
        add(world, release)
    world.announce("image.6.2.1+x", "image.6.1.11+x-dbg", "imageX6.1.12+x", "image.6.1.13x")
    found = provide(world, "small")
    assert (found.release, found.name) == ("6.1.10+x", "small")
    assert found.image.read_bytes() == bzimage()
    assert found.modules is not None
    assert (found.modules / "kernel/a.ko").exists()
    assert found.config == {"PCI": "y"}
    assert not list(world.cache.root.rglob("*.deb"))
    assert found.origin == "image.6.1.10+x 6.1.10+x-1, modules.6.1.10+x 6.1.10+x-2"
    assert provide(world, "small") == found
    downloads = [line for line in world.asked if " download " in line]
    assert len(downloads) == 1
    assert "-t trixie download image.6.1.10+x modules.6.1.10+x " in downloads[0]


def test_its_headers_are_named_and_not_fetched_with_it(world: Distribution, tmp_path: Path) -> None:
    add(world, "6.1.9+x")
    bare = provide(world, "small")
    assert bare.headers is None
    with (tmp_path / "recipes/small.toml").open("a") as recipe:
        recipe.write('[headers]\npackages = ["headers-{release}"]\ncompiler = "gcc-14"\n')
    asked = world.asked
    found = provide(world, "small")
    assert found.headers == DistributionHeaders("trixie", "6.1.9+x", ("headers-6.1.9+x",), "gcc-14")
    assert (found.image, world.asked) == (bare.image, asked)


def test_a_refresh_fetches_what_is_newest_now(world: Distribution) -> None:
    add(world, "6.1.9+x")
    provide(world, "small")
    add(world, "6.1.10+x")
    assert provide(world, "small").release == "6.1.9+x"
    assert provide(world, "small", refresh=True).release == "6.1.10+x"


def test_a_release_that_the_mirror_lists_and_does_not_serve_is_passed_over(world: Distribution) -> None:
    add(world, "6.1.9+x")
    world.announce("image.6.1.11+x")
    world.add("image.6.1.10+x", "1", {"boot/vmlinuz-6.1.10+x": bzimage()})
    found = provide(world, "small")
    assert found.release == "6.1.9+x"
    assert not (found.image.parent / "vmlinuz-6.1.10+x").exists()


def test_a_mirror_that_serves_no_release_is_told_by_the_newest(world: Distribution) -> None:
    world.announce("image.6.1.9+x", "image.6.1.10+x")
    with pytest.raises(FetchFailed, match=r"cannot fetch image\.6\.1\.10\+x modules\.6\.1\.10\+x from trixie: Unable"):
        provide(world, "small")
    assert not world.left("kernels")


def test_a_mirror_without_the_series_is_told(world: Distribution) -> None:
    world.announce("image.6.2.1+x")
    with pytest.raises(CouldNotRun, match=r"kernel small: the mirror has no package image.* in trixie; choose another"):
        provide(world, "small")
    assert not world.left("kernels")


def test_a_package_that_brings_no_image_is_told(world: Distribution) -> None:
    world.add("image.6.1.9+x", "1", {"usr/vmlinuz": bzimage()})
    world.add("modules.6.1.9+x", "1", {})
    with pytest.raises(CouldNotRun, match=r"no boot/vmlinuz-6\.1\.9\+x in image\.6\.1\.9\+x, modules\.6\.1\.9\+x"):
        provide(world, "small")
    assert not world.left("kernels")
