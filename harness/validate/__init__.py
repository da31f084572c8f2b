# SPDX-License-Identifier: GPL-2.0-or-later
"""Validation: kernels that are built and tested one after another, each by `harness test` in a process of its own."""
