/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "spectra.h"

#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

static const char *const names[PTQ_SPECTRA_ROWS] = {
    "attn_in",         "attn_out",         "mlp_in",         "mlp_out",
    "attn_in_nofirst", "attn_out_nofirst", "mlp_in_nofirst", "mlp_out_nofirst"};

const char *ptq_spectra_name(int i) {
  PTQ_ASSERT(i >= 0 && i < PTQ_SPECTRA_ROWS);
  return names[i];
}

ptq_site ptq_spectra_site(int i) {
  return (ptq_site)(i % PTQ_SITE_COUNT);
}

/* How often a token is seen at a kind of site. */
static int64_t times(const ptq_model_info *info, int kind) {
  return info->n_experts > 0 && kind == PTQ_SITE_MLP_OUT ? info->experts_used
                                                         : 1;
}

static bool keeps(const ptq_model_info *info, int kind, int64_t n_tokens) {
  return n_tokens * times(info, kind) < ptq_site_width(info, kind);
}

/* A team's ranks share what is summed. */
static ptq_status open_sum(ptq_team *team, ptq_moment *m, int64_t d,
                           ptq_err *err) {
  *m = (ptq_moment){.d = d};
  return ptq_team_alloc(team, &m->sum, d * d, sizeof *m->sum, "second moment",
                        err);
}

static void release_sum(ptq_team *team, ptq_moment *m) {
  ptq_team_free(team, m->sum);
  *m = (ptq_moment){0};
}

/* To zero tokens; the leader does it for all. */
static void reset_sum(const ptq_team *team, ptq_moment *m) {
  if (ptq_team_leads(team)) ptq_moment_reset(m);
  m->n_tokens = 0;
}

static ptq_status open_inputs(ptq_spectra_inputs *in,
                              const ptq_model_info *info, ptq_room room,
                              int kind, int64_t n, int64_t length,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *in = (ptq_spectra_inputs){.d = ptq_site_width(info, kind),
                             .most = length * times(info, kind),
                             .keeps = keeps(info, kind, n * length),
                             .times = times(info, kind),
                             .rows = {.fd = -1}};
  PTQ_TRY(ptq_alloc(&in->firsts, n * in->times * in->d, sizeof(float),
                    "first positions", err));
  PTQ_TRY(ptq_alloc(&in->n_rows, n, sizeof *in->n_rows, "inputs", err));
  if (in->keeps)
    PTQ_TRY(ptq_spool_open(&in->rows, room, n, in->most * in->d,
                           "a site's inputs", err));
  else
    PTQ_TRY(open_sum(room.team, &in->rest, in->d, err));
done:
  return rc;
}

ptq_status ptq_spectra_init(ptq_spectra *s, const ptq_model_info *info,
                            ptq_room room, int64_t n, int64_t length,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t largest = 0, kept = 0;
  s->mixture = info->n_experts > 0;
  s->hands = room.hands;
  s->team = room.team;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    PTQ_TRY(open_inputs(&s->in[k], info, room, k, n, length, err));
    const int64_t d = s->in[k].d;
    if (d > largest) largest = d;
    if (d > kept && s->in[k].keeps) kept = d;
  }
  if (kept > 0) PTQ_TRY(open_sum(room.team, &s->rest, kept, err));
  PTQ_TRY(ptq_team_alloc(room.team, &s->matrix, largest * largest,
                         sizeof(double), "H", err));
  PTQ_TRY(ptq_team_alloc(room.team, &s->found, 2 * largest, sizeof(double),
                         "eigenvalues", err));
  PTQ_TRY(
      ptq_alloc(&s->scratch, room.hands, sizeof *s->scratch, "moments", err));
  for (int h = 0; h < room.hands; h++)
    PTQ_TRY(ptq_alloc(&s->scratch[h], ptq_moment_scratch(largest),
                      sizeof(float), "moment of a window", err));
  for (int i = 0; i < PTQ_SPECTRA_ROWS; i++) {
    const int64_t d = ptq_site_width(info, (int)ptq_spectra_site(i));
    PTQ_TRY(ptq_alloc(&s->values[i], info->n_blocks * d, sizeof(double),
                      "eigenvalues", err));
    s->rows[i] = (ptq_spectrum){.site = names[i],
                                .n_blocks = info->n_blocks,
                                .d = d,
                                .values = s->values[i]};
  }
  s->n_rows = PTQ_SPECTRA_ROWS;
done:
  return rc;
}

void ptq_spectra_end(ptq_spectra *s) {
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    ptq_spectra_inputs *in = &s->in[k];
    ptq_spool_close(&in->rows);
    release_sum(s->team, &in->rest);
    ptq_free(in->n_rows);
    ptq_free(in->firsts);
    *in = (ptq_spectra_inputs){.rows = {.fd = -1}};
  }
  release_sum(s->team, &s->rest);
  ptq_team_free(s->team, s->matrix);
  ptq_team_free(s->team, s->found);
  for (int h = 0; s->scratch != NULL && h < s->hands; h++)
    ptq_free(s->scratch[h]);
  ptq_free(s->scratch);
  s->matrix = s->found = NULL;
  s->scratch = NULL;
}

void ptq_spectra_release(ptq_spectra *s) {
  ptq_spectra_end(s);
  for (int i = 0; i < PTQ_SPECTRA_ROWS; i++) ptq_free(s->values[i]);
  *s = (ptq_spectra){0};
}

/* A pass over the calibration text, and a window on it. */
typedef struct pass {
  ptq_spectra *s;
  ptq_stream *calib;
  const ptq_hands *hands;
  const ptq_block *block;
} pass;
typedef struct view {
  ptq_spectra *s;
  int hand;
  int64_t window;
  ptq_order *order;             /* of the windows, at panels of kinds */
  int n_firsts[PTQ_SITE_COUNT]; /* of the window */
  bool first_routed;            /* the expert at hand has the first position */
} view;

/* A place of the order for each panel of a kind's moment. */
static int64_t panels(const ptq_spectra *s) {
  int64_t most = 1;
  for (int k = 0; k < PTQ_SITE_COUNT; k++)
    if (ptq_moment_panels(s->in[k].d) > most)
      most = ptq_moment_panels(s->in[k].d);
  return most;
}

/* Rows into a kind's sum. Experts share that of MLP_OUT, one after the other:
 * their window's turn lasts until it ends. */
static ptq_status add_rows(view *v, int kind, const float *x, int64_t n,
                           ptq_moment *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  float *product = v->s->scratch[v->hand];
  if (n == 0) return PTQ_OK;
  for (int64_t i = 0; i < ptq_moment_panels(m->d); i++) {
    const int64_t place = kind * panels(v->s) + i;
    const bool shared = v->s->mixture && kind == PTQ_SITE_MLP_OUT;
    ptq_moment_product(m->d, i, x, n, product);
    PTQ_TRY(ptq_order_wait(v->order, place, v->window, err));
    ptq_moment_add_panel(m->sum, m->d, i, product);
    if (i == 0) m->n_tokens += n;
    if (!shared) ptq_order_pass(v->order, place, v->window);
  }
done:
  return rc;
}

/* Rows of a kind, the first of them of the window's first position or not. */
static ptq_status take(view *v, int kind, const float *x, int64_t n, bool first,
                       ptq_err *err) {
  ptq_spectra_inputs *in = &v->s->in[kind];
  const int64_t d = in->d;
  if (first) {
    const int64_t at = v->window * in->times + v->n_firsts[kind]++;
    memcpy(in->firsts + at * d, x, (size_t)d * sizeof *x);
    x += d;
    n--;
  }
  if (!in->keeps) return add_rows(v, kind, x, n, &in->rest, err);
  int64_t *have = &in->n_rows[v->window];
  memcpy(ptq_spool_fresh(&in->rows, v->hand, v->window) + *have * d, x,
         (size_t)(n * d) * sizeof *x);
  *have += n;
  return PTQ_OK;
}

static ptq_status see_input(void *ctx, int site, const float *x, int64_t n,
                            int64_t width, ptq_err *err) {
  view *v = ctx;
  const ptq_site kind = ptq_site_kind(site);
  const bool mixture = v->s->mixture;
  (void)width;
  if (mixture && kind == PTQ_SITE_MLP_IN) return PTQ_OK; /* the router's */
  const bool routed = mixture && kind == PTQ_SITE_MLP_OUT;
  return take(v, (int)kind, x, n, !routed || v->first_routed, err);
}

static ptq_status see_router(void *ctx, const float *x, int64_t n,
                             ptq_err *err) {
  return take(ctx, PTQ_SITE_MLP_IN, x, n, true, err);
}

static ptq_status see_routed(void *ctx, int expert, const int32_t *tokens,
                             int64_t n, ptq_err *err) {
  view *v = ctx;
  (void)expert, (void)n, (void)err;
  v->first_routed = tokens[0] == 0;
  return PTQ_OK;
}

static ptq_status see_window(void *ctx, int hand, int64_t i, ptq_order *order,
                             ptq_err *err) {
  const pass *p = ctx;
  ptq_spectra *s = p->s;
  ptq_status rc = PTQ_OK;
  view v = {.s = s, .hand = hand, .window = i, .order = order};
  const ptq_forward_hook hook = {.ctx = &v,
                                 .input = see_input,
                                 .router = see_router,
                                 .routed = see_routed};
  PTQ_TRY(ptq_stream_push(p->calib, p->hands, hand, i, p->block, &hook, err));
  for (int k = 0; k < PTQ_SITE_COUNT; k++)
    if (s->in[k].keeps)
      PTQ_TRY(ptq_spool_put(&s->in[k].rows, hand,
                            s->in[k].n_rows[i] * s->in[k].d, err));
done:
  return rc;
}

/* The kept rows of a kind on their way into a sum. */
typedef struct summing {
  ptq_spectra *s;
  int kind;
} summing;

static ptq_status sum_window(void *ctx, int hand, int64_t i, ptq_order *order,
                             ptq_err *err) {
  const summing *p = ctx;
  ptq_spectra_inputs *in = &p->s->in[p->kind];
  float *x = NULL;
  view v = {.s = p->s, .hand = hand, .window = i, .order = order};
  const ptq_status rc = ptq_spool_get(&in->rows, hand, i, &x, err);
  return rc != PTQ_OK
             ? rc
             : add_rows(&v, p->kind, x, in->n_rows[i], &p->s->rest, err);
}

/* Windows in their order. */
static ptq_status run_windows(ptq_spectra *s, int64_t n, ptq_crew_fn *fn,
                              void *ctx, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_team_meet(s->team, err)); /* nobody reads the last sums */
  PTQ_TRY(ptq_team_run_ordered(s->team, s->hands, 0, n,
                               PTQ_SITE_COUNT * panels(s), fn, ctx, err));
done:
  return rc;
}

/* Both moments of a kind in full storage; the second is not there where no
 * window has more than a first position. */
typedef struct decomposition {
  int64_t d, there;
  double *matrix[2]; /* borrowed */
  double *values[2]; /* borrowed */
} decomposition;

static ptq_status decompose(void *ctx, int hand, int64_t i, ptq_order *order,
                            ptq_err *err) {
  const decomposition *p = ctx;
  (void)hand, (void)order;
  return ptq_eigenvalues(p->matrix[i], p->d, p->values[i], err);
}

/* The sum with first positions goes where they stood, the one without is read
 * out of its own place: each in the other's memory. */
static void join_sums(ptq_spectra *s, const ptq_spectra_inputs *in,
                      ptq_moment *rest, int64_t n_firsts) {
  const int64_t d = in->d;
  ptq_moment all = {.d = d, .sum = s->matrix};
  ptq_moment_reset(&all);
  for (int64_t i = 0; i < n_firsts; i++)
    ptq_moment_add(&all, in->firsts + i * d, 1, s->scratch[0]);
  for (int64_t j = 0; j < d * d; j++) {
    const double without = rest->sum[j];
    rest->sum[j] += all.sum[j];
    all.sum[j] = without;
  }
  all.n_tokens = rest->n_tokens;
  const ptq_moment with = {
      .d = d, .n_tokens = rest->n_tokens + n_firsts, .sum = rest->sum};
  if (all.n_tokens > 0) ptq_moment_get(&all, all.sum);
  ptq_moment_get(&with, with.sum);
}

/* Both rows of a kind. */
static ptq_status finish(ptq_spectra *s, int kind, int64_t block, int64_t n,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_spectra_inputs *in = &s->in[kind];
  ptq_moment *rest = in->keeps ? &s->rest : &in->rest;
  const int64_t d = in->d, n_firsts = n * in->times;
  const int second = PTQ_SITE_COUNT + kind;
  decomposition p = {.d = d,
                     .matrix = {rest->sum, s->matrix},
                     .values = {s->found, s->found + d}};
  if (in->keeps) {
    summing sum = {.s = s, .kind = kind};
    s->rest.d = d;
    reset_sum(s->team, &s->rest);
    PTQ_TRY(run_windows(s, n, sum_window, &sum, err));
  }
  PTQ_TRY(ptq_team_sum(s->team, &rest->n_tokens, 1, err));
  PTQ_TRY(ptq_team_share(s->team, in->firsts, n,
                         (size_t)(in->times * d) * sizeof *in->firsts, 1, err));
  if (ptq_team_leads(s->team)) join_sums(s, in, rest, n_firsts);
  const int64_t without = rest->n_tokens;
  s->rows[kind].n_tokens = without + n_firsts;
  if (without > 0) s->rows[second].n_tokens = without;
  p.there = without > 0 ? 2 : 1;
  PTQ_TRY(ptq_team_meet(s->team, err));
  PTQ_TRY(
      ptq_team_run(s->team, s->hands > 1 ? 2 : 1, p.there, decompose, &p, err));
  memcpy(s->values[kind] + block * d, s->found, (size_t)d * sizeof(double));
  if (without > 0)
    memcpy(s->values[second] + block * d, s->found + d,
           (size_t)d * sizeof(double));
done:
  return rc;
}

static void start(ptq_spectra *s, int64_t n) {
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    ptq_spectra_inputs *in = &s->in[k];
    if (!in->keeps) reset_sum(s->team, &in->rest);
    memset(in->n_rows, 0, (size_t)n * sizeof *in->n_rows);
  }
}

ptq_status ptq_spectra_block(ptq_spectra *s, ptq_stream *calib,
                             const ptq_hands *hands, const ptq_block *b,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  pass p = {.s = s, .calib = calib, .hands = hands, .block = b};
  start(s, calib->n);
  PTQ_TRY(run_windows(s, calib->n, see_window, &p, err));
  for (int k = 0; k < PTQ_SITE_COUNT; k++)
    PTQ_TRY(finish(s, k, b->index, calib->n, err));
done:
  return rc;
}

int64_t ptq_spectra_bytes(const ptq_model_info *info, ptq_room room, int64_t n,
                          int64_t length) {
  const int64_t one = sizeof(float), two = sizeof(double);
  int64_t bytes = 0, largest = 0, kept = 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    const int64_t d = ptq_site_width(info, k), t = times(info, k);
    bytes += n * t * d * one + 2 * info->n_blocks * d * two;
    if (keeps(info, k, n * length))
      bytes += ptq_spool_bytes(room, n, length * t * d);
    else
      bytes += d * d * two;
    if (d > largest) largest = d;
    if (d > kept && keeps(info, k, n * length)) kept = d;
  }
  return bytes + (kept * kept + (largest + 2) * largest) * two +
         room.hands * ptq_moment_scratch(largest) * one;
}
