/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "ptq/base/file.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/cost.h"
#include "run_options.h"
#include "speed.h"
#include "study.h"

enum { MAX_SETS = 64 };

/* A sweep, its points and how they would be done. */
typedef struct planned {
  ptq_spec spec;
  ptq_grid grid;
  ptq_plan plan;
  ptq_rates rates;
  int ranks, teams; /* that work; of ranks a point */
  int64_t memory;
  const char *scratch; /* borrowed, nullable */
  int threads;         /* of a rank; 0: as the sweep file says */
  int ranks_per_point; /* likewise */
  double makespan;     /* seconds */
  double *bits;        /* owned; [n_points] a weight */
} planned;

static void planned_release(planned *p) {
  ptq_free(p->bits);
  ptq_plan_release(&p->plan);
  ptq_grid_release(&p->grid);
  ptq_spec_release(&p->spec);
}

/* A machine that is not this one. */
static ptq_status read_gflops(const ptq_args *args, ptq_rates *rates,
                              ptq_err *err) {
  double gflops = 0.0;
  const ptq_status rc = ptq_args_double(args, "gflops", 50.0, &gflops, err);
  if (rc != PTQ_OK) return rc;
  if (!(gflops > 0.0) || gflops > 1e9)
    return PTQ_FAIL(err, PTQ_E_ARG, "--gflops %g: above 0", gflops);
  rates->flops_per_s = 1e9 * gflops;
  return PTQ_OK;
}

static ptq_status read_options(planned *p, const ptq_args *args, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  long ranks = 1;
  PTQ_TRY(ptq_args_int(args, "ranks", 1, &ranks, err));
  if (ranks < 1 || ranks > 1000000)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--ranks must be 1 to 1000000, got %ld",
                     ranks));
  p->ranks = (int)ranks;
  if (ptq_args_has(args, "memory"))
    PTQ_TRY(ptq_bytes_parse(ptq_args_get(args, "memory"), &p->memory, err));
  p->scratch = ptq_args_get(args, "scratch");
  PTQ_TRY(ptq_args_threads(args, &p->threads, err));
  PTQ_TRY(ptq_args_ranks_per_point(args, &p->ranks_per_point, err));
  p->rates = ptq_rates_default();
  PTQ_TRY(read_gflops(args, &p->rates, err));
  PTQ_TRY(ptq_args_check_sets(args, err));
done:
  return rc;
}

/* A run reads its texts: what it would refuse, a plan refuses too. */
static ptq_status check_text(const ptq_spec *spec, const ptq_text_spec *text,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_file *file = NULL;
  ptq_err why = {0};
  if (ptq_path_is_dir(text->path))
    rc = PTQ_FAIL(err, PTQ_E_IO,
                  "%s:%d: text: '%s' is a directory; name a text file",
                  spec->path, text->line, text->path);
  else if ((rc = ptq_file_open(text->path, &file, &why)) != PTQ_OK)
    rc = PTQ_FAIL(err, rc, "%s:%d: text: %s", spec->path, text->line, why.msg);
  ptq_file_close(file);
  return rc;
}

static ptq_status check_texts(const ptq_spec *spec, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < spec->n_calibrations; i++)
    PTQ_TRY(check_text(spec, &spec->calibrations[i], err));
  for (int64_t i = 0; i < spec->n_evaluations; i++)
    PTQ_TRY(check_text(spec, &spec->evaluations[i], err));
  PTQ_TRY(check_text(spec, &spec->selection, err));
done:
  return rc;
}

/* No schedule is shorter: all work shared evenly, or the longest item. */
static double lower_bound(const ptq_plan *plan, int ranks) {
  double longest = 0.0;
  for (int64_t i = 0; i < plan->n_items; i++)
    longest = fmax(longest, plan->items[i].seconds);
  return fmax(plan->seconds_total / ranks, longest);
}

/* As a run on one host does. */
static void form_teams(planned *p) {
  int size = p->ranks_per_point > 0 ? p->ranks_per_point : p->grid.ranks;
  if (size < 1) size = 1;
  if (size > p->ranks) size = p->ranks;
  p->grid.ranks = size;
  p->teams = p->ranks / size;
}

/* What a run may use where nobody says: as many of its ranks on this host as
 * there are cores for. Of another machine nothing is known. */
static int64_t default_memory(const planned *p) {
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  const int here = p->ranks < cores ? p->ranks : (int)cores;
  return ptq_run_default_memory(here > 1 ? here + 1 : 1);
}

/* Where texts are tokens already, they must be enough, as for a run. */
static ptq_status check_tokens(const planned *p, ptq_err *err) {
  bool all = true;
  const ptq_study s = {.spec = p->spec, .grid = p->grid};
  const ptq_status rc = ptq_study_check_prepared(&s, &all, err);
  if (rc == PTQ_OK && !all)
    ptq_log(PTQ_LOG_INFO,
            "whether the texts are long enough is known after: python3 "
            "sweeps/prepare.py %s",
            p->spec.path);
  return rc;
}

static ptq_status make_plan(planned *p, const ptq_args *args, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *sets[MAX_SETS];
  unsigned char *todo = NULL;
  const int n_sets = ptq_args_all(args, "set", sets, MAX_SETS);
  PTQ_TRY(ptq_spec_read(ptq_args_at(args, 0), sets, n_sets, &p->spec, err));
  PTQ_TRY(check_texts(&p->spec, err));
  PTQ_TRY(ptq_grid_build(&p->spec, &p->grid, err));
  PTQ_TRY(check_tokens(p, err));
  PTQ_TRY(ptq_grid_measure(&p->grid, err));
  p->grid.scratch = p->scratch;
  if (p->threads > 0) p->grid.threads = p->threads;
  form_teams(p);
  const int64_t n = p->grid.n_points + ptq_grid_own(&p->grid);
  PTQ_TRY(ptq_alloc(&todo, n, 1, "what is to do", err));
  memset(todo, 1, (size_t)n);
  const bool here = !ptq_args_has(args, "gflops");
  if (here || p->spec.compute == PTQ_COMPUTE_BF16) PTQ_TRY(ptq_blas_init(err));
  if (p->spec.compute == PTQ_COMPUTE_BF16) PTQ_TRY(ptq_bf16_init(err));
  if (here) p->rates = ptq_speed_rates();
  if (here && p->memory == 0) p->memory = default_memory(p);
  PTQ_TRY(ptq_plan_build(&p->grid, todo, todo + p->grid.n_points, p->teams,
                         p->memory, &p->rates, &p->plan, err));
  p->makespan = ptq_plan_makespan(&p->plan, p->teams);
  PTQ_TRY(ptq_alloc(&p->bits, p->grid.n_points, sizeof *p->bits, "bits", err));
  for (int64_t i = 0; i < p->grid.n_points; i++)
    PTQ_TRY(ptq_point_bits(&p->grid, i, &p->bits[i], err));
done:
  ptq_free(todo);
  return rc;
}

static double point_seconds(const planned *p, int64_t point) {
  return ptq_point_flops(&p->grid, point) / p->rates.flops_per_s *
         p->rates.correction / ptq_grid_speedup(&p->grid);
}

static int64_t item_bytes(const planned *p, const ptq_item *item) {
  ptq_load load = {0};
  if (item->n == 0) return ptq_own_bytes(&p->grid, item->subject);
  for (int64_t j = 0; j < item->n; j++)
    ptq_load_add(&load, &p->grid, p->plan.order[item->first + j]);
  return ptq_batch_bytes(&p->grid, item->subject, &load);
}

/* Whose item it is. */
static int64_t subject_of(const planned *p, const ptq_item *item) {
  return item->n > 0 ? item->subject
                     : ptq_grid_own_subject(&p->grid, item->subject);
}

/* What a subject sums up to in the plan. */
typedef struct subject_total {
  int64_t points, batches, directions, widest, bytes;
  double seconds;
} subject_total;

static subject_total total_of(const planned *p, int64_t subject) {
  subject_total t = {.bytes = ptq_subject_bytes(&p->grid, subject)};
  for (int64_t i = 0; i < p->plan.n_items; i++) {
    const ptq_item *item = &p->plan.items[i];
    if (subject_of(p, item) != subject) continue;
    t.seconds += item->seconds;
    t.batches += item->n > 0;
    t.directions += item->n == 0 && item->subject >= p->grid.n_subjects;
    t.points += item->n;
    if (item->n > t.widest) t.widest = item->n;
    const int64_t bytes = item_bytes(p, item);
    if (bytes > t.bytes) t.bytes = bytes;
  }
  return t;
}

/* "1 h 05 min", "3.2 s" */
static const char *time_text(double seconds, char text[32]) {
  const int64_t s = (int64_t)(seconds + 0.5);
  if (seconds < 100.0)
    snprintf(text, 32, "%.1f s", seconds);
  else if (s < 6000)
    snprintf(text, 32, "%" PRId64 " min %02" PRId64 " s", s / 60, s % 60);
  else
    snprintf(text, 32, "%" PRId64 " h %02" PRId64 " min", s / 3600,
             s / 60 % 60);
  return text;
}

static void print_points(const planned *p) {
  int width = 14; /* of the longest dtype */
  for (int64_t i = 0; i < p->spec.n_dtypes; i++) {
    const int n = (int)strlen(p->spec.dtypes[i].name);
    if (n > width) width = n;
  }
  printf("%-6s %-20s %-*s %-28s %7s %7s %9s\n", "point", "model", width,
         "dtype", "method", "group", "bits/w", "seconds");
  for (int64_t i = 0; i < p->grid.n_points; i++) {
    const ptq_point *point = &p->grid.points[i];
    const ptq_method *m = &p->spec.methods[point->method];
    const int64_t model = p->grid.subjects[point->subject].model;
    char group[24], method[PTQ_METHOD_NAME_MAX + PTQ_METHOD_OPTIONS_MAX + 2];
    ptq_group_name(point->group, group);
    snprintf(method, sizeof method, "%s%s%s", m->name,
             m->options[0] != '\0' ? " " : "", m->options);
    printf("%-6" PRId64 " %-20s %-*s %-28s %7s %7.3f %9.2f\n", i,
           p->spec.models[model].name, width, p->spec.dtypes[point->dtype].name,
           method, group, p->bits[i], point_seconds(p, i));
  }
}

static void print_subjects(const planned *p) {
  printf("\n%-20s %-24s %-24s %6s %7s %6s %10s %10s %9s\n", "model",
         "calibration", "evaluation", "points", "batches", "widest",
         "directions", "seconds", "memory");
  for (int64_t i = 0; i < p->grid.n_subjects; i++) {
    const ptq_subject *s = &p->grid.subjects[i];
    const subject_total t = total_of(p, i);
    char memory[24];
    ptq_bytes_name(t.bytes, memory);
    printf("%-20s %-24s %-24s %6" PRId64 " %7" PRId64 " %6" PRId64 " %10" PRId64
           " %10.1f %9s\n",
           p->spec.models[s->model].name,
           p->spec.calibrations[s->calibration].label,
           p->spec.evaluations[s->evaluation].label, t.points, t.batches,
           t.widest, t.directions, t.seconds, memory);
  }
}

static void print_plan(const planned *p) {
  char total[32], span[32], memory[24];
  print_points(p);
  print_subjects(p);
  ptq_bytes_name(p->plan.memory_bytes, memory);
  printf("\nsweep '%s': %" PRId64 " points of %" PRId64 " model%s",
         p->spec.name, p->grid.n_points, p->spec.n_models,
         p->spec.n_models == 1 ? "" : "s");
  if (p->grid.n_duplicates > 0)
    printf("; %" PRId64 " dropped: their group is a row already listed",
           p->grid.n_duplicates);
  if (p->grid.n_excluded > 0)
    printf("; %" PRId64 " excluded", p->grid.n_excluded);
  const int threads = p->grid.threads > 1 ? p->grid.threads : 1;
  char team[32] = "", one[32] = "one rank";
  if (threads > 1) snprintf(team, sizeof team, "%d threads of ", threads);
  if (p->grid.ranks > 1)
    snprintf(one, sizeof one, "a team of %d ranks", p->grid.ranks);
  printf("\n%" PRId64
         " batches and items of models, %s of %s at %s%.0f GFLOP/s; "
         "about %s on %d rank%s, %.1f %% above the lower bound\nmemory of a "
         "rank: at most %s\n",
         p->plan.n_items, time_text(p->plan.seconds_total, total), one, team,
         p->rates.flops_per_s / 1e9, time_text(p->makespan, span), p->ranks,
         p->ranks == 1 ? "" : "s",
         100.0 * (p->makespan / lower_bound(&p->plan, p->teams) - 1.0), memory);
  if (p->spec.compute == PTQ_COMPUTE_BF16)
    printf("compute bf16: multiplied here by %s%s\n", ptq_bf16_name(),
           ptq_bf16_is_fast() ? ""
                              : " in float32, for the lack of AVX-512 BF16 or "
                                "AMX: no faster than f32");
}

static json_t *point_json(const planned *p, int64_t i) {
  const ptq_point *point = &p->grid.points[i];
  const ptq_subject *s = &p->grid.subjects[point->subject];
  const ptq_method *m = &p->spec.methods[point->method];
  return json_pack(
      "{s:s, s:s, s:s, s:s, s:I, s:f, s:s, s:s, s:f}", "model",
      p->spec.models[s->model].name, "dtype", p->spec.dtypes[point->dtype].name,
      "method", m->name, "options", m->options, "group",
      (json_int_t)point->group, "bits", p->bits[i], "calibration",
      p->spec.calibrations[s->calibration].label, "evaluation",
      p->spec.evaluations[s->evaluation].label, "seconds", point_seconds(p, i));
}

static json_t *item_json(const planned *p, int64_t i) {
  const ptq_item *item = &p->plan.items[i];
  json_t *points = json_array();
  for (int64_t j = 0; j < item->n; j++)
    (void)json_array_append_new(points,
                                json_integer(p->plan.order[item->first + j]));
  const int64_t model = p->grid.subjects[subject_of(p, item)].model;
  const bool along = item->n == 0 && item->subject >= p->grid.n_subjects;
  return json_pack("{s:s, s:o, s:b, s:f, s:I}", "model",
                   p->spec.models[model].name, "points", points, "landscape",
                   (int)along, "seconds", item->seconds, "memory",
                   (json_int_t)item_bytes(p, item));
}

static ptq_status print_json(const planned *p, ptq_err *err) {
  json_t *points = json_array(), *items = json_array();
  for (int64_t i = 0; i < p->grid.n_points; i++)
    (void)json_array_append_new(points, point_json(p, i));
  for (int64_t i = 0; i < p->plan.n_items; i++)
    (void)json_array_append_new(items, item_json(p, i));
  json_t *root = json_pack(
      "{s:s, s:s, s:i, s:i, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:o, s:o}",
      "name", p->spec.name, "compute", ptq_compute_name(p->spec.compute),
      "ranks", p->ranks, "ranks_per_point", p->grid.ranks, "duplicates",
      (json_int_t)p->grid.n_duplicates, "excluded",
      (json_int_t)p->grid.n_excluded, "seconds", p->plan.seconds_total,
      "makespan", p->makespan, "lower_bound", lower_bound(&p->plan, p->teams),
      "gflops", p->rates.flops_per_s / 1e9, "memory",
      (json_int_t)p->plan.memory_bytes, "points", points, "items", items);
  const int bad = root == NULL || json_dumpf(root, stdout, JSON_INDENT(1)) != 0;
  json_decref(root);
  if (bad && !ferror(stdout))
    return PTQ_FAIL(err, PTQ_E_NOMEM, "writing the plan as JSON");
  printf("\n");
  return PTQ_OK;
}

static ptq_status run(const ptq_args *args, int *exit_code, ptq_err *err) {
  planned p = {0};
  ptq_status rc = read_options(&p, args, err);
  if (rc == PTQ_E_ARG) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  PTQ_TRY(make_plan(&p, args, err));
  if (ptq_args_has(args, "json"))
    rc = print_json(&p, err);
  else
    print_plan(&p);
done:
  planned_release(&p);
  return rc;
}

static const ptq_option options[] = {
    {"ranks", 0, "N", "ranks that work (default 1)"},
    {"memory", 0, "SIZE",
     "memory a rank may use, such as 4GB (default: as of run\n"
     "                               on this host; with --gflops no limit)"},
    {"scratch", 0, "DIR", "as of run: hidden states in files"},
    {"threads", 0, "N", "threads of a rank, as of run"},
    {"ranks-per-point", 0, "N", "ranks in a team, as of run"},
    {"set", 0, "KEY=VALUE", "override a value of the sweep file; repeatable"},
    {"gflops", 0, "N",
     "GFLOP/s of a thread, for another machine (default:\n"
     "                               measured here)"},
    {"json", 0, NULL, "one JSON object instead of tables"},
    {0}};

const ptq_command ptq_cmd_plan = {
    .name = "plan",
    .args = "SPEC [options]",
    .summary = "list the points of a sweep, their cost, memory and makespan",
    .details =
        "Checks the sweep file SPEC, its models and that its texts are there,\n"
        "and prints what a run would do: every point with the bits a weight "
        "of\n"
        "its format (what a method keeps beside it not counted) and predicted\n"
        "seconds, the batches they are packed into, the memory of a rank and\n"
        "the makespan. Needs no MPI, no tokens but those of data.requests,\n"
        "and writes nothing. Texts whose tokens are there must be long "
        "enough.\n"
        "Seconds are for this machine, whose speed is measured first, or for\n"
        "one of --gflops; a run corrects them by what it measures.\n\n"
        "  ptqsweep plan sweeps/quick.yaml --ranks 2 --set grid.group=[32]\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
