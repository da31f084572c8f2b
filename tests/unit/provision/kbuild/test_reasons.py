# SPDX-License-Identifier: GPL-2.0-or-later
"""Why Kconfig drops a wish, read from small Kconfig files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.provision.kbuild.reasons import Kconfig, holds

TOP = """
mainmenu "Linux/$(ARCH) $(KERNELVERSION) Kernel Configuration"

source "scripts/Kconfig.include"

config PCI
\tbool "PCI support"
\thelp
\t  Says
\t  config NOT_A_SYMBOL
\t  if so

\t  depends on NOTHING

source "arch/$(SRCARCH)/Kconfig"

menu "Networking"
\tdepends on NET && \\
\t\t   PCI

if NETDEVICES
source "drivers/net/Kconfig"
endif # NETDEVICES

endmenu

config AFTER
\tbool "after all blocks"

config HIDDEN
\tbool
\tdepends on PCI

comment "only with modules"
\tdepends on MODULES

config AFTER_COMMENT
\tbool "after a comment"

config HELPED
\tbool "with an odd help text"
\thelp
\tif NOTHING holds
\tconfig AND_MORE

config EXPERTS
\tbool "for few" if EXPERT

config MODERN
\tbool "with a condition of today"
\tdepends on PCI if HIDDEN
\ttransitional
"""
NET = """
menuconfig IGB
\ttristate "Intel"
\tdepends on PCI_MSI
\tdepends on !OLD || EXPERT = y

choice
\tprompt "which"

config ONE
\tbool "one"

endchoice
"""
TWICE = 'config TWICE\n\tbool "here"\n\tdepends on X86_64\n\nconfig TWICE\n\tbool "or here"\n\tdepends on ARM64\n'


@pytest.fixture
def kconfig(tmp_path: Path) -> Kconfig:
    """Give the Kconfig files of a small tree, as x86 sees them."""
    for name, text in {"Kconfig": TOP, "drivers/net/Kconfig": NET, "arch/x86/Kconfig": TWICE}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Kconfig(tmp_path, "x86")


@pytest.mark.parametrize("symbol", ["PCI", "IGB", "ONE", "TWICE", "AFTER", "HIDDEN", "MODERN"])
def test_what_is_defined_is_known(kconfig: Kconfig, symbol: str) -> None:
    assert kconfig.knows(symbol)


@pytest.mark.parametrize("symbol", ["NOT_A_SYMBOL", "NET", "PCI_SIOV", ""])
def test_what_is_not_defined_is_not(kconfig: Kconfig, symbol: str) -> None:
    assert not kconfig.knows(symbol)
    assert kconfig.reason(symbol, {}) == "this tree has no such symbol"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"PCI_MSI": "y"},
            "it depends on NET && PCI (here NET=n, PCI=n) and NETDEVICES (here NETDEVICES=n)",
        ),
        ({"NET": "y", "PCI": "y", "PCI_MSI": "y"}, "it depends on NETDEVICES (here NETDEVICES=n)"),
        (
            {"NET": "y", "PCI": "y", "NETDEVICES": "y", "PCI_MSI": "y", "OLD": "m", "EXPERT": "m"},
            "it depends on !OLD || EXPERT = y (here OLD=m, EXPERT=m)",
        ),
        ({"NET": "y", "PCI": "y", "NETDEVICES": "y", "PCI_MSI": "y"}, "Kconfig tells no reason"),
    ],
)
def test_conditions_of_blocks_and_files_above_count(kconfig: Kconfig, config: dict[str, str], reason: str) -> None:
    assert kconfig.reason("IGB", config) == reason


def test_nothing_of_a_block_holds_after_its_end(kconfig: Kconfig) -> None:
    assert kconfig.reason("AFTER", {}) == "Kconfig tells no reason"


def test_nothing_of_a_comment_or_of_a_help_text_holds(kconfig: Kconfig) -> None:
    assert kconfig.reason("AFTER_COMMENT", {}) == "Kconfig tells no reason"
    assert kconfig.reason("HELPED", {}) == "Kconfig tells no reason"
    assert not kconfig.knows("AND_MORE")


def test_a_prompt_that_is_not_shown_is_the_reason(kconfig: Kconfig) -> None:
    assert kconfig.reason("EXPERTS", {}) == "it depends on EXPERT (here EXPERT=n)"
    assert kconfig.reason("EXPERTS", {"EXPERT": "y"}) == "Kconfig tells no reason"


def test_every_place_of_a_symbol_counts(kconfig: Kconfig) -> None:
    reason = "it depends on X86_64 (here X86_64=n), or elsewhere on ARM64 (here ARM64=n)"
    assert kconfig.reason("TWICE", {}) == reason
    assert kconfig.reason("TWICE", {"ARM64": "y"}) == "Kconfig tells no reason"


def test_what_has_no_prompt_cannot_be_wished_for(kconfig: Kconfig) -> None:
    assert kconfig.reason("HIDDEN", {"PCI": "y"}) == "nobody can set it: it has no prompt, other options select it"


def test_what_is_selected_by_others_cannot_be_wished_away(kconfig: Kconfig) -> None:
    assert kconfig.reason("PCI", {"PCI": "y"}) == "it is y, by another option that selects it or by its default"


def test_files_that_source_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "Kconfig").write_text('config A\n\tbool "a"\nsource "Kconfig"\n')
    assert Kconfig(tmp_path, "x86").knows("A")


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("A", True), ("M", True), ("B", False), ("!B", True), ("A && B", False), ("A || B", True),
        ("B || A && B", False), ("!(A && B)", True), ("A = y", True), ("A=B", False), ("B = n", True),
        ('S = "text"', True), ("$(cc-option,-fx)", True), ("A &&", True), ("N < 5", True), ("", True), ("(A", True),
        ("PCI if HIDDEN", True), ("A != y", False),
    ],
)  # fmt: skip
def test_conditions_are_evaluated_and_what_is_not_understood_counts_as_true(condition: str, value: bool) -> None:
    assert holds(condition, {"A": "y", "M": "m", "S": "text", "N": "7"}) is value
