/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "collect.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

bool ptq_collect_keeps(const ptq_model_info *info, ptq_site kind,
                       int64_t n_tokens) {
  const int64_t rows = ptq_kept_most(info, kind, n_tokens);
  const int64_t sites = kind >= PTQ_SITE_MLP_IN ? ptq_mlp_count(info) : 1;
  return rows < sites * ptq_site_width(info, (int)kind);
}

static int64_t width_of(const ptq_collected *c, int site) {
  return ptq_site_width(c->info, site);
}

static int64_t widest(const ptq_model_info *info) {
  int64_t most = 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++)
    if (ptq_site_width(info, k) > most) most = ptq_site_width(info, k);
  return most;
}

/* Whether anything is ever summed. */
static bool has_sums(unsigned uses, const bool *keeps) {
  bool any = (uses & PTQ_COLLECT_MOMENTS) != 0;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) any = any || !keeps[k];
  return any;
}

/* What is not there of a kind's rows. */
static ptq_status open_kept(ptq_collected *c, int k, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t d = width_of(c, k);
  if (c->keeps[k] && c->kept[k].first == NULL)
    PTQ_TRY(ptq_kept_open(&c->kept[k], c->room, c->info, (ptq_site)k, c->n,
                          c->length, d, err));
  if ((c->needs & PTQ_NEED_CROSS) && c->reference[k].first == NULL)
    PTQ_TRY(ptq_kept_open(
        &c->reference[k], c->keeps[k] ? c->room : ptq_room_alone(c->room),
        c->info, (ptq_site)k, c->keeps[k] ? c->n : c->room.hands, c->length, d,
        err));
done:
  return rc;
}

static ptq_status open_scratch(ptq_collected *c, ptq_collect_scratch *s,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t d = widest(c->info);
  if (has_sums(c->uses, c->keeps))
    PTQ_TRY(ptq_alloc(&s->moment, ptq_moment_scratch(d), sizeof(float),
                      "moment of a window", err));
  if (c->needs & PTQ_NEED_CROSS) {
    PTQ_TRY(ptq_alloc(&s->product, d * d, sizeof(float),
                      "cross moment of a window", err));
    PTQ_TRY(ptq_alloc(&s->difference, c->length * d, sizeof(float),
                      "differences of a window", err));
  }
done:
  return rc;
}

ptq_status ptq_collected_open(ptq_collected *c, const ptq_model_info *info,
                              ptq_room room, unsigned uses, unsigned needs,
                              int64_t n, int64_t length, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int n_sites = ptq_site_count(info);
  *c = (ptq_collected){.info = info,
                       .room = room,
                       .uses = uses,
                       .needs = needs,
                       .n = n,
                       .n_train = n - (n >= 5 ? n / 5 : 1),
                       .length = length,
                       .built_site = -1};
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    c->keeps[k] = ptq_collect_keeps(info, (ptq_site)k, n * length);
    PTQ_TRY(open_kept(c, k, err));
  }
  PTQ_TRY(ptq_alloc(&c->sums, n_sites, sizeof *c->sums, "moments", err));
  PTQ_TRY(ptq_alloc(&c->h32, n_sites, sizeof *c->h32, "moments", err));
  PTQ_TRY(
      ptq_alloc(&c->scratch, room.hands, sizeof *c->scratch, "moments", err));
  for (int h = 0; h < room.hands; h++)
    PTQ_TRY(open_scratch(c, &c->scratch[h], err));
done:
  if (rc != PTQ_OK) ptq_collected_close(c);
  return rc;
}

void ptq_collected_close(ptq_collected *c) {
  if (c->info == NULL) return;
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    ptq_kept_close(&c->kept[k]);
    ptq_kept_close(&c->reference[k]);
  }
  for (int s = 0; s < ptq_site_count(c->info); s++) {
    if (c->sums != NULL) ptq_site_moments_release(c->room.team, &c->sums[s]);
    if (c->h32 != NULL) ptq_team_free(c->room.team, c->h32[s]);
  }
  for (int h = 0; c->scratch != NULL && h < c->room.hands; h++) {
    ptq_free(c->scratch[h].moment);
    ptq_free(c->scratch[h].product);
    ptq_free(c->scratch[h].difference);
  }
  ptq_site_moments_release(c->room.team, &c->built);
  ptq_free(c->sums);
  ptq_free(c->h32);
  ptq_free(c->scratch);
  *c = (ptq_collected){0};
}

/* The sites of a kind: first, behind the last, and from one to the next. */
static int end_of(const ptq_collected *c, int kind) {
  return kind >= PTQ_SITE_MLP_IN
             ? kind + PTQ_EXPERT_SITES * ptq_mlp_count(c->info)
             : kind + 1;
}

/* Empty sums and rows of kinds first..last. */
static ptq_status start(ptq_collected *c, ptq_site first, ptq_site last,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  c->first = first;
  c->last = last;
  c->built_site = -1;
  for (int k = (int)first; k <= (int)last; k++) {
    PTQ_TRY(open_kept(c, k, err));
    if (c->keeps[k]) continue;
    for (int s = k; s < end_of(c, k); s += PTQ_EXPERT_SITES) {
      PTQ_TRY(ptq_site_moments_make(c->room.team, &c->sums[s], c->needs,
                                    width_of(c, s), err));
      ptq_site_moments_clear(c->room.team, &c->sums[s], width_of(c, s));
    }
  }
done:
  return rc;
}

/* Where among its hands' windows or all windows the reference's rows of a
 * window stand. */
static int64_t reference_at(const ptq_collector *w, int kind) {
  return w->c->keeps[kind] ? w->window : w->hand;
}

ptq_collector ptq_collect_window(ptq_collected *c, int hand, int64_t i,
                                 ptq_order *order) {
  const ptq_collector w = {.c = c, .hand = hand, .window = i, .order = order};
  for (int k = (int)c->first; k <= (int)c->last; k++) {
    if (c->keeps[k]) ptq_kept_begin(&c->kept[k], hand, i);
    if (c->needs & PTQ_NEED_CROSS)
      ptq_kept_begin(&c->reference[k], hand, reference_at(&w, k));
  }
  return w;
}

/* The products over the part of (x_fp - x) x', float32. Tokens whose experts
 * differ in the two models do not take part. */
static ptq_status make_cross(const ptq_collector *w, int site,
                             const ptq_kept_part *own, ptq_err *err) {
  ptq_collected *c = w->c;
  const ptq_collect_scratch *s = &c->scratch[w->hand];
  const ptq_site kind = ptq_site_kind(site);
  const int64_t d = width_of(c, site);
  float *to = s->difference;
  int64_t i = -1, j = -1;
  ptq_kept_part fp;
  const ptq_status rc =
      ptq_kept_get(&c->reference[kind], w->hand, reference_at(w, (int)kind),
                   ptq_site_expert(site), &fp, err);
  if (rc != PTQ_OK) return rc;
  memset(to, 0, (size_t)(own->n * d) * sizeof *to);
  while (ptq_kept_next(own, &fp, &i, &j))
    for (int64_t k = 0; k < d; k++)
      to[i * d + k] = fp.x[j * d + k] - own->x[i * d + k];
  ptq_sgemm_tn(d, d, own->n, 1.0F, to, d, own->x, d, 0.0F, s->product, d);
  return PTQ_OK;
}

/* What goes into the sums beside the moment, in the window's last turn. */
static void add_rest(const ptq_collector *w, int64_t d, const ptq_kept_part *p,
                     ptq_site_moments *s) {
  s->n_tokens += p->n;
  for (int64_t t = 0; s->mean_abs != NULL && t < p->n; t++)
    for (int64_t i = 0; i < d; i++)
      s->mean_abs[i] += (double)fabsf(p->x[t * d + i]);
  if (s->cross != NULL)
    ptq_vec_accumulate(w->c->scratch[w->hand].product, d * d, 1.0, s->cross);
}

/* A place of the order for each panel of a site's moment. */
static int64_t panels(const ptq_collected *c) {
  return ptq_moment_panels(widest(c->info));
}

/* A part of a window into the sums of its site: products at once, sums in the
 * window's turn. */
static ptq_status add_part(const ptq_collector *w, int site,
                           const ptq_kept_part *p, ptq_site_moments *s,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t d = width_of(w->c, site), n = ptq_moment_panels(d);
  float *product = w->c->scratch[w->hand].moment;
  if (p->n == 0) return PTQ_OK;
  if (s->cross != NULL) PTQ_TRY(make_cross(w, site, p, err));
  for (int64_t i = 0; i < n; i++) {
    const int64_t place = site * panels(w->c) + i;
    ptq_moment_product(d, i, p->x, p->n, product);
    PTQ_TRY(ptq_order_wait(w->order, place, w->window, err));
    ptq_moment_add_panel(s->h, d, i, product);
    if (i + 1 == n) add_rest(w, d, p, s);
    ptq_order_pass(w->order, place, w->window);
  }
done:
  return rc;
}

ptq_status ptq_collect_input(void *collector, int site, const float *x,
                             int64_t n, int64_t width, ptq_err *err) {
  const ptq_collector *w = collector;
  ptq_collected *c = w->c;
  const ptq_site kind = ptq_site_kind(site);
  (void)width;
  if (kind < c->first || kind > c->last) return PTQ_OK;
  if (c->keeps[kind]) {
    ptq_kept_add(&c->kept[kind], w->hand, ptq_site_expert(site), x, w->tokens,
                 n);
    return PTQ_OK;
  }
  const bool routed = c->info->n_experts > 0 && kind >= PTQ_SITE_MLP_IN;
  const ptq_kept_part part = {
      .x = x, .tokens = routed ? w->tokens : NULL, .n = n};
  return add_part(w, site, &part, &c->sums[site], err);
}

ptq_status ptq_collect_routed(void *collector, int expert,
                              const int32_t *tokens, int64_t n, ptq_err *err) {
  ptq_collector *w = collector;
  (void)expert, (void)n, (void)err;
  w->tokens = tokens;
  return PTQ_OK;
}

ptq_status ptq_collect_reference(void *collector, int site, const float *x,
                                 int64_t n, int64_t width, ptq_err *err) {
  const ptq_collector *w = collector;
  ptq_collected *c = w->c;
  const ptq_site kind = ptq_site_kind(site);
  (void)width, (void)err;
  if (kind >= c->first && kind <= c->last)
    ptq_kept_add(&c->reference[kind], w->hand, ptq_site_expert(site), x,
                 w->tokens, n);
  return PTQ_OK;
}

ptq_status ptq_collect_reference_end(const ptq_collector *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_collected *c = w->c;
  for (int k = (int)c->first; k <= (int)c->last && rc == PTQ_OK; k++)
    rc = ptq_kept_end(&c->reference[k], w->hand, err);
  return rc;
}

ptq_status ptq_collect_window_end(const ptq_collector *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_collected *c = w->c;
  for (int k = (int)c->first; k <= (int)c->last && rc == PTQ_OK; k++)
    if (c->keeps[k]) rc = ptq_kept_end(&c->kept[k], w->hand, err);
  return rc;
}

/* The moment, and the one for errors. */
static void finish(const ptq_collected *c, int site) {
  ptq_site_moments *s = &c->sums[site];
  const int64_t d = width_of(c, site);
  ptq_site_moments_close(s, d);
  for (int64_t i = 0; c->h32[site] != NULL && i < d * d; i++)
    c->h32[site][i] = (float)s->h[i];
}

/* Whether a site has sums in the pass at hand. */
static bool sums_at(const ptq_collected *c, int site) {
  const ptq_site kind = ptq_site_kind(site);
  return kind >= c->first && kind <= c->last && !c->keeps[kind];
}

static ptq_status train_site(void *ctx, int hand, int64_t site,
                             ptq_order *order, ptq_err *err) {
  ptq_collected *c = ctx;
  (void)hand, (void)order, (void)err;
  if (sums_at(c, (int)site))
    ptq_site_moments_close_train(&c->sums[site], width_of(c, (int)site));
  return PTQ_OK;
}

static ptq_status finish_site(void *ctx, int hand, int64_t site,
                              ptq_order *order, ptq_err *err) {
  const ptq_collected *c = ctx;
  (void)hand, (void)order, (void)err;
  if (sums_at(c, (int)site)) finish(c, (int)site);
  return PTQ_OK;
}

/* Room for the moments for errors. */
static ptq_status open_errors(ptq_collected *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if ((c->uses & PTQ_COLLECT_ERRORS) == 0) return PTQ_OK;
  for (int s = 0; s < ptq_site_count(c->info); s++) {
    const int64_t d = width_of(c, s);
    if (sums_at(c, s) && c->h32[s] == NULL)
      PTQ_TRY(ptq_team_alloc(c->room.team, &c->h32[s], d * d, sizeof(float),
                             "H", err));
  }
done:
  return rc;
}

/* The sums go where no method wants them. */
static void let_sums_go(ptq_collected *c) {
  if (c->uses & PTQ_COLLECT_MOMENTS) return;
  for (int s = 0; s < ptq_site_count(c->info); s++) {
    const int64_t n = c->sums[s].n_tokens;
    if (!sums_at(c, s)) continue;
    ptq_site_moments_release(c->room.team, &c->sums[s]);
    c->sums[s].n_tokens = n;
  }
}

/* All ranks know what each has kept and counted. */
static ptq_status share_counts(ptq_collected *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int sites = ptq_site_count(c->info);
  int64_t *counts = NULL;
  if (c->room.team == NULL) return PTQ_OK;
  for (int k = (int)c->first; k <= (int)c->last; k++)
    if (c->keeps[k]) PTQ_TRY(ptq_kept_share(&c->kept[k], c->room.team, err));
  PTQ_TRY(ptq_alloc(&counts, sites, sizeof *counts, "counts", err));
  for (int s = 0; s < sites; s++)
    if (sums_at(c, s)) counts[s] = c->sums[s].n_tokens - c->sums[s].n_train;
  PTQ_TRY(ptq_team_sum(c->room.team, counts, sites, err));
  for (int s = 0; s < sites; s++)
    if (sums_at(c, s)) c->sums[s].n_tokens = c->sums[s].n_train + counts[s];
done:
  ptq_free(counts);
  return rc;
}

/* Windows first .. end - 1 in their order. */
static ptq_status run_windows(ptq_collected *c, int64_t first, int64_t end,
                              ptq_crew_fn *fn, void *ctx, ptq_err *err) {
  const int64_t places = ptq_site_count(c->info) * panels(c);
  return ptq_team_run_ordered(c->room.team, c->room.hands, first, end, places,
                              fn, ctx, err);
}

ptq_status ptq_collect_pass(ptq_collected *c, ptq_site first, ptq_site last,
                            ptq_crew_fn *push, void *ctx, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int threads = c->room.hands, sites = ptq_site_count(c->info);
  const int64_t split = c->needs & PTQ_NEED_HOLDOUT ? c->n_train : 0;
  PTQ_TRY(ptq_team_meet(c->room.team, err)); /* nobody reads the last sums */
  PTQ_TRY(start(c, first, last, err));
  if (split > 0) {
    PTQ_TRY(run_windows(c, 0, split, push, ctx, err));
    PTQ_TRY(share_counts(c, err));
    for (int s = 0; s < sites; s++)
      if (sums_at(c, s)) c->sums[s].n_train = c->sums[s].n_tokens;
    PTQ_TRY(ptq_team_run(c->room.team, threads, sites, train_site, c, err));
  }
  PTQ_TRY(run_windows(c, split, c->n, push, ctx, err));
  PTQ_TRY(share_counts(c, err));
  PTQ_TRY(open_errors(c, err));
  PTQ_TRY(ptq_team_run(c->room.team, threads, sites, finish_site, c, err));
  let_sums_go(c);
done:
  return rc;
}

/* Window i of the kept site that is built. */
static ptq_status build_window(void *ctx, int hand, int64_t i, ptq_order *order,
                               ptq_err *err) {
  ptq_collected *c = ctx;
  const ptq_collector w = {.c = c, .hand = hand, .window = i, .order = order};
  const int site = c->built_site;
  ptq_kept_part part;
  const ptq_status rc = ptq_kept_get(&c->kept[ptq_site_kind(site)], hand, i,
                                     ptq_site_expert(site), &part, err);
  return rc == PTQ_OK ? add_part(&w, site, &part, &c->built, err) : rc;
}

/* The moments of a site whose rows are kept. */
static ptq_status build(ptq_collected *c, int site, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t d = width_of(c, site);
  const int64_t split = c->needs & PTQ_NEED_HOLDOUT ? c->n_train : 0;
  const bool leads = ptq_team_leads(c->room.team);
  PTQ_TRY(ptq_team_meet(c->room.team, err));
  if (c->built_d != d) ptq_site_moments_release(c->room.team, &c->built);
  PTQ_TRY(ptq_site_moments_make(c->room.team, &c->built, c->needs, d, err));
  c->built_d = d;
  c->built_site = site;
  ptq_site_moments_clear(c->room.team, &c->built, d);
  if (split > 0) {
    PTQ_TRY(run_windows(c, 0, split, build_window, c, err));
    c->built.n_train = ptq_kept_count_first(&c->kept[ptq_site_kind(site)],
                                            ptq_site_expert(site), split);
    if (leads) ptq_site_moments_close_train(&c->built, d);
    PTQ_TRY(ptq_team_meet(c->room.team, err));
  }
  PTQ_TRY(run_windows(c, split, c->n, build_window, c, err));
  c->built.n_tokens = ptq_collected_tokens(c, site);
  if (leads) ptq_site_moments_close(&c->built, d);
  PTQ_TRY(ptq_team_meet(c->room.team, err));
done:
  if (rc != PTQ_OK) c->built_site = -1;
  return rc;
}

ptq_status ptq_collected_site(ptq_collected *c, int site,
                              const ptq_site_moments **out, ptq_err *err) {
  PTQ_ASSERT(c->uses & PTQ_COLLECT_MOMENTS);
  *out = &c->sums[site];
  if (!c->keeps[ptq_site_kind(site)]) return PTQ_OK;
  *out = &c->built;
  return c->built_site == site ? PTQ_OK : build(c, site, err);
}

void ptq_collected_spoil(ptq_collected *c, int site) {
  if (c->built_site == site) c->built_site = -1;
}

int64_t ptq_collected_tokens(const ptq_collected *c, int site) {
  const ptq_site kind = ptq_site_kind(site);
  return c->keeps[kind] ? ptq_kept_count(&c->kept[kind], ptq_site_expert(site))
                        : c->sums[site].n_tokens;
}

void ptq_collected_drop(ptq_collected *c, ptq_site kind) {
  ptq_kept_close(&c->kept[kind]);
  ptq_kept_close(&c->reference[kind]);
  ptq_site_moments_release(c->room.team, &c->built);
  c->built_site = -1;
}

ptq_collected_size ptq_collected_bytes(const ptq_model_info *info,
                                       ptq_room room, unsigned uses,
                                       unsigned needs, int64_t n,
                                       int64_t length) {
  ptq_collected_size size = {0};
  bool keeps[PTQ_SITE_COUNT];
  const int64_t widest_d = widest(info), one = sizeof(float);
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    const ptq_site kind = (ptq_site)k;
    const int64_t d = ptq_site_width(info, k);
    const int64_t sites = kind >= PTQ_SITE_MLP_IN ? ptq_mlp_count(info) : 1;
    const bool moments = (uses & PTQ_COLLECT_MOMENTS) != 0;
    keeps[k] = ptq_collect_keeps(info, kind, n * length);
    if (needs & PTQ_NEED_CROSS)
      size.kept[k] = keeps[k] ? ptq_kept_bytes(room, info, kind, n, length, d)
                              : ptq_kept_bytes(ptq_room_alone(room), info, kind,
                                               room.hands, length, d);
    if (keeps[k]) {
      size.kept[k] += ptq_kept_bytes(room, info, kind, n, length, d);
      size.built[k] = moments ? ptq_site_moments_bytes(needs, d) : 0;
      continue;
    }
    *(moments ? &size.fixed : &size.sums) +=
        sites * ptq_site_moments_bytes(needs, d);
    if (uses & PTQ_COLLECT_ERRORS) size.fixed += sites * d * d * one;
  }
  if (has_sums(uses, keeps))
    size.fixed += room.hands * ptq_moment_scratch(widest_d) * one;
  if (needs & PTQ_NEED_CROSS)
    size.fixed += room.hands * (widest_d + length) * widest_d * one;
  return size;
}
