# SPDX-License-Identifier: GPL-3.0-or-later
"""A netCDF export as a labelled array.

    ptqsweep export quick.h5 --table points --format netcdf -o points.nc
    python analysis/examples/with_xarray.py points.nc
"""

import sys

import xarray as xr

points = xr.open_dataset(sys.argv[1], engine="h5netcdf")
print(points.dnll.attrs["long_name"], "in", points.dnll.attrs["units"])
cube = points.set_coords(["model", "dtype", "method", "group"]).set_index(
    row=["model", "dtype", "method", "group"])
rtn = cube.sel(method="rtn")
print(rtn.dnll.groupby("dtype").median())
