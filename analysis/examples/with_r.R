# SPDX-License-Identifier: GPL-3.0-or-later
# A regression in R on an export:
#   ptqsweep export quick.h5 --table points -o points.csv
#   ptqsweep export quick.h5 --table models -o models.csv
#   Rscript analysis/examples/with_r.R points.csv models.csv [points.nc]
args <- commandArgs(trailingOnly = TRUE)
points <- read.csv(args[1])
models <- read.csv(args[2])
done <- points[points$state == "done" & points$dnll > 2 * points$dnll_se, ]
done <- merge(done, models[, c("model", "params_nonembedding")], by = "model")
fit <- lm(log(dnll) ~ log(params_nonembedding) + bits_per_weight + method,
          data = done)
print(summary(fit)$coefficients)
if (length(args) > 2 && requireNamespace("ncdf4", quietly = TRUE)) {
  file <- ncdf4::nc_open(args[3])
  dnll <- ncdf4::ncvar_get(file, "dnll")
  stopifnot(isTRUE(all.equal(c(dnll), points$dnll)))
  cat("netCDF and CSV agree on", length(dnll), "points\n")
}
