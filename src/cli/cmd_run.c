/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "ptq/base/file.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/comm/agree.h"
#include "ptq/comm/startup.h"
#include "ptq/dist/run.h"
#include "ptq/sweep/batch.h"
#include "ptq/sweep/cost.h"
#include "ptq/sweep/identity.h"
#include "ptq/sweep/landscape.h"
#include "journal.h"
#include "provenance.h"
#include "run_options.h"
#include "selfcheck.h"
#include "speed.h"
#include "study.h"
#include "todo.h"

enum { MAX_SETS = 64 };

/* What a run holds; rank-local but for the collective steps. */
typedef struct sweep_run {
  MPI_Comm comm;
  int rank, size;
  ptq_study study;
  ptq_study_layout layout;
  ptq_provenance provenance;
  ptq_journal journal;
  ptq_store *store;
  ptq_teams teams;
  ptq_plan plan; /* rank 0 */
  char *path;    /* owned; of the store */
  ptq_todo todo; /* rank 0 */
  bool usage;    /* a value of the command line is wrong */
} sweep_run;

/* --- What the workers do and where results go ------------------------- */

static ptq_status work_on_subject(const sweep_run *r, int64_t subject,
                                  const ptq_sink *sink, ptq_err *err) {
  const ptq_grid *g = &r->study.grid;
  ptq_status rc = PTQ_OK;
  if (ptq_team_leads(g->team))
    rc = ptq_store_begin_subject(r->store, subject, err);
  rc = ptq_team_agree(g->team, rc, err);
  return rc == PTQ_OK ? ptq_subject_run(g, subject, sink, err) : rc;
}

/* Of a team the leader alone. */
static ptq_status work_on_direction(const sweep_run *r, int64_t direction,
                                    const ptq_sink *sink, ptq_err *err) {
  ptq_grid alone = r->study.grid;
  if (!ptq_team_leads(alone.team)) return PTQ_OK;
  alone.team = NULL;
  alone.ranks = 1;
  const ptq_status rc = ptq_store_begin_direction(r->store, direction, err);
  return rc == PTQ_OK ? ptq_direction_run(&alone, direction, sink, err) : rc;
}

static ptq_status work(void *ctx, int64_t subject, const int64_t *points,
                       int64_t n, const ptq_sink *sink, ptq_err *err) {
  const sweep_run *r = ctx;
  const int64_t n_subjects = r->study.grid.n_subjects;
  ptq_status rc = PTQ_OK;
  if (n > 0)
    rc = ptq_batch_run(&r->study.grid, points, n, sink, err);
  else if (subject < n_subjects)
    rc = work_on_subject(r, subject, sink, err);
  else
    rc = work_on_direction(r, subject - n_subjects, sink, err);
  ptq_store_rest(r->store);
  return rc;
}

static ptq_status sink_begin(void *ctx, const int64_t *points, int64_t n,
                             ptq_err *err) {
  sweep_run *r = ctx;
  ptq_journal_begin(&r->journal, points, n);
  return ptq_store_begin(r->store, points, n, err);
}

static ptq_status sink_point(void *ctx, const ptq_point_result *p,
                             ptq_err *err) {
  sweep_run *r = ctx;
  const ptq_status rc = ptq_store_put_point(r->store, p, err);
  if (rc == PTQ_OK) ptq_journal_point(&r->journal, p);
  return rc;
}

static ptq_status sink_subject(void *ctx, const ptq_subject_result *s,
                               ptq_err *err) {
  sweep_run *r = ctx;
  const ptq_status rc = ptq_store_put_subject(r->store, s, err);
  if (rc == PTQ_OK) ptq_journal_subject(&r->journal, s);
  return rc;
}

static ptq_status sink_direction(void *ctx, const ptq_direction_result *d,
                                 ptq_err *err) {
  sweep_run *r = ctx;
  const ptq_status rc = ptq_store_put_direction(r->store, d, err);
  if (rc == PTQ_OK) ptq_journal_direction(&r->journal, d);
  return rc;
}

static ptq_status sink_steps(void *ctx, const ptq_steps *s, ptq_err *err) {
  sweep_run *r = ctx;
  const ptq_status rc = ptq_store_put_steps(r->store, s, err);
  if (rc == PTQ_OK) ptq_journal_steps(&r->journal, "steps", s->direction, s->n);
  return rc;
}

static ptq_status sink_left(void *ctx, const ptq_steps *s, bool *there,
                            ptq_err *err) {
  sweep_run *r = ctx;
  int64_t n = 0;
  const ptq_status rc = ptq_store_left_steps(r->store, s, there, err);
  for (int64_t i = 0; rc == PTQ_OK && i < s->n; i++) n += there[i];
  if (n == 0) return rc;
  ptq_journal_steps(&r->journal, "left", s->direction, n);
  ptq_log(PTQ_LOG_INFO, "direction %lld: %lld of %lld radii are there already",
          (long long)s->direction, (long long)n, (long long)s->n);
  return rc;
}

static ptq_status give_up(void *ctx, int64_t point, const char *why,
                          ptq_err *err) {
  ptq_store *store = ((sweep_run *)ctx)->store;
  char words[128];
  char message[240];
  ptq_status rc = ptq_store_last_words(store, point, words, err);
  if (rc != PTQ_OK) return rc;
  (void)snprintf(message, sizeof message, "%s%s%s", words,
                 words[0] != '\0' ? ": " : "", why);
  return ptq_store_mark(store, point, PTQ_STATE_FAILED, message, err);
}

static ptq_status died(void *ctx, int64_t subject, int64_t point,
                       int64_t deaths, const char *who, ptq_err *err) {
  const sweep_run *r = ctx;
  const int64_t n = r->study.grid.n_subjects;
  if (point >= 0) return ptq_store_died(r->store, point, deaths, who, err);
  if (subject < n)
    return ptq_store_died_subject(r->store, subject, deaths, who, err);
  return ptq_store_died_direction(r->store, subject - n, deaths, who, err);
}

static ptq_status dropped(void *ctx, int64_t point, ptq_err *err) {
  return ptq_store_drop(((sweep_run *)ctx)->store, point, err);
}

static ptq_status give_up_direction(const sweep_run *r, int64_t direction,
                                    const char *why, ptq_err *err) {
  ptq_direction_result result = {.direction = direction,
                                 .state = PTQ_STATE_FAILED};
  ptq_direction_identity(&r->study.grid, direction, r->study.numerics,
                         &result.row);
  (void)ptq_text_copy(result.message, sizeof result.message, why);
  return ptq_store_put_direction(r->store, &result, err);
}

static ptq_status give_up_subject(void *ctx, int64_t subject, const char *why,
                                  ptq_err *err) {
  sweep_run *r = ctx;
  if (subject >= r->study.grid.n_subjects)
    return give_up_direction(r, subject - r->study.grid.n_subjects, why, err);
  ptq_subject_result result = {.subject = subject, .state = PTQ_STATE_FAILED};
  ptq_subject_identity(&r->study.grid, subject, &result.row);
  (void)ptq_text_copy(result.message, sizeof result.message, why);
  return ptq_store_put_subject(r->store, &result, err);
}

static void log_line(void *ctx, const char *line) {
  sweep_run *r = ctx;
  (void)ptq_store_log(r->store, line, NULL);
  ptq_journal_text(&r->journal, "log", "line", line);
}

/* --- Steps -------------------------------------------------------------- */

static ptq_status store_path(const ptq_args *args, char **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *base = NULL;
  ptq_text t = {0};
  const char *given = ptq_args_get(args, "output");
  *out = NULL;
  /* A link's store has one name: for its lock, and for --extend. */
  if (given != NULL) return ptq_path_follow(given, out, err);
  PTQ_TRY(ptq_path_base(ptq_args_at(args, 0), &base, err));
  char *dot = strrchr(base, '.');
  if (dot != NULL && dot != base) *dot = '\0';
  ptq_text_addf(&t, "%s.h5", base);
  PTQ_TRY(ptq_path_follow(ptq_text_str(&t), out, err));
done:
  ptq_text_release(&t);
  ptq_free(base);
  return rc;
}

static void say_todo(const sweep_run *r) {
  const ptq_todo *t = &r->todo;
  if (t->n_bad > 0)
    ptq_log(PTQ_LOG_WARN,
            "%s: %lld finished rows fail their checksum and are done again",
            r->path, (long long)t->n_bad);
  if (t->n_failed > 0)
    ptq_log(PTQ_LOG_INFO,
            "%lld failed points are left alone; --retry-failed tries again",
            (long long)t->n_failed);
  if (t->n_failed_items > 0)
    ptq_log(PTQ_LOG_INFO,
            "%lld failed models or directions of a landscape are left alone; "
            "--retry-failed tries again",
            (long long)t->n_failed_items);
  ptq_log(PTQ_LOG_INFO, "%s: %lld of %lld points to do", r->path,
          (long long)t->n_points, (long long)r->study.grid.n_points);
}

/* Rank 0: what no rank has the memory for is refused while there is no store:
 * one that a refused sweep left behind would be in the way of the next. */
static ptq_status check_fits(sweep_run *r, int64_t memory, ptq_err *err) {
  ptq_grid *g = &r->study.grid;
  unsigned char *todo = NULL;
  ptq_plan plan = {0};
  const int64_t n = g->n_points + ptq_grid_own(g);
  ptq_status rc = ptq_grid_measure(g, err);
  if (rc != PTQ_OK || ptq_path_exists(r->path)) return rc;
  PTQ_TRY(ptq_alloc(&todo, n, 1, "what is to do", err));
  memset(todo, 1, (size_t)n);
  PTQ_TRY(ptq_plan_build(g, todo, todo + g->n_points, r->teams.n, memory, NULL,
                         &plan, err));
done:
  ptq_plan_release(&plan);
  ptq_free(todo);
  return rc;
}

/* Rank 0: what is to do, and in which order. */
static ptq_status make_plan(sweep_run *r, const ptq_args *args, int64_t memory,
                            ptq_dist_options *options, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_grid *g = &r->study.grid;
  const ptq_rates rates = ptq_speed_rates();
  PTQ_TRY(ptq_todo_find(r->store, g->n_points, g->n_subjects, g->n_directions,
                        options->max_attempts,
                        ptq_args_has(args, "retry-failed"), &r->todo, err));
  say_todo(r);
  options->deaths = r->todo.deaths;
  options->subject_deaths = r->todo.subject_deaths;
  PTQ_TRY(ptq_plan_build(g, r->todo.points, r->todo.subjects, r->teams.n,
                         memory, &rates, &r->plan, err));
done:
  return rc;
}

static ptq_status open_study(sweep_run *r, const ptq_args *args, ptq_err *err) {
  const char *sets[MAX_SETS];
  const int n_sets = ptq_args_all(args, "set", sets, MAX_SETS);
  return ptq_study_open(r->comm, ptq_args_at(args, 0), sets, n_sets, &r->study,
                        err);
}

static double clock_s(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The store's attributes are of its first run; later ones are in its log. */
static void note_start(const sweep_run *r) {
  char line[400];
  if (!ptq_store_resumed(r->store)) return;
  (void)snprintf(line, sizeof line, "goes on: %s on %s",
                 ptq_text_str(&r->provenance.command_line),
                 ptq_text_str(&r->provenance.hosts));
  (void)ptq_store_log(r->store, line, NULL);
}

/* Ranks a point of the command line, or of the sweep file. */
static ptq_status form_teams(sweep_run *r, int asked, ptq_dist_options *options,
                             ptq_err *err) {
  ptq_grid *g = &r->study.grid;
  if (asked == 0) asked = g->ranks > 1 ? g->ranks : 1;
  const ptq_status rc = ptq_teams_form(r->comm, asked, &r->teams, err);
  if (rc != PTQ_OK) return rc;
  options->teams = &r->teams;
  g->ranks = r->teams.size;
  g->team = r->teams.team;
  return PTQ_OK;
}

static ptq_status prepare(sweep_run *r, const ptq_args *args,
                          ptq_run_options *options, ptq_err *err) {
  ptq_status rc = ptq_run_options_read(r->rank, args, options, err);
  r->usage = rc == PTQ_E_ARG;
  PTQ_TRY(ptq_agree(r->comm, rc, err));
  PTQ_TRY(open_study(r, args, err));
  r->study.grid.scratch = options->scratch;
  if (options->threads > 0) r->study.grid.threads = options->threads;
  PTQ_TRY(form_teams(r, options->ranks, &options->dist, err));
  PTQ_TRY(ptq_agree(r->comm, ptq_selfcheck(r->study.spec.compute, err), err));
  rc = ptq_provenance_collect(r->comm, args, r->study.spec.path,
                              r->study.numerics, &r->provenance, err);
  if (options->memory_bytes == 0)
    options->memory_bytes = ptq_run_default_memory(r->provenance.n_here);
  if (rc == PTQ_OK)
    rc = ptq_journal_open(ptq_args_get(args, "log"), r->rank, &r->journal, err);
  ptq_journal_text(&r->journal, "start", "command",
                   ptq_text_str(&r->provenance.command_line));
  if (rc == PTQ_OK) rc = store_path(args, &r->path, err);
  if (rc == PTQ_OK && r->rank == 0) rc = ptq_study_check_tokens(&r->study, err);
  if (rc == PTQ_OK && r->rank == 0)
    rc = check_fits(r, options->memory_bytes, err);
  if (rc == PTQ_OK)
    rc = ptq_study_layout_make(&r->study, r->provenance.attributes,
                               r->provenance.n, &r->layout, err);
  PTQ_TRY(ptq_agree(r->comm, rc, err));
  r->layout.layout.durable = ptq_args_has(args, "durable");
  r->layout.layout.extend = ptq_args_has(args, "extend");
  PTQ_TRY(ptq_store_open(r->comm, r->path, &r->layout.layout, &r->store, err));
  if (r->rank == 0) note_start(r);
  if (r->rank == 0)
    rc = make_plan(r, args, options->memory_bytes, &options->dist, err);
  PTQ_TRY(ptq_agree(r->comm, rc, err));
done:
  return rc;
}

static void summarize(const sweep_run *r, const ptq_dist_summary *s) {
  const long long n = (long long)r->study.grid.n_points;
  if (r->todo.n_points + r->todo.n_subjects == 0) {
    if (r->todo.n_failed + r->todo.n_failed_items == 0)
      ptq_log(PTQ_LOG_INFO, "%s: all %lld points are there already", r->path,
              n);
    else
      ptq_log(PTQ_LOG_INFO,
              "%s: nothing to do: %lld points are there, %lld failed before, "
              "as did %lld models or directions; `ptqsweep status` says why",
              r->path, n - (long long)r->todo.n_failed,
              (long long)r->todo.n_failed, (long long)r->todo.n_failed_items);
    return;
  }
  ptq_log(PTQ_LOG_INFO, "%s: %lld points done, %lld failed in %.1f s%s",
          r->path, (long long)s->points_done, (long long)s->points_failed,
          s->seconds,
          s->stopped ? "; stopped early, the same command goes on" : "");
  if (s->subjects_failed > 0)
    ptq_log(PTQ_LOG_WARN,
            "%s: %lld models or directions of a landscape failed; `ptqsweep "
            "status` says why",
            r->path, (long long)s->subjects_failed);
  if (s->ranks_lost > 0)
    ptq_log(PTQ_LOG_WARN, "%lld ranks were lost on the way",
            (long long)s->ranks_lost);
}

static void sweep_run_release(sweep_run *r) {
  ptq_teams_release(&r->teams);
  ptq_plan_release(&r->plan);
  ptq_todo_release(&r->todo);
  ptq_study_layout_release(&r->layout);
  ptq_provenance_release(&r->provenance);
  ptq_journal_close(&r->journal);
  ptq_study_close(&r->study);
  ptq_free(r->path);
}

static ptq_status sweep(sweep_run *r, const ptq_args *args,
                        ptq_dist_summary *summary, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_run_options options;
  const double start = clock_s();
  PTQ_TRY(prepare(r, args, &options, err));
  double *limit = &options.dist.time_limit_s;
  if (*limit > 0.0) /* getting ready took some of it */
    *limit = fmax(1e-3, *limit + start - clock_s());
  const ptq_dist_ops ops = {.ctx = r,
                            .work = work,
                            .sink = {.ctx = r,
                                     .begin = sink_begin,
                                     .point = sink_point,
                                     .subject = sink_subject,
                                     .direction = sink_direction,
                                     .steps = sink_steps,
                                     .left = sink_left},
                            .give_up = give_up,
                            .give_up_subject = give_up_subject,
                            .died = died,
                            .dropped = dropped,
                            .log = log_line};
  rc = ptq_dist_run(r->comm, &r->plan, &ops, &options.dist, summary, err);
  ptq_teams_release(&r->teams); /* nobody waits for this rank any more */
  PTQ_TRY(rc);
  if (r->rank == 0) summarize(r, summary);
done:
  if (r->store != NULL) {
    const ptq_status closed = ptq_store_close(r->store, err);
    if (rc == PTQ_OK) rc = closed;
  }
  return rc;
}

static ptq_status run(const ptq_args *args, int *exit_code, ptq_err *err) {
  sweep_run r = {.comm = MPI_COMM_WORLD, .journal = {.fd = -1}};
  ptq_dist_summary summary = {0};
  ptq_dist_catch_signals();
  ptq_dist_clear_exit_file(r.comm);
  MPI_Comm_rank(r.comm, &r.rank);
  MPI_Comm_size(r.comm, &r.size);
  /* Ranks speak one at a time: rank 0 says what all would say. */
  if (r.rank != 0 && ptq_log_get_level() == PTQ_LOG_INFO)
    ptq_log_set_level(PTQ_LOG_WARN);
  const ptq_status rc = sweep(&r, args, &summary, err);
  ptq_startup_end(); /* from here on ranks may end one by one */
  if (rc != PTQ_OK) {
    *exit_code = ptq_command_failed("run", rc, err);
    if (r.usage) *exit_code = PTQ_EXIT_USAGE;
  } else if (summary.stopped)
    *exit_code = PTQ_EXIT_STOPPED;
  else if (summary.points_failed + summary.subjects_failed + r.todo.n_failed +
               r.todo.n_failed_items >
           0)
    *exit_code = PTQ_EXIT_POINTS_FAILED;
  if (rc != PTQ_OK) ptq_journal_text(&r.journal, "error", "message", err->msg);
  ptq_journal_end(&r.journal, *exit_code, summary.points_done,
                  summary.points_failed, summary.seconds);
  sweep_run_release(&r);
  ptq_store_shutdown(); /* HDF5 must end before MPI does */
  /* Where ranks were lost this does not return. */
  *exit_code = ptq_dist_finalize(r.comm, &summary, *exit_code);
  return PTQ_OK;
}

static const ptq_option options[] = {
    {"output", 'o', "STORE", "HDF5 file; default: SPEC's name with .h5, here"},
    {"set", 0, "KEY=VALUE", "override a value of the sweep file; repeatable"},
    {"memory", 0, "SIZE", "memory a rank may use, such as 4GB"},
    {"threads", 0, "N",
     "threads of a rank (default: run.threads of SPEC, or 1);\n"
     "                               changes no result"},
    {"ranks-per-point", 0, "N",
     "ranks of a host that work on a point together\n"
     "                               (default: run.ranks_per_point of SPEC, "
     "or 1);\n"
     "                               changes no result"},
    {"scratch", 0, "DIR",
     "keep hidden states in files there, not in memory;\n"
     "                               changes no result"},
    {"time-limit", 0, "TIME",
     "start nothing that cannot end by then: seconds,\n"
     "                               H:MM:SS, none (default: what Slurm gives "
     "the job)"},
    {"max-attempts", 0, "N", "deaths held against a single point (2)"},
    {"retry-failed", 0, NULL, "try failed points again"},
    {"silence", 0, "SECONDS",
     "a rank silent or stopped for that long is given up\n"
     "                               (120; more where its work takes longer)"},
    {"log", 0, "DIR", "write DIR/rank-<r>.jsonl: a line of JSON an event"},
    {"durable", 0, NULL,
     "write results through to the disk: they outlive a\n"
     "                               power cut (some ms a point)"},
    {"extend", 0, NULL,
     "SPEC has more points than STORE: carry the finished\n"
     "                               ones over into a new file of that name"},
    {NULL, 0, NULL, NULL}};

extern const ptq_command ptq_cmd_run;
const ptq_command ptq_cmd_run = {
    .name = "run",
    .args = "SPEC [-o STORE] [options]",
    .summary = "run a sweep under mpirun or alone, or go on with it",
    .details =
        "Quantizes and evaluates every point of the sweep file and writes the\n"
        "results into STORE as they come. Where STORE is there already, goes\n"
        "on with what is missing: the same command line resumes.\n\n"
        "--log DIR tells programs what each rank does, one JSON object a "
        "line with time,\nrank, host, pid and event: start (command), begin "
        "(points, rows of /points),\npoint, model and direction (state, "
        "seconds, message), left and steps (direction, radii\nof it that are "
        "there already, and that are finished), log (line), error (message),\n"
        "end (status, points_done, points_failed, seconds).\n\n"
        "Rank 0 hands out work and sleeps: start one rank more than cores, or "
        "than cores\nby threads. Ranks 1, 2, ... of a host form the teams of "
        "--ranks-per-point.\n\n"
        "  mpirun -n 3 ptqsweep run sweeps/quick.yaml -o quick.h5\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .needs_mpi = true,
    .run = run,
};
