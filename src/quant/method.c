/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/quant/method.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

extern const ptq_method_family ptq_method_rtn;
extern const ptq_method_family ptq_method_gptq;
extern const ptq_method_family ptq_method_gptaq;
extern const ptq_method_family ptq_method_awq;
extern const ptq_method_family ptq_method_autoround;
extern const ptq_method_family ptq_method_descent;
extern const ptq_method_family ptq_method_hqq;
extern const ptq_method_family ptq_method_lqer;
extern const ptq_method_family ptq_method_eora;
extern const ptq_method_family ptq_method_quip;
extern const ptq_method_family ptq_method_rht;
extern const ptq_method_family ptq_method_quarot;

/* clang-format off */
static const ptq_method_family *const families[] = {
    &ptq_method_rtn,
    &ptq_method_gptq,
    &ptq_method_gptaq,
    &ptq_method_awq,
    &ptq_method_autoround,
    &ptq_method_descent,
    &ptq_method_hqq,
    &ptq_method_lqer,
    &ptq_method_eora,
    &ptq_method_quip,
    &ptq_method_rht,
    &ptq_method_quarot,
    NULL,
};
/* clang-format on */

const ptq_method_family *const *ptq_method_families(void) {
  return families;
}

static ptq_status unknown_method(const char *name, ptq_err *err) {
  enum { MAX = sizeof families / sizeof families[0] };
  const char *names[MAX];
  char known[200] = "";
  size_t n = 0, len = 0;
  for (; families[n] != NULL; n++) {
    names[n] = families[n]->name;
    if (len >= sizeof known) continue;
    const int added = snprintf(known + len, sizeof known - len, "%s%s",
                               n > 0 ? ", " : "", names[n]);
    len += added > 0 ? (size_t)added : 0;
  }
  const char *near = ptq_text_nearest(name, names, n);
  return PTQ_FAIL(err, PTQ_E_ARG, "unknown method '%.40s'%s%s%s; known: %s",
                  name, near != NULL ? ", did you mean '" : "",
                  near != NULL ? near : "", near != NULL ? "'" : "", known);
}

ptq_status ptq_method_parse(const char *name, const ptq_method_option *options,
                            size_t n, ptq_method *out, ptq_err *err) {
  *out = (ptq_method){0};
  const ptq_method_family *f = NULL;
  for (int i = 0; families[i] != NULL && f == NULL; i++)
    if (strcmp(families[i]->name, name) == 0) f = families[i];
  if (f == NULL) return unknown_method(name, err);
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j < i; j++)
      if (strcmp(options[i].key, options[j].key) == 0)
        return PTQ_FAIL(err, PTQ_E_ARG,
                        "method '%s': option '%s' is given twice", name,
                        options[i].key);
  ptq_method m = {.family = f};
  snprintf(m.name, sizeof m.name, "%s", f->name);
  const ptq_status rc = f->parse(&m, options, n, err);
  if (rc == PTQ_OK) *out = m;
  return rc;
}

unsigned ptq_method_needs(const ptq_method *m) {
  return m->family->needs != NULL ? m->family->needs(m) : 0;
}

bool ptq_method_is_sequential(const ptq_method *m) {
  const ptq_calibration_mode mode = m->family->mode(m);
  return mode == PTQ_CALIB_SEQUENTIAL || mode == PTQ_CALIB_TRUE_SEQUENTIAL;
}

/* What a method counts on; a caller that forgets it has a bug. */
static void check_given(const ptq_method *m, const ptq_quant_input *in) {
  const unsigned needs = ptq_method_needs(m);
  PTQ_ASSERT(in->rows > 0 && in->cols > 0 && in->threads > 0);
  PTQ_ASSERT(in->h != NULL || m->family->mode(m) == PTQ_CALIB_NONE);
  PTQ_ASSERT(in->mean_abs != NULL || (needs & PTQ_NEED_MEAN_ABS) == 0);
  PTQ_ASSERT((in->h_train != NULL && in->h_holdout != NULL) ||
             (needs & PTQ_NEED_HOLDOUT) == 0);
  PTQ_ASSERT(in->cross != NULL || (needs & PTQ_NEED_CROSS) == 0);
  PTQ_ASSERT(in->module != NULL || (needs & PTQ_NEED_MODULE_LOSS) == 0);
}

/* What a factorization would find; elsewhere a NaN would only lose
 * comparisons, and the result would look sound. */
static ptq_status check_moments(const ptq_method *m, const ptq_quant_input *in,
                                ptq_err *err) {
  const int64_t cols = in->cols;
  const bool means = (ptq_method_needs(m) & PTQ_NEED_MEAN_ABS) != 0;
  for (int64_t i = 0; means && i < cols; i++)
    if (!isfinite(in->mean_abs[i]))
      return PTQ_FAIL(err, PTQ_E_NUMERIC,
                      "the mean magnitude of input %lld is %g; look for NaN or "
                      "Inf in the activations",
                      (long long)i, in->mean_abs[i]);
  for (int64_t i = 0; in->h != NULL && i < cols * cols; i++)
    if (!isfinite(in->h[i]))
      return PTQ_FAIL(err, PTQ_E_NUMERIC,
                      "the second moment of inputs %lld and %lld is %g; look "
                      "for NaN or Inf in the activations",
                      (long long)(i / cols), (long long)(i % cols), in->h[i]);
  return PTQ_OK;
}

static ptq_status run_prepared(const ptq_method *m, const ptq_quant_input *in,
                               ptq_quant_output *out, int n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (m->family->quantize_site != NULL)
    return m->family->quantize_site(m, in, out, n, err);
  for (int i = 0; i < n && rc == PTQ_OK; i++)
    rc = m->family->quantize(m, &in[i], &out[i], err);
  return rc;
}

/* One layer's dtype with what its groups share. */
typedef struct prepared {
  ptq_dtype dtype;
  ptq_dtype_matrix state; /* owned */
} prepared;

static ptq_status run_sharing(const ptq_method *m, const ptq_quant_input *in,
                              ptq_quant_output *out, int n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  prepared *p = NULL;
  ptq_quant_input *with = NULL;
  PTQ_TRY(ptq_alloc(&p, n, sizeof *p, "prepared formats", err));
  PTQ_TRY(ptq_alloc(&with, n, sizeof *with, "prepared layers", err));
  for (int i = 0; i < n; i++) {
    PTQ_TRY(ptq_dtype_prepare(in[i].dtype, in[i].w, in[i].rows, in[i].cols,
                              in[i].group, &p[i].state, &p[i].dtype, err));
    with[i] = in[i];
    with[i].dtype = &p[i].dtype;
  }
  PTQ_TRY(run_prepared(m, with, out, n, err));
done:
  for (int i = 0; p != NULL && i < n; i++)
    ptq_dtype_matrix_release(&p[i].state);
  ptq_free(with);
  ptq_free(p);
  return rc;
}

ptq_status ptq_method_quantize_site(const ptq_method *m,
                                    const ptq_quant_input *in,
                                    ptq_quant_output *out, int n,
                                    ptq_err *err) {
  bool shares = false;
  for (int i = 0; i < n; i++) {
    check_given(m, &in[i]);
    out[i].damp = (double)NAN;
    out[i].storage_bits = 0.0;
    out[i].extra_hash = 0;
    shares = shares || ptq_dtype_shares(in[i].dtype);
  }
  const ptq_status rc = n > 0 ? check_moments(m, &in[0], err) : PTQ_OK;
  if (rc != PTQ_OK) return rc;
  return shares ? run_sharing(m, in, out, n, err)
                : run_prepared(m, in, out, n, err);
}

ptq_status ptq_method_tune_block(const ptq_method *m, const ptq_quant_input *in,
                                 float *const *y, int n,
                                 const ptq_block_loss *loss, ptq_tuning *out,
                                 ptq_err *err) {
  PTQ_ASSERT(m->family->tune_block != NULL && n > 0 && loss->windows > 0);
  for (int i = 0; i < n; i++) out[i] = (ptq_tuning){0};
  return m->family->tune_block(m, in, y, n, loss, out, err);
}

void ptq_tuning_release(ptq_tuning *t) {
  ptq_free(t->offset);
  ptq_free(t->clip_lo);
  ptq_free(t->clip_hi);
  *t = (ptq_tuning){0};
}

ptq_status ptq_method_quantize(const ptq_method *m, const ptq_quant_input *in,
                               ptq_quant_output *out, ptq_err *err) {
  return ptq_method_quantize_site(m, in, out, 1, err);
}
