/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "walltime.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* To drop what runs and to close the files. */
static const double margin_s = 30.0, least_s = 1.0;

/* Digits with at most one point; *end behind them. */
static bool number(const char *text, const char **end, double *out) {
  char *stop = NULL;
  const size_t n = strspn(text, "0123456789.");
  if (n == 0) return false;
  *out = strtod(text, &stop);
  *end = text + n;
  return stop == *end;
}

ptq_status ptq_walltime_parse(const char *text, double *seconds, ptq_err *err) {
  double days = 0.0, total = 0.0, part = 0.0;
  const char *at = text;
  int colons = 0;
  bool good = number(at, &at, &part);
  if (good && *at == '-') {
    days = part;
    good = number(at + 1, &at, &part);
    colons = 0;
  }
  total = part;
  for (; good && *at == ':' && colons < 2; colons++) {
    good = number(at + 1, &at, &part);
    total = 60.0 * total + part;
  }
  /* "1-12:00" are hours and minutes. */
  if (days > 0.0 && colons < 2) total *= colons == 1 ? 60.0 : 3600.0;
  *seconds = 86400.0 * days + total;
  if (good && *at == '\0' && isfinite(*seconds)) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "--time-limit: '%s' is not a time: seconds, H:MM:SS, "
                  "D-HH:MM:SS or none",
                  text);
}

/* What Slurm says is left of the job, or no limit. */
static double ask_squeue(const char *job) {
  char command[96], line[64] = "";
  double left = 0.0;
  if (strspn(job, "0123456789_") != strlen(job) || strlen(job) > 32) return 0.0;
  (void)snprintf(command, sizeof command,
                 "squeue -h -o %%L -j %s 2>/dev/null </dev/null", job);
  FILE *p = popen(command, "r");
  if (p == NULL) return 0.0;
  if (fgets(line, sizeof line, p) == NULL) line[0] = '\0';
  (void)pclose(p);
  line[strcspn(line, "\r\n ")] = '\0';
  if (ptq_walltime_parse(line, &left, NULL) != PTQ_OK)
    return 0.0; /* UNLIMITED, or no Slurm */
  return fmax(least_s, left - margin_s);
}

static double ask_slurm(void) {
  const char *end = getenv("SLURM_JOB_END_TIME");
  const char *job = getenv("SLURM_JOB_ID");
  char *rest = NULL;
  const long long at = end != NULL ? strtoll(end, &rest, 10) : 0;
  if (at > 0 && *rest == '\0')
    return fmax(least_s, (double)(at - (long long)time(NULL)) - margin_s);
  return job != NULL ? ask_squeue(job) : 0.0;
}

ptq_status ptq_walltime_read(const ptq_args *args, double *seconds,
                             const char **source, ptq_err *err) {
  const char *text = ptq_args_get(args, "time-limit");
  *seconds = 0.0;
  *source = "--time-limit";
  if (text == NULL) {
    *source = "Slurm";
    *seconds = ask_slurm();
    return PTQ_OK;
  }
  if (strcmp(text, "none") == 0) return PTQ_OK;
  const ptq_status rc = ptq_walltime_parse(text, seconds, err);
  if (rc != PTQ_OK || *seconds > 0.0) return rc;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "--time-limit: '%s' leaves no time; more than 0 seconds, as "
                  "seconds, H:MM:SS or D-HH:MM:SS, or none for no limit",
                  text);
}
