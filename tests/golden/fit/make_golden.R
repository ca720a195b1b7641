# SPDX-License-Identifier: GPL-3.0-or-later
# CR2 standard errors and Satterthwaite degrees of freedom of uncensored.csv by
# an independent package: Rscript make_golden.R writes clubsandwich.csv.
suppressMessages(library(clubSandwich))
d <- read.csv("uncensored.csv")
d$method <- factor(d$method, levels = c("rtn", "gptq"))
fit <- lm(y ~ log(params) + bits + log(group) + sqnr + method, data = d)
test <- coef_test(fit, vcov = "CR2", cluster = d$model, test = "Satterthwaite")
names <- c("(intercept)", "log(params_nonembedding)", "bits_per_weight",
           "log(group)", "sqnr_output", "method[gptq]")
df <- if ("df_Satt" %in% colnames(test)) test$df_Satt else test$df
p <- if ("p_Satt" %in% colnames(test)) test$p_Satt else test$p
out <- file("clubsandwich.csv", "w")
writeLines(sprintf("# make_golden.R: %s, clubSandwich %s", R.version.string,
                   packageVersion("clubSandwich")), out)
writeLines("fit,name,what,value", out)
for (i in seq_along(names)) {
  writeLines(sprintf("ols,%s,std_error_cluster,%.17g", names[i], test$SE[i]), out)
  writeLines(sprintf("ols,%s,df,%.17g", names[i], df[i]), out)
  writeLines(sprintf("ols,%s,p,%.17g", names[i], p[i]), out)
}
close(out)
