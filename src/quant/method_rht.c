/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any base method on weights and inputs made incoherent by random Hadamard
 * matrices on both sides: the first half of QuIP#, for those that do without
 * the second. */
#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "turned.h"

typedef struct own_options {
  int64_t seed;
} own_options;

typedef struct rht_options {
  ptq_base_method base;
  own_options own;
} rht_options;

_Static_assert(sizeof(rht_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

static const char *const not_below[] = {"eora", "lqer", "quarot",
                                        "quip", "rht",  NULL};
static const own_options defaults = {.seed = 0};
static const ptq_option_row rows[] = {
    {"seed", PTQ_OPTION_INT, offsetof(own_options, seed), 0.0, 0x1p31, NULL},
    {NULL, PTQ_OPTION_BOOL, 0, 0.0, 0.0, NULL},
};
static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static rht_options options_of(const ptq_method *m) {
  rht_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  rht_options o = {.own = defaults};
  const ptq_status rc =
      ptq_turned_parse(m, &table, options, n, "gptq", not_below, &o.own,
                       sizeof o.own, &o.base, err);
  if (rc == PTQ_OK) memcpy(m->own.bytes, &o, sizeof o);
  return rc;
}

/* Inputs are rotated as the site's first layer says, outputs a layer. */
static ptq_status quantize_site(const ptq_method *m, const ptq_quant_input *in,
                                ptq_quant_output *out, int n, ptq_err *err) {
  const rht_options o = options_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  ptq_status rc = PTQ_OK;
  ptq_rotation inputs = {0}, *outputs = NULL;
  ptq_turn *turns = NULL;
  PTQ_TRY(ptq_alloc(&outputs, n, sizeof *outputs, "rotations", err));
  PTQ_TRY(ptq_alloc(&turns, n, sizeof *turns, "frames", err));
  PTQ_TRY(ptq_rotation_init(&inputs, in->cols, true,
                            ptq_rotation_seed(o.own.seed, in->layer, "inputs"),
                            err));
  for (int i = 0; i < n; i++) {
    PTQ_TRY(ptq_rotation_init(
        &outputs[i], in[i].rows, true,
        ptq_rotation_seed(o.own.seed, in[i].layer, "outputs"), err));
    turns[i] = (ptq_turn){.inputs = &inputs, .outputs = &outputs[i]};
  }
  PTQ_TRY(ptq_turned_quantize(&base, turns, in, out, n, err));
done:
  for (int i = 0; outputs != NULL && i < n; i++)
    ptq_rotation_release(&outputs[i]);
  ptq_rotation_release(&inputs);
  ptq_free(outputs);
  ptq_free(turns);
  return rc;
}

const ptq_method_family ptq_method_rht = {
    .name = "rht",
    .summary = "a base method on weights and inputs made incoherent by random "
               "Hadamard matrices",
    .source = "arXiv 2402.04396, its first half; the base's",
    .options_help = "base=gptq|descent|rtn|... seed=0, the base's",
    .parse = parse,
    .mode = ptq_turned_mode,
    .accepts = ptq_turned_accepts,
    .quantize_site = quantize_site,
    .flops = ptq_turned_flops,
    .bytes = ptq_turned_bytes,
};
