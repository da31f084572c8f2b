# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports made of what a run has written. Runs nothing."""
