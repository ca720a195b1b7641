/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Time as FLOPs. What is not a product of large float32 matrices counts as the
 * FLOPs that take as long, in round numbers that were measured with whole
 * sweeps (here) and single layers (the methods' own) on one core with AVX-512:
 * this model orders work, cuts batches and predicts, and a run corrects it. */
#include "ptq/sweep/cost.h"

#include "collect.h"
#include "derivatives.h"
#include "directions.h"
#include "fisher.h"
#include "ptq/base/check.h"
#include "ptq/grad/gradient.h"
#include "ptq/grad/kronecker.h"
#include "ptq/model/forward.h"
#include "ptq/sweep/landscape.h"
#include "profile.h"
#include "sensitivity.h"

/* clang-format off */
#define RATE           50e9   /* FLOP/s of one rank */
#define READ_FLOPS     50.0   /* a byte read and converted: 1 GB/s */
#define ELEMENT_FLOPS  70.0   /* an element of a norm, activation or softmax */
#define LOGIT_FLOPS    85.0   /* a logit of a candidate: softmax and KL */
#define POINT_OVERHEAD 2e8    /* 4 ms: bootstrap, writing the rows */
#define BATCH_OVERHEAD 5e7    /* 1 ms: opening files, cutting windows */
#define EIGEN_FLOPS    4.0    /* times d^3: dsyevr, eigenvalues only; and */
#define EIGEN_SQUARE   700.0  /* times d^2 */
#define DISPLACE_FLOPS 25.0   /* a weight of a direction added to the weights */
#define GRADIENT_PASSES 3.6    /* forward passes that a gradient takes */
#define BLOCK_PASSES   3.0    /* and a block's loss with its derivatives */
#define DRAW_FLOPS     1000.0 /* a weight of a random direction: Box-Muller */
#define VECTOR_FLOPS   400.0  /* a weight of a product on its way from vector to
                                 vector: 60 bytes of memory */
#define BASIS_FLOPS    80.0   /* a weight of a vector made orthogonal, twice, to
                                 another of Lanczos' basis */
#define PACK_ROWS      10.0   /* BLAS lays out the weights anew for each window,
                                 which takes as long as so many rows */
#define RATE_ROWS      128.0  /* of the product by which rates are measured */
#define BF16_FLOPS     0.5    /* a FLOP of bfloat16, where the CPU has it */
#define ONE_THREAD     0.08   /* share of the work that one thread does alone */
/* clang-format on */

ptq_rates ptq_rates_default(void) {
  return (ptq_rates){.flops_per_s = RATE, .correction = 1.0};
}

double ptq_threads_speedup(int threads) {
  const double n = threads > 1 ? (double)threads : 1.0;
  return 1.0 / (ONE_THREAD + (1.0 - ONE_THREAD) / n);
}

double ptq_grid_speedup(const ptq_grid *g) {
  const int ranks = g->ranks > 1 ? g->ranks : 1;
  return ptq_threads_speedup(ranks * (g->threads > 1 ? g->threads : 1));
}

static const ptq_text_spec *calibration(const ptq_grid *g, int64_t subject) {
  return &g->spec->calibrations[g->subjects[subject].calibration];
}

static const ptq_text_spec *evaluation(const ptq_grid *g, int64_t subject) {
  return &g->spec->evaluations[g->subjects[subject].evaluation];
}

static double tokens(const ptq_text_spec *t) {
  return (double)t->windows * (double)t->length;
}

/* How many of a token's rows are at a kind of site: one of each of its
 * experts. */
static double rows_a_token(const ptq_model_info *info, int kind) {
  return info->n_experts > 0 && kind >= PTQ_SITE_MLP_IN
             ? (double)info->experts_used
             : 1.0;
}

/* How many there are of a kind of site in a block. */
static double sites_of(const ptq_model_info *info, int kind) {
  return kind >= PTQ_SITE_MLP_IN ? (double)ptq_mlp_count(info) : 1.0;
}

/* Elementwise work of all blocks on one window of n tokens. */
static double element_flops(const ptq_model_info *info, double n) {
  const double used = rows_a_token(info, PTQ_SITE_MLP_OUT);
  const double widths = (double)info->d_model + used * (double)info->d_ff +
                        (double)info->n_experts +
                        (used - 1.0) * (double)info->d_model;
  const double attention = n / 2.0 * (double)info->n_heads; /* causal half */
  return ELEMENT_FLOPS * n * (double)info->n_blocks * (widths + attention);
}

/* Products with windows of n rows, in those of the rate's. */
static double short_factor(int64_t n) {
  return (1.0 + PACK_ROWS / (double)n) / (1.0 + PACK_ROWS / RATE_ROWS);
}

/* What a FLOP of the forward pass's products counts. */
static double product_flops(const ptq_model_info *info) {
  return info->compute == PTQ_COMPUTE_BF16 && ptq_bf16_is_fast() ? BF16_FLOPS
                                                                 : 1.0;
}

/* Every window of a text through every block. */
static double pass_flops(const ptq_model_info *info, const ptq_text_spec *t) {
  return (double)t->windows * (short_factor(t->length) * product_flops(info) *
                                   ptq_forward_flops(info, t->length, false) +
                               element_flops(info, (double)t->length));
}

static double head_flops(const ptq_model_info *info, const ptq_text_spec *t) {
  return tokens(t) * (double)info->vocab *
         (2.0 * short_factor(t->length) * product_flops(info) *
              (double)info->d_model +
          LOGIT_FLOPS);
}

/* The requests through every block and the head, where they predict. */
static double request_flops(const ptq_grid *g, int64_t subject) {
  const ptq_model_info *info = &g->subjects[subject].info;
  const ptq_request_size *r = &g->subjects[subject].requests;
  const double rows = (double)r->rows;
  const double heads = (double)(info->n_heads * info->d_head);
  const double product = product_flops(info);
  return rows * (product * ptq_forward_flops(info, 1, false) +
                 ELEMENT_FLOPS * (double)info->n_blocks *
                     (double)(info->d_model + info->d_ff)) +
         r->pairs * (double)info->n_blocks *
             (4.0 * product * heads + ELEMENT_FLOPS * (double)info->n_heads) +
         (double)r->predicting * (double)info->vocab *
             (2.0 * product * (double)info->d_model + LOGIT_FLOPS);
}

/* Linear layers of a block that take their input at one site of a kind, a
 * token. */
static double site_flops(const ptq_model_info *info, ptq_site site) {
  double flops = 0.0;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    if (ptq_role_present(info, (ptq_role)role) &&
        ptq_role_site((ptq_role)role) == site)
      flops += 2.0 * (double)ptq_role_outputs(info, (ptq_role)role) *
               (double)ptq_role_inputs(info, (ptq_role)role);
  return flops;
}

/* Second moments of the inputs of kinds 0..last, all blocks. */
static double moment_flops(const ptq_model_info *info, const ptq_text_spec *t,
                           ptq_site last) {
  double squares = 0.0;
  for (int s = 0; s <= (int)last; s++) {
    const double d = (double)ptq_site_width(info, s);
    squares += rows_a_token(info, s) * d * d;
  }
  return tokens(t) * squares * (double)info->n_blocks;
}

/* A pass over the calibration text that ends at the input of a site, and the
 * moments of the sites on its way. */
static double collect_flops(const ptq_model_info *info, const ptq_text_spec *t,
                            ptq_site last) {
  double left_out = 0.0;
  for (int s = (int)last; s < PTQ_SITE_COUNT; s++)
    left_out += rows_a_token(info, s) * site_flops(info, (ptq_site)s);
  const double skipped =
      tokens(t) * (double)info->n_blocks * left_out * product_flops(info);
  return pass_flops(info, t) - skipped + moment_flops(info, t, last);
}

/* The unquantized model's inputs beside a point's own, and their products. */
static double cross_flops(const ptq_model_info *info, const ptq_text_spec *t,
                          ptq_calibration_mode mode) {
  double flops = 2.0 * moment_flops(info, t, PTQ_SITE_MLP_OUT);
  const int first =
      mode == PTQ_CALIB_TRUE_SEQUENTIAL ? 0 : (int)PTQ_SITE_MLP_OUT;
  for (int s = first; s < PTQ_SITE_COUNT; s++)
    flops += collect_flops(info, t, (ptq_site)s) -
             moment_flops(info, t, (ptq_site)s);
  return flops;
}

/* Attention and an MLP with a gate on their share of the calibration text, and
 * the errors of the other layers under H, as often as the method asks. */
static double module_flops(const ptq_grid *g, int64_t subject,
                           const ptq_method *m) {
  const ptq_model_info *info = &g->subjects[subject].info;
  ptq_text_spec t = *calibration(g, subject);
  if (m->family->module_evals == NULL) return 0.0;
  if (t.windows > PTQ_MODULE_WINDOWS) t.windows = PTQ_MODULE_WINDOWS;
  double flops = pass_flops(info, &t);
  if (!info->has_gate)
    flops -= tokens(&t) * (double)info->n_blocks * product_flops(info) *
             (site_flops(info, PTQ_SITE_MLP_IN) +
              site_flops(info, PTQ_SITE_MLP_OUT));
  for (int s = 0; s < PTQ_SITE_COUNT; s++)
    if (s == PTQ_SITE_ATTN_OUT || s == PTQ_SITE_MLP_OUT ||
        (s == PTQ_SITE_MLP_IN && !info->has_gate))
      flops += sites_of(info, s) * site_flops(info, (ptq_site)s) *
               (double)info->n_blocks * (double)ptq_site_width(info, s);
  return flops * m->family->module_evals(m);
}

/* The block's loss with its derivatives, and the point's own stream behind
 * it. */
static double tuning_flops(const ptq_grid *g, int64_t subject,
                           const ptq_method *m) {
  const ptq_model_info *info = &g->subjects[subject].info;
  const ptq_text_spec *t = calibration(g, subject);
  if (m->family->block_windows == NULL) return 0.0;
  const double passes =
      m->family->block_windows(m, t->windows) / (double)t->windows;
  return (1.0 + BLOCK_PASSES * passes) * pass_flops(info, t);
}

static double calibration_flops(const ptq_grid *g, int64_t subject,
                                ptq_calibration_mode mode) {
  const ptq_model_info *info = &g->subjects[subject].info;
  const ptq_text_spec *t = calibration(g, subject);
  const double advance = pass_flops(info, t);
  double flops = 0.0;
  switch (mode) {
    case PTQ_CALIB_NONE:
    case PTQ_CALIB_STATIC:
      return 0.0;
    case PTQ_CALIB_SEQUENTIAL:
      return advance + collect_flops(info, t, PTQ_SITE_MLP_OUT);
    case PTQ_CALIB_TRUE_SEQUENTIAL:
      for (int s = 0; s < PTQ_SITE_COUNT; s++)
        flops += collect_flops(info, t, (ptq_site)s);
      return advance + flops;
  }
  ptq_check_failed("a calibration mode without a cost", __FILE__, __LINE__);
}

/* One tr(E H E') of every linear layer: a product with H, or with the rows
 * where those are kept. */
static double error_flops(const ptq_model_info *info, const ptq_text_spec *t) {
  double flops = 0.0;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    const bool kept =
        ptq_collect_keeps(info, (ptq_site)s, t->windows * t->length);
    flops += site_flops(info, (ptq_site)s) *
             (kept ? rows_a_token(info, s) * tokens(t)
                   : sites_of(info, s) * (double)ptq_site_width(info, s));
  }
  return flops * (double)info->n_blocks;
}

double ptq_point_flops(const ptq_grid *g, int64_t point) {
  const ptq_point *p = &g->points[point];
  const ptq_model_info *info = &g->subjects[p->subject].info;
  const ptq_method *m = &g->spec->methods[p->method];
  const ptq_text_spec *eval = evaluation(g, p->subject);
  const ptq_calibration_mode mode = m->family->mode(m);
  double quantize = 0.0;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    if (ptq_role_present(info, (ptq_role)role))
      quantize += sites_of(info, (int)ptq_role_site((ptq_role)role)) *
                  m->family->flops(m, ptq_role_outputs(info, (ptq_role)role),
                                   ptq_role_inputs(info, (ptq_role)role));
  if (ptq_method_is_sequential(m) && (ptq_method_needs(m) & PTQ_NEED_CROSS))
    quantize += cross_flops(info, calibration(g, p->subject), mode) /
                (double)info->n_blocks;
  return POINT_OVERHEAD + quantize * (double)info->n_blocks +
         module_flops(g, p->subject, m) + tuning_flops(g, p->subject, m) +
         error_flops(info, calibration(g, p->subject)) +
         error_flops(info, &g->spec->selection) +
         calibration_flops(g, p->subject, mode) +
         pass_flops(info, &g->spec->selection) + pass_flops(info, eval) +
         head_flops(info, eval) + request_flops(g, p->subject);
}

double ptq_shared_flops(const ptq_grid *g, int64_t subject) {
  const ptq_model_info *info = &g->subjects[subject].info;
  const ptq_text_spec *calib = calibration(g, subject);
  const ptq_text_spec *select = &g->spec->selection;
  const ptq_text_spec *eval = evaluation(g, subject);
  return BATCH_OVERHEAD + READ_FLOPS * 4.0 * (double)info->params +
         pass_flops(info, calib) + pass_flops(info, select) +
         pass_flops(info, eval) + head_flops(info, eval) +
         request_flops(g, subject) +
         moment_flops(info, calib, PTQ_SITE_MLP_OUT) +
         moment_flops(info, select, PTQ_SITE_MLP_OUT) +
         error_flops(info, calib) + error_flops(info, select);
}

double ptq_subject_flops(const ptq_grid *g, int64_t subject) {
  const ptq_model_info *info = &g->subjects[subject].info;
  const ptq_text_spec *calib = calibration(g, subject);
  const ptq_text_spec *eval = evaluation(g, subject);
  double flops = BATCH_OVERHEAD + READ_FLOPS * 4.0 * (double)info->params +
                 pass_flops(info, eval) + head_flops(info, eval) +
                 request_flops(g, subject);
  if (g->spec->spectra == PTQ_SPECTRA_OFF) return flops;
  flops +=
      pass_flops(info, calib) + moment_flops(info, calib, PTQ_SITE_MLP_OUT);
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    const double d = (double)ptq_site_width(info, s);
    /* with and without the first position of each window */
    flops +=
        2.0 * (EIGEN_FLOPS * d + EIGEN_SQUARE) * d * d * (double)info->n_blocks;
  }
  return flops;
}

/* Moments of output gradients with their eigenvalues, gradients of windows. */
static double fisher_flops(const ptq_model_info *info, const ptq_text_spec *t) {
  double a_token, cubes, squares;
  ptq_fisher_work(info, &a_token, &cubes, &squares);
  return tokens(t) * a_token + EIGEN_FLOPS * cubes + EIGEN_SQUARE * squares;
}

/* What passes of derivatives do beside products, a chunk of windows: blocks are
 * read forth and back, and a weight of a direction is made, likewise twice. */
static double chunk_flops(const ptq_grid *g, int64_t direction) {
  const ptq_direction *d = &g->directions[direction];
  const ptq_model_info *info = &g->subjects[d->subject].info;
  const int64_t windows = calibration(g, d->subject)->windows;
  const double chunks =
      (double)((windows + PTQ_GRAD_CHUNK - 1) / PTQ_GRAD_CHUNK);
  const double weights = (double)info->params_quantizable;
  const double read = READ_FLOPS * 4.0 * weights;
  const ptq_landscape_spec *l = &g->spec->landscape;
  const double steps = (double)l->lanczos;
  if (d->kind == PTQ_DIRECTION_HESSIAN)
    return chunks * ptq_derivatives_passes(g, direction) *
               (2.0 * read + VECTOR_FLOPS * weights) +
           (double)l->starts * weights *
               (DRAW_FLOPS + BASIS_FLOPS * steps * steps) +
           fisher_flops(info, calibration(g, d->subject));
  const double made = d->point >= 0 ? 60.0 : DRAW_FLOPS;
  const double fisher =
      ptq_direction_displaces(d->kind) /* windows' gradients, and factors */
          ? (2.0 * tokens(calibration(g, d->subject)) +
             VECTOR_FLOPS * (double)windows) *
                    weights +
                tokens(calibration(g, d->subject)) * ptq_kronecker_flops(info) +
                2.0 * ptq_kronecker_form_flops(info)
          : 0.0;
  return chunks * 2.0 * (2.0 * read + (made + VECTOR_FLOPS) * weights) + fisher;
}

/* Streams pushed through blocks as often as their layers part, all of them
 * through the head. */
static double sensitivity_flops(const ptq_grid *g, const ptq_direction *d) {
  const ptq_model_info *info = &g->subjects[d->subject].info;
  const ptq_text_spec *eval = evaluation(g, d->subject);
  return BATCH_OVERHEAD + POINT_OVERHEAD +
         READ_FLOPS * 4.0 * (double)info->params +
         60.0 * (double)info->params_quantizable +
         ptq_sensitivity_pushes(info, d->number) / (double)info->n_blocks *
             pass_flops(info, eval) +
         (double)ptq_sensitivity_lanes(info) * head_flops(info, eval);
}

/* All lanes through blocks and head; blocks read, and the direction made, once
 * a wave, and of a displacement once before. */
double ptq_direction_flops(const ptq_grid *g, int64_t direction) {
  const ptq_direction *d = &g->directions[direction];
  const ptq_model_info *info = &g->subjects[d->subject].info;
  const ptq_text_spec *calib = calibration(g, d->subject);
  const ptq_text_spec *eval = evaluation(g, d->subject);
  const double weights = (double)info->params_quantizable;
  const bool moved = ptq_direction_displaces(d->kind);
  const bool full = g->spec->landscape.mode == PTQ_LANDSCAPE_FULL;
  ptq_direction_size n;
  ptq_direction_rows(g, direction, &n);
  if (d->kind == PTQ_DIRECTION_SENSITIVITY) return sensitivity_flops(g, d);
  double derivatives = 0.0;
  if (full)
    derivatives = ptq_derivatives_gradients(g, direction) * GRADIENT_PASSES *
                      (pass_flops(info, calib) + head_flops(info, calib)) +
                  chunk_flops(g, direction);
  if (ptq_displaced_is_needed(g, direction))
    derivatives += ptq_displaced_flops(g, direction) + pass_flops(info, calib) +
                   moment_flops(info, calib, PTQ_SITE_MLP_OUT);
  /* On one rank of the team that plans count with. */
  const double alone = ptq_grid_speedup(g) / ptq_threads_speedup(g->threads);
  if (n.steps == 0)
    return alone * (BATCH_OVERHEAD + POINT_OVERHEAD + derivatives);
  double lane = pass_flops(info, eval) + head_flops(info, eval) +
                DISPLACE_FLOPS * weights;
  if (full) lane += pass_flops(info, calib) + head_flops(info, calib);
  const double read = READ_FLOPS * 4.0 * (double)info->params +
                      (moved ? 60.0 : DRAW_FLOPS) * weights;
  const double reads = (double)ptq_profile_waves(n.steps) + (moved ? 1.0 : 0.0);
  return alone * (BATCH_OVERHEAD + POINT_OVERHEAD + derivatives + reads * read +
                  (double)n.steps * lane);
}
