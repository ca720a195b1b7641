/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "run_options.h"

#include <math.h>
#include <unistd.h>

#include "command.h"
#include "output.h"
#include "ptq/base/file.h"
#include "ptq/base/log.h"
#include "ptq/base/text.h"
#include "walltime.h"

/* Only rank 0 keeps the time. */
static ptq_status read_time_limit(int rank, const ptq_args *args,
                                  ptq_dist_options *o, ptq_err *err) {
  const char *source;
  double limit = 0.0;
  if (rank != 0 && !ptq_args_has(args, "time-limit")) return PTQ_OK;
  const ptq_status rc = ptq_walltime_read(args, &limit, &source, err);
  if (rc != PTQ_OK) return rc;
  o->time_limit_s = limit;
  if (rank == 0 && limit > 0.0)
    ptq_log(PTQ_LOG_INFO, "%.0f s of time from now (%s)", limit, source);
  return PTQ_OK;
}

static ptq_status read_dist(int rank, const ptq_args *args, ptq_dist_options *o,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double silence = PTQ_SILENCE_S;
  long attempts = 0;
  PTQ_TRY(ptq_args_double(args, "silence", silence, &silence, err));
  if (!(silence >= 1.0 && silence <= 86400.0))
    PTQ_TRY(
        PTQ_FAIL(err, PTQ_E_ARG, "--silence: 1 to 86400 s, got %g", silence));
  *o = (ptq_dist_options){.heartbeat_s = fmin(5.0, silence / 10.0),
                          .silence_factor = 10.0,
                          .silence_min_s = silence,
                          .grace_s = 60.0,
                          .progress = !ptq_args_has(args, "quiet")};
  PTQ_TRY(read_time_limit(rank, args, o, err));
  PTQ_TRY(ptq_args_int(args, "max-attempts", 2, &attempts, err));
  if (attempts < 1 || attempts > 1000)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--max-attempts: 1 to 1000, got %ld",
                     attempts));
  o->max_attempts = (int)attempts;
done:
  return rc;
}

static ptq_status read_memory(const ptq_args *args, int64_t *memory,
                              ptq_err *err) {
  const char *text = ptq_args_get(args, "memory");
  return text == NULL ? PTQ_OK : ptq_bytes_parse(text, memory, err);
}

static ptq_status read_scratch(const ptq_args *args, ptq_err *err) {
  const char *dir = ptq_args_get(args, "scratch");
  if (dir == NULL || ptq_path_is_dir(dir)) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG, "--scratch '%s' is not a directory", dir);
}

ptq_status ptq_run_options_read(int rank, const ptq_args *args,
                                ptq_run_options *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *spec = ptq_args_at(args, 0);
  *out = (ptq_run_options){.scratch = ptq_args_get(args, "scratch")};
  PTQ_TRY(ptq_output_check(ptq_args_get(args, "output"), &spec, 1, err));
  PTQ_TRY(read_dist(rank, args, &out->dist, err));
  PTQ_TRY(read_memory(args, &out->memory_bytes, err));
  PTQ_TRY(read_scratch(args, err));
  PTQ_TRY(ptq_args_threads(args, &out->threads, err));
  PTQ_TRY(ptq_args_ranks_per_point(args, &out->ranks, err));
  PTQ_TRY(ptq_args_check_sets(args, err));
done:
  return rc;
}

int64_t ptq_run_default_memory(int n) {
  const double bytes =
      (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
  return (int64_t)(0.8 * bytes / (n > 0 ? n : 1));
}
