# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that the comparisons print."""


class Table:
    """Rows of comparisons, printed as they come."""

    def __init__(self):
        self.failed = 0
        print(f"{'what':44} {'ours':>14} {'theirs':>14} {'difference':>11} "
              f"{'bound':>9}  verdict", flush=True)

    def row(self, what, ours, theirs, difference, bound):
        good = difference <= bound
        self.failed += not good
        print(f"{what:44} {ours:14.7g} {theirs:14.7g} {difference:11.3g} "
              f"{bound:9.2g}  {'ok' if good else 'FAILED'}", flush=True)

    def not_run(self, what, why):
        self.failed += 1
        print(f"{what:44} not run: {why}", flush=True)
