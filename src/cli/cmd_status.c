/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/store/view.h"

extern const ptq_command ptq_cmd_status;

enum { MAX_SHOWN = 10, N_STATES = PTQ_STATE_FAILED + 1, LOG_LINES = 5 };

/* What one look at a store tells. Rows are borrowed from the view. */
typedef struct overview {
  const ptq_point_row *points;
  const ptq_attempt_row *attempts;
  const ptq_model_row *models;
  const ptq_direction_row *directions;
  const ptq_attempt_row *model_attempts, *direction_attempts;
  const int *state, *model_state, *direction_state;
  const int64_t *subject;
  int64_t n_points, n_models;
  int64_t count[N_STATES], model_count[N_STATES], direction_count[N_STATES];
  int64_t n_directions;
  bool running;
  long pid;
  int64_t n_ranks;     /* that wrote or work on a row */
  double seconds_done; /* spent on finished points */
  double seconds_left; /* of one rank, NaN when nothing is finished */
} overview;

static void count_states(const int *state, int64_t n, int64_t count[N_STATES]) {
  for (int64_t i = 0; i < n; i++)
    if (state[i] >= 0 && state[i] < N_STATES) count[state[i]]++;
}

/* Different ranks among the points; at least 1. */
static int64_t count_ranks(const overview *o) {
  enum { MAX_RANKS = 65536 };
  /* Who works now; when nobody does, who did. */
  const int wanted = o->running ? PTQ_STATE_STARTED : PTQ_STATE_DONE;
  unsigned char *seen = NULL;
  int64_t n = 0;
  if (ptq_alloc(&seen, MAX_RANKS, 1, "ranks", NULL) != PTQ_OK) return 1;
  for (int64_t i = 0; i < o->n_points; i++) {
    const int64_t r = o->attempts[i].rank;
    if (o->state[i] != wanted || r < 0 || r >= MAX_RANKS || seen[r]) continue;
    seen[r] = 1;
    n++;
  }
  ptq_free(seen);
  return n > 0 ? n : 1;
}

/* Points of a model cost about the same, so what is left of a model is
 * counted at its mean; a model with nothing finished at the mean of all, by
 * the size of its weights. */
static ptq_status estimate(overview *o, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *spent = NULL, all_spent = 0.0, all_size = 0.0, left = 0.0;
  int64_t *finished = NULL;
  PTQ_TRY(ptq_alloc(&spent, o->n_models, sizeof *spent, "estimate", err));
  PTQ_TRY(ptq_alloc(&finished, o->n_models, sizeof *finished, "estimate", err));
  for (int64_t i = 0; i < o->n_points; i++) {
    const double s = o->attempts[i].seconds;
    if (o->state[i] != PTQ_STATE_DONE || isnan(s)) continue;
    spent[o->subject[i]] += s;
    finished[o->subject[i]]++;
    all_spent += s;
    all_size += (double)o->models[o->subject[i]].params;
  }
  for (int64_t i = 0; i < o->n_points; i++) {
    const int64_t m = o->subject[i];
    if (o->state[i] != PTQ_STATE_PENDING && o->state[i] != PTQ_STATE_STARTED)
      continue;
    if (finished[m] > 0)
      left += spent[m] / (double)finished[m];
    else
      left += all_spent / all_size * (double)o->models[m].params;
  }
  o->seconds_done = all_spent;
  o->seconds_left = left;
done:
  ptq_free(finished);
  ptq_free(spent);
  return rc;
}

static ptq_status look(ptq_view *v, overview *o, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL;
  const int64_t *first_layer = NULL, *first_window = NULL;
  ptq_view_landscape landscape;
  int64_t n = 0;
  *o = (overview){0};
  PTQ_TRY(ptq_view_states(v, &o->state, &o->n_points, &o->model_state,
                          &o->n_models, err));
  PTQ_TRY(ptq_view_index(v, &o->subject, &first_layer, &first_window, err));
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &n, err));
  o->points = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_ATTEMPTS, &rows, &n, err));
  o->attempts = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_MODELS, &rows, &n, err));
  o->models = rows;
  o->running = ptq_view_running(v, &o->pid);
  count_states(o->state, o->n_points, o->count);
  count_states(o->model_state, o->n_models, o->model_count);
  ptq_view_directions(v, &landscape);
  o->n_directions = landscape.n;
  o->direction_state = landscape.state;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &rows, &n, err));
  o->directions = rows;
  PTQ_TRY(ptq_view_item_attempts(v, false, &o->model_attempts, err));
  PTQ_TRY(ptq_view_item_attempts(v, true, &o->direction_attempts, err));
  count_states(landscape.state, landscape.n, o->direction_count);
  o->n_ranks = count_ranks(o);
  PTQ_TRY(estimate(o, err));
done:
  return rc;
}

static void print_duration(double s) {
  if (isnan(s) || s < 0)
    printf("unknown");
  else if (s < 90)
    printf("%.0f s", s);
  else if (s < 5400)
    printf("%.0f min", s / 60);
  else if (s < 2 * 86400)
    printf("%.1f h", s / 3600);
  else
    printf("%.1f days", s / 86400);
}

static void print_point(const overview *o, int64_t i) {
  const ptq_point_row *p = &o->points[i];
  printf("  %s %s %s%s%s group %" PRId64, p->model, p->dtype, p->method,
         p->options[0] != '\0' ? ":" : "", p->options, p->group);
}

/* The first points in a state, with who has them or why they failed. */
static void print_points(const overview *o, int state, const char *title) {
  int64_t shown = 0;
  if (o->count[state] == 0) return;
  printf("%s:\n", title);
  for (int64_t i = 0; i < o->n_points && shown < MAX_SHOWN; i++) {
    if (o->state[i] != state) continue;
    const ptq_attempt_row *a = &o->attempts[i];
    print_point(o, i);
    if (state == PTQ_STATE_FAILED)
      printf(": %s (attempts %" PRId64 ", key %s)\n", a->message, a->attempts,
             o->points[i].key);
    else
      printf(": rank %" PRId64 " on %s, attempt %" PRId64 "\n", a->rank,
             a->host, a->attempts);
    shown++;
  }
  if (o->count[state] > shown)
    printf("  and %" PRId64 " more\n", o->count[state] - shown);
}

/* The first of the models' own items that failed. */
static void print_items(const overview *o) {
  int64_t shown = 0;
  const int64_t failed =
      o->model_count[PTQ_STATE_FAILED] + o->direction_count[PTQ_STATE_FAILED];
  if (failed == 0) return;
  printf("failed models and directions of a landscape:\n");
  for (int64_t i = 0; i < o->n_models && shown < MAX_SHOWN; i++) {
    const ptq_attempt_row *a = &o->model_attempts[i];
    if (o->model_state[i] != PTQ_STATE_FAILED) continue;
    printf("  %s: %s (attempts %" PRId64 ")\n", o->models[i].model, a->message,
           a->attempts);
    shown++;
  }
  for (int64_t i = 0; i < o->n_directions && shown < MAX_SHOWN; i++) {
    const ptq_direction_row *d = &o->directions[i];
    const ptq_attempt_row *a = &o->direction_attempts[i];
    if (o->direction_state[i] != PTQ_STATE_FAILED) continue;
    printf("  %s %s %s%s %" PRId64 ": %s (attempts %" PRId64 ", key %s)\n",
           d->model, d->kind, d->scaling, d->dtype, d->number, a->message,
           a->attempts, d->key);
    shown++;
  }
  if (failed > shown) printf("  and %" PRId64 " more\n", failed - shown);
}

static void print_models(const overview *o) {
  printf("models: %" PRId64 " of %" PRId64 " measured\n",
         o->model_count[PTQ_STATE_DONE], o->n_models);
  for (int64_t m = 0; m < o->n_models; m++) {
    int64_t total = 0, finished = 0;
    for (int64_t i = 0; i < o->n_points; i++) {
      if (o->subject[i] != m) continue;
      total++;
      finished += o->state[i] == PTQ_STATE_DONE;
    }
    printf("  %-24s %-8s %" PRId64 "/%" PRId64 " points", o->models[m].model,
           ptq_state_name(o->model_state[m]), finished, total);
    if (o->model_state[m] == PTQ_STATE_DONE)
      printf(", nll %.4f", o->models[m].nll);
    printf("\n");
  }
}

static ptq_status print_text(ptq_view *v, const overview *o, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text log = {0};
  printf("%s (created %s, %s)\n", ptq_view_path(v),
         ptq_view_attribute(v, "created"), ptq_view_attribute(v, "numerics"));
  printf("points: %" PRId64 " done, %" PRId64 " failed, %" PRId64
         " started, %" PRId64 " pending, of %" PRId64 " (%.1f %%)\n",
         o->count[PTQ_STATE_DONE], o->count[PTQ_STATE_FAILED],
         o->count[PTQ_STATE_STARTED], o->count[PTQ_STATE_PENDING], o->n_points,
         100.0 * (double)o->count[PTQ_STATE_DONE] / (double)o->n_points);
  if (o->running)
    printf("a run is writing it (process %ld)\n", o->pid);
  else if (o->count[PTQ_STATE_PENDING] + o->count[PTQ_STATE_STARTED] > 0)
    printf("no run is writing it; `ptqsweep run` with its sweep file goes "
           "on\n");
  if (o->count[PTQ_STATE_PENDING] + o->count[PTQ_STATE_STARTED] > 0) {
    printf("left: ");
    print_duration(o->seconds_left / (double)o->n_ranks);
    printf(" on %" PRId64 " rank%s\n", o->n_ranks, o->n_ranks > 1 ? "s" : "");
  }
  print_models(o);
  if (o->n_directions > 0)
    printf("landscape: %" PRId64 " of %" PRId64 " directions measured, %" PRId64
           " failed\n",
           o->direction_count[PTQ_STATE_DONE], o->n_directions,
           o->direction_count[PTQ_STATE_FAILED]);
  print_points(o, PTQ_STATE_STARTED,
               o->running ? "being worked on" : "interrupted");
  print_points(o, PTQ_STATE_FAILED, "failed");
  print_items(o);
  PTQ_TRY(ptq_view_log(v, LOG_LINES, &log, err));
  if (log.len > 0) printf("log:\n%s", ptq_text_str(&log));
done:
  ptq_text_release(&log);
  return rc;
}

static json_t *counts_json(const int64_t count[N_STATES]) {
  json_t *out = json_object();
  for (int s = 0; s < N_STATES; s++)
    (void)json_object_set_new(out, ptq_state_name(s), json_integer(count[s]));
  return out;
}

static json_t *number_json(double v) {
  return isfinite(v) ? json_real(v) : json_null();
}

/* The points in a state, with who has or had them. */
static json_t *points_json(const overview *o, int state) {
  json_t *out = json_array();
  for (int64_t i = 0; i < o->n_points; i++) {
    if (o->state[i] != state) continue;
    const ptq_point_row *p = &o->points[i];
    const ptq_attempt_row *a = &o->attempts[i];
    (void)json_array_append_new(
        out, json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:s}",
                       "key", p->key, "model", p->model, "dtype", p->dtype,
                       "method", p->method, "group", (json_int_t)p->group,
                       "message", a->message, "attempts",
                       (json_int_t)a->attempts, "deaths", (json_int_t)a->deaths,
                       "rank", (json_int_t)a->rank, "host", a->host));
  }
  return out;
}

static void add_item(json_t *out, const char *kind, const char *model,
                     const ptq_direction_row *d, const ptq_attempt_row *a) {
  (void)json_array_append_new(
      out,
      json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:I}", "kind", kind,
                "model", model, "key", d != NULL ? d->key : "", "scaling",
                d != NULL ? d->scaling : "", "dtype", d != NULL ? d->dtype : "",
                "number", d != NULL ? (json_int_t)d->number : (json_int_t)0,
                "message", a->message, "attempts", (json_int_t)a->attempts,
                "deaths", (json_int_t)a->deaths));
}

/* Models ("model") and directions, by their kind, that failed. */
static json_t *items_json(const overview *o) {
  json_t *out = json_array();
  for (int64_t i = 0; i < o->n_models; i++)
    if (o->model_state[i] == PTQ_STATE_FAILED)
      add_item(out, "model", o->models[i].model, NULL, &o->model_attempts[i]);
  for (int64_t i = 0; i < o->n_directions; i++)
    if (o->direction_state[i] == PTQ_STATE_FAILED)
      add_item(out, o->directions[i].kind, o->directions[i].model,
               &o->directions[i], &o->direction_attempts[i]);
  return out;
}

static json_t *models_json(const overview *o) {
  json_t *out = json_array();
  for (int64_t m = 0; m < o->n_models; m++)
    (void)json_array_append_new(
        out, json_pack("{s:s, s:s, s:o}", "model", o->models[m].model, "state",
                       ptq_state_name(o->model_state[m]), "nll",
                       number_json(o->models[m].nll)));
  return out;
}

static ptq_status print_json(ptq_view *v, const overview *o, ptq_err *err) {
  json_t *out = json_pack(
      "{s:s, s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:b, s:I, s:o, s:o, s:o, s:o, "
      "s:o, s:o}",
      "store", ptq_view_path(v), "uuid", ptq_view_attribute(v, "uuid"),
      "created", ptq_view_attribute(v, "created"), "numerics",
      ptq_view_attribute(v, "numerics"), "n_points", (json_int_t)o->n_points,
      "points", counts_json(o->count), "subjects", counts_json(o->model_count),
      "directions", counts_json(o->direction_count), "running", o->running,
      "ranks", (json_int_t)o->n_ranks, "seconds_done",
      number_json(o->seconds_done), "seconds_left",
      number_json(o->seconds_left / (double)o->n_ranks), "models",
      models_json(o), "started", points_json(o, PTQ_STATE_STARTED), "failures",
      points_json(o, PTQ_STATE_FAILED), "failed_items", items_json(o));
  const int bad = out == NULL || json_dumpf(out, stdout, JSON_INDENT(2)) != 0;
  json_decref(out);
  if (bad && !ferror(stdout))
    return PTQ_FAIL(err, PTQ_E_NOMEM, "writing the status as JSON");
  printf("\n");
  return PTQ_OK;
}

/* One look at the store and its answer. *more: is there anything to wait
 * for? */
static ptq_status show(const char *path, bool json, bool *more, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *v = NULL;
  overview o;
  PTQ_TRY(ptq_view_open(path, &v, err));
  PTQ_TRY(look(v, &o, err));
  PTQ_TRY(json ? print_json(v, &o, err) : print_text(v, &o, err));
  /* --watch would repeat into a full disk or a closed pipe for ever */
  errno = 0;
  if (fflush(stdout) != 0 || ferror(stdout))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "cannot write standard output: %s",
                     errno != 0 ? strerror(errno) : "an earlier write failed"));
  *more =
      o.count[PTQ_STATE_PENDING] + o.count[PTQ_STATE_STARTED] > 0 ||
      o.model_count[PTQ_STATE_PENDING] + o.model_count[PTQ_STATE_STARTED] > 0;
done:
  ptq_view_close(v);
  return rc;
}

static ptq_status run_status(const ptq_args *args, int *exit_code,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double interval = 2.0;
  bool more = true;
  const bool json = ptq_args_has(args, "json");
  const bool watch = ptq_args_has(args, "watch");
  rc = ptq_args_double(args, "interval", interval, &interval, err);
  if (rc == PTQ_OK && (!(interval >= 0.1) || interval > 86400))
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "--interval %g: between 0.1 and 86400 seconds", interval);
  if (rc != PTQ_OK) *exit_code = PTQ_EXIT_USAGE;
  PTQ_TRY(rc);
  for (;;) {
    /* From the top of a terminal; one after the other into a file. */
    if (watch && !json && isatty(STDOUT_FILENO)) printf("\033[H\033[2J");
    PTQ_TRY(show(ptq_args_at(args, 0), json, &more, err));
    if (!watch || !more) break;
    struct timespec pause = {(time_t)interval,
                             (long)((interval - floor(interval)) * 1e9)};
    (void)nanosleep(&pause, NULL);
  }
done:
  return rc;
}

static const ptq_option options[] = {
    {"watch", 'w', NULL, "repeat until every point is finished"},
    {"interval", 'i', "SECONDS", "pause of --watch (2)"},
    {"json", 0, NULL, "one JSON object instead of text"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_status = {
    .name = "status",
    .args = "STORE [options]",
    .summary = "counts, time left, failures, who does what",
    .details =
        "Reads the store only, so it works while a run is writing it, from "
        "another shell\nor another node. The time left takes the mean time of "
        "each model's finished\npoints and the ranks seen so far.\n\n"
        "  ptqsweep status quick.h5 --watch\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_status,
};
