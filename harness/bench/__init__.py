# SPDX-License-Identifier: GPL-2.0-or-later
"""Measuring what the harness costs: medians, in one run."""
