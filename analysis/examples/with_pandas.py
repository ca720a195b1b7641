# SPDX-License-Identifier: GPL-3.0-or-later
"""What each format and method costs, and how far that is from noise.

    python analysis/examples/with_pandas.py quick.h5
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import ptqsweep  # noqa: E402

store = ptqsweep.read(sys.argv[1])
done = store.points[store.points.state == "done"]
print(done.pivot_table(index="dtype", columns="method", values="dnll",
                       aggfunc="median").round(4))

# a paired test needs the windows: mean difference a token, and its spread
windows = store.windows.assign(
    difference=lambda w: (w.nll - w.nll_reference) / w.tokens)
spread = windows.groupby("key").difference.agg(["mean", "sem", "size"])
merged = done.set_index("key").join(spread)
print(f"{(merged['mean'] > 2 * merged['sem']).sum()} of {len(merged)} points "
      "lose more than two standard errors")

top = store.spectra[(store.spectra["rank"] == 0)
                    & ~store.spectra.site.str.endswith("_nofirst")]
print(top.groupby("model").eigenvalue.max().round(3))
