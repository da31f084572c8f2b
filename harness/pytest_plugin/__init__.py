# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin: machines as fixtures, and honest outcomes. Does nothing until a test asks for a machine."""

pytest_plugins = (
    "harness.pytest_plugin.marks",
    "harness.pytest_plugin.options",
    "harness.pytest_plugin.fixtures",
    "harness.pytest_plugin.telling",
    "harness.pytest_plugin.pausing",
    "harness.pytest_plugin.outcomes",
    "harness.pytest_plugin.parallel",
    "harness.pytest_plugin.listing",
    "harness.pytest_plugin.selecting",
)
