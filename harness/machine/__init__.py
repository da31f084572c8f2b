# SPDX-License-Identifier: GPL-2.0-or-later
"""The one composer: owns a running machine as a whole, from its parts to its evidence. Judges nothing."""
